"""What each section shows: the verdict, the families, their configurations."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from torchstudy.analysis.progress import best_so_far
from torchstudy.analysis.statistics import COUNTED
from torchstudy.analysis.tables import VALID, numbers, shortfalls
from torchstudy.records import COUNTS, Status
from torchstudy.report import figures, repeats, sentences
from torchstudy.report.axes import scale_of
from torchstudy.report.bounds import within
from torchstudy.report.caveats import headline
from torchstudy.report.formats import (
    ABSENT,
    Metric,
    called,
    capital,
    counted,
    duration,
)
from torchstudy.report.readings import repeated_readings
from torchstudy.report.settings import settings, space_of, varying
from torchstudy.report.story import Story


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a section's part of the template is given, its figures, and data for the script."""

    context: dict[str, Any]
    figures: dict[str, go.Figure] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A small table under a figure: the same numbers, for reading."""

    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


def verdict(story: Story) -> Content:
    """The headline, its sentences and four tiles."""
    found = headline(story)
    tiles = repeats.tiles(story)
    return Content(
        context={
            "title": found.title,
            "sentences": (*found.sentences, *within(story), *repeated_readings(story)),
            "standing": sentences.standing(story),
            "tiles": tiles
            or [_score_tile(story), _lead_tile(story), _trials_tile(story), _time(story)],
        }
    )


def families(story: Story) -> Content:
    """Scores over searches and over fresh seeds, and the best value so far against seconds."""
    drawn: dict[str, go.Figure] = {}
    context: dict[str, Any] = {"scores": None, "spent": None, "unsure": sentences.UNSURE}
    context["searched"] = repeats.searched(story)
    if context["searched"]:
        drawn["searched"] = repeats.figure(story)
    if not story.scores.empty:
        values = story.selected.set_index("family")["value"]
        table = story.scores.assign(promised=story.scores["family"].map(values).astype("float64"))
        drawn["forest"] = figures.forest(table, story.metric, story.looks)
        context["scores"] = _scores_table(story, table)
        context["promise"] = sentences.promise(story)
        context["seeds"] = counted(int(story.scores["seeds"].max()), "fresh seed")
    progress = best_so_far(story.trials, story.objective, story.results.bounds)
    if progress["best"].notna().any():
        scale = scale_of(story.metric, story.split_size("valid"))
        drawn["spent"] = figures.spent(progress, scale, story.looks)
        context["spent"] = [
            sentences.improvement(family, progress[progress["family"] == family], story.metric)
            for family in story.results.families
            if (progress["family"] == family).any()
        ]
    return Content(context=context, figures=drawn)


def configurations(story: Story) -> Content:
    """A card per family: the configuration to use against the family's own recipe."""
    cards = [_card(story, row) for row in story.selected.to_dict("records")]
    missing = [name for name in story.results.families if name not in set(story.selected["family"])]
    return Content(context={"cards": cards, "missing": sentences.uncompleted(missing)})


def _score_tile(story: Story) -> dict[str, str]:
    if not story.scores.empty:
        row = story.scores.iloc[0]
        note = sentences.uncertainty(row, story.metric, story.noun)
        value = story.metric.score(row["mean"])
        return {"label": capital(story.metric.on("test")), "value": value, "note": note}
    label = capital(story.metric.on("best validation"))
    if story.best.empty:
        return {"label": label, "value": ABSENT, "note": "no trial has completed"}
    row = story.best.iloc[0]
    note = f"{called(row['family'])}, trial {row['trial']}"
    note += "" if story.metric.name in COUNTS else "; optimistic"
    return {"label": label, "value": story.metric.score(row["value"]), "note": note}


def _lead_tile(story: Story) -> dict[str, str]:
    metric = story.metric
    if story.differences:
        found = story.differences[0]
        known = found.low == found.low and found.basis != COUNTED
        interval = f"95% interval {metric.bound(found.low)} to {metric.bound(found.high)}"
        why = "counted" if found.basis == COUNTED else "no interval from one seed"
        note = f"over {called(found.b)}; {interval if known else why}"
        value = metric.difference(found.difference)
        return {"label": "Lead over the next family", "value": value, "note": note}
    label = "Gain over the recipe"
    if story.selected.empty:
        return {"label": label, "value": ABSENT, "note": "nothing to compare"}
    row = story.selected.iloc[0]
    gain = story.objective.sign * (row["value"] - row["recipe_value"])
    return {
        "label": label,
        "value": metric.difference(gain),
        "note": _gain_note(str(row["family"]), int(row["trial"]), gain, story),
    }


def _gain_note(family: str, trial: int, gain: float, story: Story) -> str:
    recipe = story.recipe(family)
    if recipe is None:
        return f"{called(family)}: its recipe was left out"
    if trial == recipe:
        return f"{called(family)}'s own recipe is the best so far"
    return f"{called(family)}, on validation" if gain == gain else "its recipe has no value"


def _trials_tile(story: Story) -> dict[str, str]:
    counts = story.status_counts
    completed = counts.get(Status.COMPLETED, 0)
    rest = len(story.trials) - completed - story.num_failed
    note = f"{completed} completed, {rest} stopped or unfinished, {story.num_failed} failed"
    return {"label": "Trials", "value": f"{len(story.trials):,}", "note": note}


def _time(story: Story) -> dict[str, str]:
    search = float(story.trials["seconds"].sum())
    fresh = float(story.results.confirmation["seconds"].sum())
    note = f"{duration(search)} search, {duration(fresh)} confirmation"
    if not fresh:
        note = f"{duration(search)} search, no confirmation"
    return {"label": "Training time", "value": duration(search + fresh), "note": note}


def _scores_table(story: Story, scores: pd.DataFrame) -> Table:
    behind = {found.b: sentences.lead(found, story.metric) for found in story.differences}
    return Table(
        head=(
            "Family",
            "Trial",
            "Fresh seeds",
            "Test mean",
            "95% interval",
            "Validation",
            "Behind",
        ),
        rows=[
            (
                called(row["family"]),
                str(row["trial"]),
                str(row["seeds"]),
                story.metric.score(row["mean"], 2),
                COUNTED if row["basis"] == COUNTED else story.metric.span(row["low"], row["high"]),
                story.metric.score(row["promised"], 2),
                behind.get(row["family"], ABSENT),
            )
            for row in scores.to_dict("records")
        ],
    )


def _card(story: Story, row: dict[Hashable, Any]) -> dict[str, Any]:
    family, metric = row["family"], story.metric
    own = story.trials[story.trials["family"] == family]
    trial = own[own["trial"] == row["trial"]].iloc[0]
    confirmed = story.scores[story.scores["family"] == family]
    gain = story.objective.sign * (row["value"] - row["recipe_value"])
    if len(confirmed):
        score, note = metric.score(confirmed.iloc[0]["mean"]), metric.on("test")
        note += f", {sentences.uncertainty(confirmed.iloc[0], metric, story.noun)}"
    else:
        score = metric.score(row["value"])
        note = f"{metric.on('best validation')}, not confirmed"
    declared = (story.results.summary["families"].get(family) or {}).get("description", "")
    return {
        "family": called(family),
        "look": story.looks[family],
        "description": declared,
        "score": score,
        "note": note,
        "trial": row["trial"],
        "gain": _gain(family, row["trial"], gain, row["recipe_value"], story),
        "settings": settings(story, family, row["config"]),
        "num_fixed": len(space_of(story, family).keys() - set(varying(story, family))),
        "measured": _measured(story, trial),
    }


def _gain(family: str, trial: int, gain: float, recipe: float, story: Story) -> str:
    own = story.recipe(family)
    if own is None:
        return "There is nothing to compare it with: its recipe was left out."
    if trial == own:
        return "The family's own recipe is the chosen configuration."
    if gain != gain:
        return "On validation it cannot be compared with its own recipe: one has no value."
    metric = story.metric
    side = "better than" if gain >= 0 else "worse than"
    than = f"{metric.difference(abs(gain))} {side} its own recipe"
    missed = " but misses a bound" if _misses(story, family, own) else ""
    if story.objective.metric in COUNTS:
        return f"{than}, which has {metric.score(recipe)}{missed}."
    return f"On validation {than}, which reached {metric.score(recipe)}{missed}."


def _misses(story: Story, family: str, trial: int) -> bool:
    """Whether a trial does not keep within what the study asks of other metrics."""
    is_it = story.trials["family"].eq(family) & story.trials["trial"].eq(trial)
    own = story.trials[is_it.fillna(False).astype(bool)]
    return bool((shortfalls(own, story.results.bounds) > 0).any())


def _measured(story: Story, trial: "pd.Series[Any]") -> list[tuple[str, str]]:
    """Validation numbers of the search's training that are shown but never ranked."""
    best = story.metric.on("validation") + ("" if story.metric.is_cost else ", best epoch")
    found = [(best, story.metric.score(_value(story, trial), 2))]
    for column in (str(name) for name in trial.index if str(name).startswith(VALID)):
        name = column.removeprefix(VALID)
        if name != story.metric.name and pd.notna(trial[column]):
            metric = Metric(name=name)
            found.append((metric.on("validation"), metric.score(float(trial[column]), 2)))
    if pd.notna(trial["parameters"]) and story.metric.name != "parameters":
        found.append(("parameters", f"{int(trial['parameters']):,}"))
    found.append(("training time", duration(float(trial["seconds"]))))
    return found


def _value(story: Story, trial: "pd.Series[Any]") -> float:
    return float(numbers(trial.to_frame().T, f"best_{VALID}{story.metric.name}").iloc[0])
