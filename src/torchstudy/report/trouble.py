"""What the section on trouble shows: trials that failed and why, trainings that ail."""

from typing import Any

import pandas as pd

from torchstudy.analysis.diagnosis import CRASHED, diagnoses
from torchstudy.analysis.failures import failure_reasons, outcome_counts
from torchstudy.records import Status
from torchstudy.report import figures, sentences
from torchstudy.report.formats import called, capital, counted, shortened
from torchstudy.report.looks import status_words
from torchstudy.report.sections import Content, Table
from torchstudy.report.story import Story

TEXT_LIMIT = 400  # characters of one reason on the page; the tables hold all
REMEDY = ": try "  # where a diagnosis turns from what is seen to what may help


def failures(story: Story) -> Content:
    """How trials ended, why some failed, and what ails trainings."""
    counts = outcome_counts(story.trials)
    tried = [name for name in story.results.families if name in set(counts["family"])]
    drawn = {"outcomes": figures.outcomes(counts, tried)} if tried else {}
    table = Table(
        head=("Family", "Outcome", "Trials"),
        rows=[
            (called(row["family"]), status_words(row["status"]), str(row["n"]))
            for row in counts.to_dict("records")
        ],
    )
    said = [sentences.failed(story), sentences.failed_fresh(story), _way_on(story), _again(story)]
    context = {
        "sentences": [one for one in said if one],
        "reasons": _reasons(story),
        "table": table,
        "health": _health(story),
    }
    return Content(context=context, figures=drawn)


def _way_on(story: Story) -> str:
    """How what crashed is trained again; empty where nothing did."""
    ended = pd.concat([story.trials["status"], story.results.confirmation["status"]])
    if not ended.eq(Status.CRASHED.value).any():
        return ""
    study = called(str(story.results.summary["study"]))
    return (
        f'Once the cause is mended, "optimize run {study} --retry-crashed" trains what crashed '
        "again."
    )


def _again(story: Story) -> str:
    """How many trainings crashed at first and began again; empty where none did."""
    attempts = story.results.attempts
    if attempts.empty:
        return ""
    count = len(attempts.drop_duplicates(["family", "trial", "seed", "purpose"]))
    return (
        f"{counted(count, 'training')} crashed at first and {'was' if count == 1 else 'were'} "
        "begun again; attempts.csv says what had gone wrong."
    )


def _reasons(story: Story) -> list[dict[str, Any]]:
    return [
        {
            "family": called(row["family"]),
            "look": story.looks[row["family"]],
            "status": status_words(row["status"]),
            "n": counted(int(row["n"]), "trial"),
            "tried": int(row["tried"]),
            "reason": shortened(row["reason"], TEXT_LIMIT) or "no reason was recorded",
            "trials": shortened(", ".join(str(number) for number in row["trials"]), 80),
            "region": sentences.region(row),
        }
        for row in failure_reasons(story.trials).to_dict("records")
    ]


def _health(story: Story) -> dict[str, Any]:
    """What ails the trainings, one entry per ailment and remedy, the most frequent first."""
    found = diagnoses(story.trials, story.results.epochs)
    found = found[found["name"] != CRASHED]  # those are among the reasons of failures
    trained = _trainings(story)
    total = sum(trained.values())
    if not total:
        return {"verdict": "", "ailments": []}
    if found.empty:
        return {"verdict": "No training shows signs of ill health.", "ailments": []}
    parts = pd.DataFrame([_parts(str(sentence)) for sentence in found["sentence"]])
    table = pd.concat([found.reset_index(drop=True), parts], axis=1)
    groups = [own for _, own in table.groupby(["name", "remedy"], sort=False)]
    groups.sort(key=len, reverse=True)
    ill = f"{len(found)} of {counted(total, 'training')} {'shows' if len(found) == 1 else 'show'}"
    ailments = [_ailment(story, own, trained) for own in groups]
    return {"verdict": f"{ill} signs of ill health.", "ailments": ailments}


def _ailment(story: Story, own: pd.DataFrame, trained: dict[str, int]) -> dict[str, Any]:
    first = own.iloc[0]
    families = [
        {
            "family": called(family),
            "look": story.looks[str(family)],
            "n": f"{len(part)} of {counted(trained[str(family)], 'training')}",
            "trials": _numbered(list(dict.fromkeys(part["trial"]))),
        }
        for family, part in own.groupby("family", sort=False)
    ]
    return {
        "name": capital(str(first["name"]).replace("_", " ")),
        "n": counted(len(own), "training"),
        "example": f"{called(first['family'])}, trial {first['trial']}",
        "seen": shortened(first["seen"], TEXT_LIMIT),
        "remedy": shortened(first["remedy"], TEXT_LIMIT),
        "families": families,
    }


def _numbered(trials: list[int]) -> str:
    """`trial 3`, or `trials 0, 1, 7`."""
    word = "trial" if len(trials) == 1 else "trials"
    return f"{word} {shortened(', '.join(map(str, trials)), 80)}"


def _parts(sentence: str) -> dict[str, str]:
    """What was seen, and what may help (empty if the sentence names nothing)."""
    seen, colon, remedy = sentence.rpartition(REMEDY)
    return {"seen": seen, "remedy": remedy} if colon else {"seen": sentence, "remedy": ""}


def _trainings(story: Story) -> dict[str, int]:
    """How many trainings each family has, of the search and fresh ones."""
    keys = ["family", "trial", "seed"]
    every = pd.concat([story.trials[keys], story.results.confirmation[keys]]).drop_duplicates()
    return {str(family): int(n) for family, n in every.groupby("family").size().items()}
