"""What the command prints about studies, read from the ledger; no study file is executed."""

import ast
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torchstudy.errors import StudyError, brief, did_you_mean
from torchstudy.execution.confirm import chosen_number, ranked
from torchstudy.execution.ledger import Ledger, StudyState
from torchstudy.execution.repeats_table import mean_over_searches, searches_of
from torchstudy.records import (
    COSTS,
    Bound,
    Objective,
    Status,
    Training,
    TrainingKey,
    bounds_in,
    objectives_in,
)
from torchstudy.repeats import repeat_of, repeat_title, repeat_words
from torchstudy.report.formats import Metric, metric_of
from torchstudy.report.predicted import Quantity
from torchstudy.stored import described_studies, find_study, reading

NONE = "-"


def study_lines(reports: Path, storage: str | None) -> list[list[str]]:
    """One line per study file or stored study.

    Name, state, searches, trials of all of them, the best of the first, first line about it.
    """
    from torchstudy.study_files import study_files

    with reading(reports, storage) as ledger:
        stored = {state.name: _standing(ledger, state) for state in described_studies(ledger)}
    about = {name: _first_line(path) for name, path in study_files().items()}
    return [
        [name, *stored.get(name, ("not run", "", "", "")), about.get(name, "")]
        for name in sorted(stored.keys() | about.keys())
    ]


def status_lines(
    reports: Path, storage: str | None, study: str | None, repeat: int | None = None
) -> list[tuple[str, list[list[str]]]]:
    """For each study, and each repeat of it or the one that is asked for, a title and one line per
    family.
    """
    if repeat is not None and study is None:
        raise StudyError(f"--repeat {repeat} says which search of a study; name the study as well")
    with reading(reports, storage) as opened:
        states = [find_study(opened, reports, study)[1]] if study else described_studies(opened)
        if opened is None or not states:
            raise StudyError(f"no study has been run yet (no results in {reports})")
        searches = {state.name: searches_of(opened, state.name) for state in states}
        wanted = (
            None
            if study is None or repeat is None
            else (find_study(opened, reports, study, repeat)[1].name)
        )
        return [
            _status(opened, each, len(own))
            for own in searches.values()
            for each in own
            if wanted in (None, each.name)
        ]


def best_models(
    reports: Path,
    storage: str | None,
    study: str,
    family: str | None,
    repeat: int | None = None,
) -> list[dict[str, Any]]:
    """For each family its chosen (else best) trial: config, scores and the model's folder.

    Of several searches the one of the number `repeat`; without a number the first, and the mean
    test score over all. The best of them is no better choice: scores of searches differ by luck.
    """
    with reading(reports, storage) as opened:
        ledger, state = find_study(opened, reports, study, repeat)
        trainings = ledger.trainings(state.name)
        families = list(state.summary["families"])
        over_all = {name: mean_over_searches(ledger, state, name) for name in families}
        means = over_all if repeat is None else dict.fromkeys(families)
        name, number = repeat_of(state.name)
        place = {"repeat": number, "searches": len(searches_of(ledger, name))}
    if family is not None and family not in families:
        hint = did_you_mean(family, families)
        raise StudyError(
            f"study {name!r} has no family {family!r}{hint}; it has {', '.join(families)}"
        )
    found = [
        {**entry, **place}
        for own in ([family] if family else families)
        if (entry := _best_entry(reports / state.name, trainings, own, state)) is not None
    ]
    for entry in found:
        if over := means[entry["family"]]:
            score = f"test {_objective(state).metric} (mean of {over[1]} searches)"
            entry["scores"][score] = round(over[0], 4)
    if not found:
        title = repeat_title(repr(name), number)
        whose = f"family {family!r} of study {title}" if family else f"study {title}"
        raise StudyError(f"{whose} has no finished trial yet")
    return found


def score_text(name: str, value: float) -> str:
    """A score of `best_models` for eyes: `test R\u00b2 0.9384 (mean of 3 seeds)`."""
    split, _, rest = name.partition(" ")
    metric, _, over = rest.partition(" ")
    return f"{Metric(name=metric).measured(split, value)} {over}".rstrip()


def _standing(ledger: Ledger | None, state: StudyState) -> tuple[str, str, str, str]:
    """State, number of searches and of trials in all, and the first one's best value."""
    assert ledger is not None
    first, *others = [
        ledger.trainings(search.name, "search") for search in searches_of(ledger, state.name)
    ]
    best = _best_text(first, state, with_family=True)
    which = " in the first search" if others and best != NONE else ""
    count = sum(map(len, [first, *others]))
    return _state(state), str(1 + len(others)), str(count), f"{best}{which}"


def _best_entry(
    folder: Path, trainings: Sequence[Training], family: str, state: StudyState
) -> dict[str, Any] | None:
    """The chosen (else best) trial of one family; None without a completed one."""
    objective, bounds = _objective(state), bounds_in(state.summary)
    own = [training for training in trainings if training.trial.family == family]
    confirmed = [training for training in own if training.purpose == "confirmation"]
    number = chosen_number(confirmed, objective, bounds) if _all_ended(confirmed) else None
    best = _best([t for t in own if t.purpose == "search"], objective, bounds, number)
    if best is None:
        return None
    fresh = [t for t in confirmed if t.trial.number == number]
    model = folder / "best" / family
    shown = [*objectives_in(state.summary), *(bound.objective for bound in bounds)]
    return {
        "family": family,
        "trial": best.trial.number,
        "config": dict(best.trial.config),
        "scores": _scores(best, fresh, shown),
        "unit": Quantity.of(state.summary).of_scores,
        "model": str(model) if model.exists() else None,
    }


def _first_line(path: Path) -> str:
    try:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    except (SyntaxError, ValueError, OSError):
        return "(the file cannot be read)"
    return text.partition("\n")[0]


def _state(state: StudyState) -> str:
    if state.owner is None:
        return "stopped on an error" if state.error else state.state
    return "interrupted" if state.owner.is_gone else "running"


def _whereabouts(state: StudyState) -> str:
    """Where a run that cannot be seen from here was last heard of; empty for any other."""
    if state.owner is None or state.owner.is_in_sight:
        return ""
    heard = f", last heard of at {state.seen[:19]} UTC" if state.seen else ""
    return f" on {state.owner.host}{heard}"


def _objective(state: StudyState) -> Objective:
    return Objective(**state.summary["objective"])


def _status(ledger: Ledger, state: StudyState, begun: int) -> tuple[str, list[list[str]]]:
    """Title and lines of one search of a study of which so many have begun."""
    trainings = ledger.trainings(state.name)
    epochs = ledger.last_epochs(state.name)
    budget = state.summary["budget"]
    is_live = _state(state) == "running"
    lines = []
    for family in state.summary["families"]:
        own = [t for t in trainings if t.trial.family == family]
        searched = [t for t in own if t.purpose == "search"]
        confirmed = [t for t in own if t.purpose == "confirmation"]
        training = [t for t in own if t.status is Status.RUNNING]
        resting = [t for t in searched if t.is_resting(budget["epochs"])]
        waiting = [t for t in own if t.status is Status.PAUSED and t not in resting]
        unended = [t for t in searched if not t.status.is_final and t not in resting]
        lines.append(
            [
                family,
                f"{len(searched) - len(unended)}/{budget['trials']}",
                _under_way(training if is_live else [], epochs, budget["epochs"]),
                _under_way(waiting if is_live else training + waiting, epochs, budget["epochs"]),
                str(sum(t.status.is_failure for t in own)),
                str(sum(t.status is Status.COMPLETED for t in confirmed)),
                f"{sum(t.seconds for t in own):.0f} s",
                _best_text(searched, state, with_family=False),
            ]
        )
    name, number = repeat_of(state.name)
    repeats = max(begun, budget.get("repeats", 1))
    standing = _state(state)
    place = repeat_words(begun, repeats) if number == 1 else ""
    if place and standing == "finished":
        place = f", the first of {repeats} searches"
    why = f": {brief(state.error)}" if state.error and state.owner is None else ""
    return f"{repeat_title(name, number)}: {standing}{place}{_whereabouts(state)}{why}", lines


def _under_way(trainings: Sequence[Training], epochs: Mapping[TrainingKey, int], last: int) -> str:
    """`#3 epoch 7/27` for each training."""
    shown = [f"#{t.trial.number} epoch {epochs.get(t.key, 0)}/{last}" for t in trainings]
    return ", ".join(shown) or NONE


def _all_ended(trainings: Sequence[Training]) -> bool:
    return bool(trainings) and all(training.status.is_final for training in trainings)


def _best(
    searched: Sequence[Training],
    objective: Objective,
    bounds: Sequence[Bound],
    number: int | None = None,
) -> Training | None:
    """The trial `number`, else the completed trial with the best valid score."""
    if number is not None:
        return next(training for training in searched if training.trial.number == number)
    return next(iter(ranked(searched, objective, bounds)), None)


def _best_text(searched: Sequence[Training], state: StudyState, *, with_family: bool) -> str:
    objective = _objective(state)
    best = _best(searched, objective, bounds_in(state.summary)) or _best_so_far(searched, objective)
    if best is None:
        return NONE
    family = f"{best.trial.family} " if with_family else ""
    reached = metric_of(objective).measured("valid", best.valid(objective))
    return f"{reached} ({family}#{best.trial.number})"


def _best_so_far(searched: Sequence[Training], objective: Objective) -> Training | None:
    """The best of the trials that have a value, while none has come to its end."""
    known = [t for t in searched if math.isfinite(t.valid(objective)) and not t.status.is_failure]
    return max(known, key=lambda t: objective.sign * t.valid(objective), default=None)


def _scores(
    best: Training, fresh: Sequence[Training], objectives: Sequence[Objective]
) -> dict[str, float]:
    """What the trial has of each objective in the search, and its fresh seeds on test."""
    scores = {}
    for objective in objectives:
        scores[f"valid {objective.metric}"] = round(best.valid(objective), 4)
        tests = [t.metrics[f"test_{objective.metric}"] for t in fresh if _is_tested(t, objective)]
        if tests and objective.metric not in COSTS:
            mean = sum(tests) / len(tests)
            seeds = f"mean of {len(tests)} seeds" if len(tests) > 1 else "1 seed"
            scores[f"test {objective.metric} ({seeds})"] = round(mean, 4)
    return scores


def _is_tested(training: Training, objective: Objective) -> bool:
    return f"test_{objective.metric}" in training.metrics
