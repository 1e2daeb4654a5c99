"""What the command prints about studies, read from the ledger; no study file is executed."""

import ast
import gc
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchstudy.errors import StudyError, did_you_mean
from torchstudy.execution.confirm import chosen_number, ranked
from torchstudy.execution.ledger import Ledger, StudyState
from torchstudy.execution.repeats_table import mean_over_searches, searches_of
from torchstudy.records import COUNTS, Bound, Objective, Status, Training, TrainingKey, bounds_in
from torchstudy.repeats import repeat_of
from torchstudy.stored import described_studies, find_study, reading, writing
from torchstudy.visible import on_one_line

if TYPE_CHECKING:
    import pandas as pd

    from torchstudy.analysis.tables import Results

MAX_COLUMN = 40  # letters of a cell in a printed table
SCORES = ("best_valid_", "valid_", "select_", "test_")  # columns that are shown early
GAP = 3  # letters between two columns
AFTER_SCORES = ("pending", "reason", "origin", "chosen", "seconds")


def study_lines(reports: Path, storage: str | None) -> list[list[str]]:
    """One line per study file or stored study: name, state, trials, best, first line about it."""
    from torchstudy.study_files import study_files

    with reading(reports, storage) as ledger:
        stored = {state.name: _standing(ledger, state) for state in described_studies(ledger)}
    about = {name: _first_line(path) for name, path in study_files().items()}
    return [
        [name, *stored.get(name, ("not run", "", "")), about.get(name, "")]
        for name in sorted(stored.keys() | about.keys())
    ]


def status_lines(
    reports: Path, storage: str | None, study: str | None
) -> list[tuple[str, list[list[str]]]]:
    """For each study, and each repeat of it, a title and one line per family."""
    with reading(reports, storage) as opened:
        states = [find_study(opened, reports, study)[1]] if study else described_studies(opened)
        if opened is None or not states:
            raise StudyError(f"no study has been run yet (no results in {reports})")
        searches = {state.name: searches_of(opened, state.name) for state in states}
        return [_status(opened, each, len(own)) for own in searches.values() for each in own]


def study_table(reports: Path, storage: str | None, study: str, what: str) -> "pd.DataFrame":
    """One of the tables of a study as it stands in the ledger."""
    from torchstudy.execution.outputs import tables

    with reading(reports, storage) as opened:
        ledger, state = find_study(opened, reports, study)
        return tables(ledger, state, [what])[what]


def exported(table: "pd.DataFrame", format: str) -> bytes:
    """A table as the bytes of a csv, json (records) or parquet file."""
    if format == "csv":
        from torchstudy.spreadsheets import as_csv

        return as_csv(table).encode()
    if format == "json":
        records = json.loads(str(table.to_json(orient="records", date_format="iso")))
        return (json.dumps(records, indent=2) + "\n").encode()
    parquet = table.to_parquet(index=False)
    assert isinstance(parquet, bytes)
    return parquet


def frame_lines(table: "pd.DataFrame", width: int) -> tuple[list[str], list[list[str]], list[str]]:
    """Header and cells of a table for `width` letters, and the columns there is no room for.

    Scores come early; columns that are empty are left out.
    """
    shown = table.drop(columns=["study", "worker", "started"], errors="ignore")
    names = [name for name in shown.columns if not name.startswith(SCORES)]
    place = next((i for i, name in enumerate(names) if _is_after_scores(name)), len(names))
    scores = [name for name in shown.columns if name.startswith(SCORES)]
    scores.sort(key=lambda name: not name.startswith("best_"))
    columns = [
        [str(name).removeprefix("config."), *map(_cell, shown[name])]
        for name in [*names[:place], *scores, *names[place:]]
    ]
    columns = [column for column in columns if set(column[1:]) - {"", "-"}]
    ends = itertools.accumulate(max(map(len, column)) + GAP for column in columns)
    room = max(1, sum(end <= width + GAP for end in ends))
    header, *rows = zip(*columns[:room], strict=True) if columns else ((),)
    return list(header), [list(row) for row in rows], [column[0] for column in columns[room:]]


def _is_after_scores(name: str) -> bool:
    return name in AFTER_SCORES or name.startswith("config.")


def best_models(
    reports: Path, storage: str | None, study: str, family: str | None
) -> list[dict[str, Any]]:
    """For each family its chosen (else best) trial: config, scores and the model's folder."""
    with reading(reports, storage) as opened:
        ledger, state = find_study(opened, reports, study)
        trainings = ledger.trainings(state.name)
        families = list(state.summary["families"])
        means = {name: mean_over_searches(ledger, state, name) for name in families}
    if family is not None and family not in families:
        hint = did_you_mean(family, families)
        raise StudyError(
            f"study {state.name!r} has no family {family!r}{hint}; it has {', '.join(families)}"
        )
    found = [
        entry
        for name in ([family] if family else families)
        if (entry := _best_entry(reports / state.name, trainings, name, state)) is not None
    ]
    for entry in found:
        if over := means[entry["family"]]:
            name = f"test {_objective(state).metric} (mean of {over[1]} searches)"
            entry["scores"][name] = round(over[0], 4)
    if not found:
        whose = f"family {family!r} of study {state.name!r}" if family else f"study {state.name!r}"
        raise StudyError(f"{whose} has no finished trial yet")
    return found


def redraw_report(reports: Path, storage: str | None, study: str, out: Path | None) -> Path:
    """Write tables and report from the ledger again; the report's path."""
    from torchstudy.execution.outputs import write_tables
    from torchstudy.report.page import write_report

    with _uncollected():
        with reading(reports, storage) as opened:
            ledger, state = find_study(opened, reports, study)
            folder = reports / state.name
            with writing(folder):
                write_tables(ledger, state, folder)
        with writing(out or folder):
            return write_report(folder, out)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without Python's search for cycles: it would look at half a million rows again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def summary_lines(results: "Results") -> list[str]:
    """The end of a run in a few lines: verdict, families, and where the report lies."""
    from torchstudy.report.bounds import within
    from torchstudy.report.formats import counted
    from torchstudy.report.readings import repeated_readings
    from torchstudy.report.repeats import verdict
    from torchstudy.report.story import Story

    story = Story(results)
    said = verdict(story)
    lines = ["", said.title, *said.sentences, *within(story), *repeated_readings(story), ""]
    repeated = story.searches.to_dict("records")
    for row in repeated or story.scores.to_dict("records"):
        of = f"{row['searches']} searches" if repeated else f"trial {row['trial']}"
        lines.append(
            f"  {row['family']:<20} {_with_interval(row, results.objective.metric)}  "
            f"{of}, {counted(row['seeds'], 'seed')}"
        )
    if len(results.objectives) > 1:
        lines += ["", *_traded_off(results)]
    folder = results.folder
    models = [f"models: {folder / 'best'}"] if (folder / "best").is_dir() else []
    return [*lines, "", f"report: {folder / 'report.html'}", *models]


def _with_interval(row: Mapping[Any, Any], metric: str) -> str:
    """A score on test, or what a network costs."""
    if metric in COUNTS:
        return f"{metric} {row['mean']:,.0f}"
    interval = f" [{row['low']:.4f}, {row['high']:.4f}]" if row["low"] == row["low"] else ""
    return f"test {metric} {row['mean']:.4f}{interval}"


def _traded_off(results: "Results") -> Iterator[str]:
    """How many trials no other beats in every objective, and where they are listed."""
    from torchstudy.analysis.front import front

    names = " and ".join(f"{each.direction} {each.metric}" for each in results.objectives)
    count, study = len(front(results)), results.summary["study"]
    are = "trial is" if count == 1 else "trials are"
    yield f"{count} {are} beaten by no other ({names}): optimize table {study} --what front"


def _standing(ledger: Ledger | None, state: StudyState) -> tuple[str, str, str]:
    """State, number of trials and best value of a stored study."""
    assert ledger is not None
    searched = ledger.trainings(state.name, "search")
    best = _best_text(searched, state, with_family=True)
    return _state(state), str(len(searched)), best


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
    return {
        "family": family,
        "trial": best.trial.number,
        "config": dict(best.trial.config),
        "scores": _scores(best, fresh, objective),
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
        return state.state
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
    title = name if number == 1 else f"{name}, repeat {number}"
    place = f", repeat {begun} of {repeats}" if number == 1 < repeats else ""
    return f"{title}: {_state(state)}{place}{_whereabouts(state)}", lines


def _under_way(trainings: Sequence[Training], epochs: Mapping[TrainingKey, int], last: int) -> str:
    """`#3 epoch 7/27` for each training."""
    shown = [f"#{t.trial.number} epoch {epochs.get(t.key, 0)}/{last}" for t in trainings]
    return ", ".join(shown) or "-"


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
        return "-"
    family = f"{best.trial.family} " if with_family else ""
    return f"valid {objective.metric} {best.valid(objective):.4f} ({family}#{best.trial.number})"


def _best_so_far(searched: Sequence[Training], objective: Objective) -> Training | None:
    """The best of the trials that have a value, while none has come to its end."""
    known = [t for t in searched if math.isfinite(t.valid(objective)) and not t.status.is_failure]
    return max(known, key=lambda t: objective.sign * t.valid(objective), default=None)


def _scores(
    best: Training, fresh: Sequence[Training], objective: Objective
) -> dict[str, float | list[float]]:
    scores: dict[str, float | list[float]] = {
        f"valid {objective.metric}": round(best.valid(objective), 4)
    }
    tests = [t.metrics[f"test_{objective.metric}"] for t in fresh if _is_tested(t, objective)]
    if tests:
        scores[f"test {objective.metric} (mean of {len(tests)} seeds)"] = round(
            sum(tests) / len(tests), 4
        )
    return scores


def _is_tested(training: Training, objective: Objective) -> bool:
    return f"test_{objective.metric}" in training.metrics


def _cell(value: object) -> str:
    import pandas as pd

    if pd.isna(value):  # type: ignore[call-overload]  # every cell is a scalar
        return "-"
    if isinstance(value, pd.Timestamp):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    line = on_one_line(text.strip().rpartition("\n")[2])
    return line if len(line) <= MAX_COLUMN else line[: MAX_COLUMN - 1] + "…"
