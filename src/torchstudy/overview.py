"""What the command prints about studies, read from the ledger; no study file is executed."""

import ast
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchstudy.domains import kind_of, spelled
from torchstudy.errors import StudyError, did_you_mean
from torchstudy.execution.ledger import Ledger, StudyState
from torchstudy.records import Objective, Status, Training
from torchstudy.study_files import study_files

if TYPE_CHECKING:
    import pandas as pd

    from torchstudy.analysis.tables import Results
    from torchstudy.families.base import Family
    from torchstudy.study import Study

MAX_COLUMN = 40  # letters of a cell in a printed table


def open_ledger(reports: Path, storage: str | None) -> Ledger | None:
    """The ledger, or None where none was ever written."""
    if storage is None:
        path = reports / "studies.sqlite"
        if not path.exists():
            return None
        storage = f"sqlite:///{path}"
    return Ledger(storage)


def study_lines(reports: Path, storage: str | None) -> list[list[str]]:
    """One line per study file or stored study: name, state, trials, best, first line about it."""
    ledger = open_ledger(reports, storage)
    stored = {state.name: state for state in ledger.studies()} if ledger else {}
    about = {name: _first_line(path) for name, path in study_files().items()}
    lines = []
    for name in sorted(stored.keys() | about.keys()):
        if name in stored and ledger is not None and stored[name].summary:
            searched = ledger.trainings(name, "search")
            objective = _objective(stored[name])
            best = _best_text(searched, objective, with_family=True)
            lines.append(
                [name, _state(stored[name]), str(len(searched)), best, about.get(name, "")]
            )
        else:
            lines.append([name, "not run", "", "", about.get(name, "")])
    return lines


def space_lines(study: "Study", family: "type[Family]") -> list[list[str]]:
    """One line per hyperparameter of a family."""
    lines = []
    for name, domain in study.space_of(family).domains.items():
        described = domain.describe()
        values = spelled(domain)
        if described["type"] != "choice":
            values = f"{_number(described['low'])} to {_number(described['high'])}"
        scale = str(described.get("scale", "")) if domain.size > 1 else "fixed"
        condition = ", ".join(f"{parent} = {value!r}" for parent, value in domain.when)
        kind = kind_of(domain)
        recipe = repr(domain.default) if kind == "str" else _number(domain.default)
        lines.append([name, values, scale or kind, recipe, condition])
    return lines


def status_lines(
    reports: Path, storage: str | None, study: str | None
) -> list[tuple[str, list[list[str]]]]:
    """For each study a title and one line per family."""
    ledger = open_ledger(reports, storage)
    if ledger is None or not (states := ledger.studies()):
        raise StudyError(f"no study has been run yet (no results in {reports})")
    if study is not None:
        states = [_state_of(ledger, study)]
    return [_status(ledger, state) for state in states]


def study_table(reports: Path, storage: str | None, study: str, what: str) -> "pd.DataFrame":
    """`trials`, `epochs` or `confirmation` of a study as they stand in the ledger."""
    from torchstudy.execution.outputs import tables

    ledger = _needed_ledger(reports, storage, study)
    return tables(ledger, _state_of(ledger, study))[what]


def exported(table: "pd.DataFrame", format: str) -> bytes:
    """A table as the bytes of a csv, json (records) or parquet file."""
    if format == "csv":
        return str(table.to_csv(index=False)).encode()
    if format == "json":
        records = json.loads(str(table.to_json(orient="records", date_format="iso")))
        return (json.dumps(records, indent=2) + "\n").encode()
    parquet = table.to_parquet(index=False)
    assert isinstance(parquet, bytes)
    return parquet


def frame_lines(table: "pd.DataFrame") -> tuple[list[str], list[list[str]]]:
    """Header and cells of a table for a terminal: columns that say nothing are left out."""
    hidden = [name for name in ("study", "worker", "started") if name in table]
    shown = table.drop(columns=hidden).dropna(axis="columns", how="all")
    names = [str(name).removeprefix("config.") for name in shown.columns]
    rows = [[_cell(value) for value in row] for row in shown.itertuples(index=False)]
    return names, rows


def best_models(
    reports: Path, storage: str | None, study: str, family: str | None
) -> list[dict[str, Any]]:
    """For each family its chosen (else best) trial: config, scores and the model's folder."""
    from torchstudy.execution.confirm import chosen_number

    ledger = _needed_ledger(reports, storage, study)
    state = _state_of(ledger, study)
    objective, families = _objective(state), list(state.summary["families"])
    if family is not None and family not in families:
        hint = did_you_mean(family, families)
        raise StudyError(
            f"study {state.name!r} has no family {family!r}{hint}; it has {', '.join(families)}"
        )
    found = []
    for name in [family] if family else families:
        own = [t for t in ledger.trainings(state.name) if t.trial.family == name]
        searched = [t for t in own if t.purpose == "search"]
        confirmed = [t for t in own if t.purpose == "confirmation"]
        number = chosen_number(confirmed, objective) if _all_ended(confirmed) else None
        best = _best(searched, objective, number)
        if best is not None:
            model = reports / state.name / "best" / name
            fresh = [t for t in confirmed if t.trial.number == best.trial.number]
            found.append(
                {
                    "family": name,
                    "trial": best.trial.number,
                    "config": dict(best.trial.config),
                    "scores": _scores(best, fresh if number is not None else [], objective),
                    "model": str(model) if model.exists() else None,
                }
            )
    if not found:
        raise StudyError(f"study {state.name!r} has no finished trial yet")
    return found


def redraw_report(reports: Path, storage: str | None, study: str, out: Path | None) -> Path:
    """Write tables and report from the ledger again; the report's path."""
    from torchstudy.execution.outputs import write_tables
    from torchstudy.report.page import write_report

    ledger = _needed_ledger(reports, storage, study)
    state = _state_of(ledger, study)
    folder = reports / state.name
    write_tables(ledger, state, folder)
    return write_report(folder, out)


def summary_lines(results: "Results") -> list[str]:
    """The end of a run in a few lines: verdict, families, and where the report lies."""
    from torchstudy.analysis.statistics import family_scores
    from torchstudy.report.sentences import verdict
    from torchstudy.report.story import Story

    said = verdict(Story(results))
    lines = ["", said.title, *said.sentences, ""]
    metric = results.objective.metric
    scores = family_scores(results)
    for row in scores.to_dict("records"):
        interval = f"[{row['low']:.4f}, {row['high']:.4f}]" if row["low"] == row["low"] else ""
        lines.append(
            f"  {row['family']:<20} test {metric} {row['mean']:.4f} {interval}  "
            f"trial {row['trial']}, {row['seeds']} seeds"
        )
    folder = results.folder
    return [*lines, "", f"report: {folder / 'report.html'}", f"models: {folder / 'best'}"]


def _needed_ledger(reports: Path, storage: str | None, study: str) -> Ledger:
    ledger = open_ledger(reports, storage)
    if ledger is None:
        raise StudyError(f"study {study!r} has not been run yet (no results in {reports})")
    return ledger


def _state_of(ledger: Ledger, reference: str) -> StudyState:
    """The stored study that a name, a path or `module:attribute` means."""
    name = reference.rpartition(":")[2] if ":" in reference else Path(reference).name
    name = name.removesuffix(".py")
    states = {state.name: state for state in ledger.studies() if state.summary}
    if name not in states:
        hint = did_you_mean(name, states)
        known = f"; results are there of {', '.join(states)}" if states else ""
        raise StudyError(f"study {name!r} has not been run yet{hint}{known}")
    return states[name]


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


def _objective(state: StudyState) -> Objective:
    return Objective(**state.summary["objective"])


def _status(ledger: Ledger, state: StudyState) -> tuple[str, list[list[str]]]:
    trainings = ledger.trainings(state.name)
    epochs = {key: row.epoch for key, row in ledger.epochs(state.name)}
    budget = state.summary["budget"]
    lines = []
    for family in state.summary["families"]:
        own = [t for t in trainings if t.trial.family == family]
        searched = [t for t in own if t.purpose == "search"]
        confirmed = [t for t in own if t.purpose == "confirmation"]
        running = [
            f"#{key.number} epoch {epochs.get(key, 0)}/{budget['epochs']}"
            for key in ledger.running(state.name)
            if key.family == family
        ]
        lines.append(
            [
                family,
                f"{sum(t.status.is_final for t in searched)}/{budget['trials']}",
                ", ".join(running) or "-",
                str(sum(t.status.is_failure for t in own)),
                str(sum(t.status is Status.COMPLETED for t in confirmed)),
                f"{sum(t.seconds for t in own):.0f} s",
                _best_text(searched, _objective(state), with_family=False),
            ]
        )
    return f"{state.name}: {_state(state)}", lines


def _all_ended(trainings: Sequence[Training]) -> bool:
    return bool(trainings) and all(training.status.is_final for training in trainings)


def _best(
    searched: Sequence[Training], objective: Objective, number: int | None
) -> Training | None:
    """The trial `number`, else the completed trial with the best valid score."""
    if number is not None:
        return next(training for training in searched if training.trial.number == number)
    completed = [training for training in searched if training.status is Status.COMPLETED]
    return max(completed, key=lambda t: objective.sign * t.valid(objective), default=None)


def _best_text(searched: Sequence[Training], objective: Objective, *, with_family: bool) -> str:
    best = _best(searched, objective, None)
    if best is None:
        return "-"
    family = f"{best.trial.family} " if with_family else ""
    return f"valid {objective.metric} {best.valid(objective):.4f} ({family}#{best.trial.number})"


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


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell(value: object) -> str:
    import pandas as pd

    if pd.isna(value):  # type: ignore[call-overload]  # every cell is a scalar
        return "-"
    if isinstance(value, pd.Timestamp):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    line = text.strip().rpartition("\n")[2]
    return line if len(line) <= MAX_COLUMN else line[: MAX_COLUMN - 1] + "…"
