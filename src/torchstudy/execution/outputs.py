"""What a study's folder holds of its ledger: the tables, `study.json`, a folder per training.

It needs no torch: tables and reports are drawn where none is installed.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torchstudy.analysis.diagnosis import diagnose
from torchstudy.analysis.tables import frame, write_table
from torchstudy.execution.confirm import chosen_number, ranked
from torchstudy.execution.ledger import Ledger, StudyState
from torchstudy.files import write_json
from torchstudy.records import (
    CONFIRMATION_COLUMNS,
    COSTS,
    EPOCH_COLUMNS,
    SECONDS,
    TRIAL_COLUMNS,
    Epoch,
    Objective,
    Status,
    Training,
    TrainingKey,
)

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, object]


def training_folder(folder: Path, key: TrainingKey) -> Path:
    """Where a training keeps its checkpoint, weights and predictions."""
    return folder / "checkpoints" / key.family / _folder_name(key)


def tables(ledger: Ledger, state: StudyState) -> "dict[str, pd.DataFrame]":
    """`trials`, `epochs` and `confirmation` of a study, as they stand in the ledger."""
    families = list(state.summary["families"])
    objective = Objective(**state.summary["objective"])
    epochs = ledger.epochs(state.name)
    rows: dict[TrainingKey, list[Epoch]] = {}
    for key, row in epochs:
        rows.setdefault(key, []).append(row)
    trainings = ledger.trainings(state.name)
    trainings.sort(key=lambda t: (families.index(t.trial.family), t.trial.number, t.seed))
    searched = [training for training in trainings if training.purpose == "search"]
    confirmed = [training for training in trainings if training.purpose == "confirmation"]
    return {
        "trials": frame(
            [_trial_row(state.name, t, rows.get(t.key, []), objective) for t in searched],
            TRIAL_COLUMNS,
        ),
        "epochs": frame([_epoch_row(state.name, key, row) for key, row in epochs], EPOCH_COLUMNS),
        "confirmation": frame(
            list(_confirmation_rows(state.name, confirmed, objective)), CONFIRMATION_COLUMNS
        ),
    }


def write_tables(ledger: Ledger, state: StudyState, folder: Path) -> None:
    """Write the tables as Parquet and CSV, and `study.json`."""
    for name, table in tables(ledger, state).items():
        write_table(table, folder / name)
    write_json(folder / "study.json", {**state.summary, "state": state.state})


def prune(folder: Path, trainings: Sequence[Training], objective: Objective, keep: int) -> None:
    """Delete the files of finished search trials of one family, but for the `keep` best ones."""
    kept = {training.key for training in ranked(trainings, objective)[:keep]}
    place = training_folder(folder, trainings[0].key).parent if trainings else folder
    there = set(os.listdir(place)) if place.exists() else set()  # a few, of a thousand trainings
    for training in trainings:
        name = _folder_name(training.key)
        if name in there and training.status.is_final and training.key not in kept:
            shutil.rmtree(place / name)


def ailment(rows: Sequence[Epoch], status: Status, reason: str) -> str:
    """One sentence on what ails a training, with the remedy; empty for a healthy one."""
    found = diagnose([row.values() for row in rows], status=status, reason=reason)
    return found.sentence if found else ""


def _folder_name(key: TrainingKey) -> str:
    return f"{key.number}-{key.seed}"


def _trial_row(study: str, training: Training, rows: Sequence[Epoch], objective: Objective) -> Row:
    trial, last = training.trial, rows[-1] if rows else None
    config = {f"config.{name}": value for name, value in trial.config.items()}
    valid = {
        name: value
        for name, value in (last.values() if last else {}).items()
        if name.startswith("valid_")
    }
    return {
        "study": study,
        "family": trial.family,
        "trial": trial.number,
        "origin": trial.origin,
        **_standing(training),
        **{cost: training.metrics.get(cost) for cost in COSTS if cost != "parameters"},
        "diagnosis": ailment(rows, training.status, training.reason) or None,
        "precision": last.precision if last else None,
        **_seconds_by_part(rows),
        **config,
        **valid,
        f"best_valid_{objective.metric}": training.valid(objective),
    }


def _seconds_by_part(rows: Sequence[Epoch]) -> Row:
    """Seconds by part over the epochs that were timed; nothing where none was."""
    timed = [row.parts for row in rows if row.parts]
    if not timed:
        return {}
    return {column: sum(parts.get(column, 0.0) for parts in timed) for column in SECONDS}


def _standing(training: Training) -> Row:
    return {
        "seed": training.seed,
        "status": str(training.status),
        "reason": training.reason,
        "epochs": training.epochs,
        "best_epoch": training.best_epoch,
        "parameters": training.parameters,
        "seconds": training.seconds,
        "started": training.started or None,
        "finished": training.finished or None,
        "worker": training.worker,
    }


def _epoch_row(study: str, key: TrainingKey, row: Epoch) -> Row:
    return {
        "study": study,
        "family": key.family,
        "trial": key.number,
        "seed": key.seed,
        "epoch": row.epoch,
        "seconds": row.seconds,
        "finished": row.finished,
        **row.values(),
        **row.parts,
    }


def _confirmation_rows(
    study: str, trainings: Sequence[Training], objective: Objective
) -> Iterator[Row]:
    by_family: dict[str, list[Training]] = {}
    for training in trainings:
        by_family.setdefault(training.trial.family, []).append(training)
    for family, group in by_family.items():
        is_done = all(training.status.is_final for training in group)
        chosen = chosen_number(group, objective) if is_done else None
        for training in group:
            standing = _standing(training)
            del standing["best_epoch"]
            scores = {
                name: value
                for name, value in training.metrics.items()
                if name.startswith(("select_", "test_"))
            }
            yield {
                "study": study,
                "family": family,
                "trial": training.trial.number,
                **standing,
                "chosen": training.trial.number == chosen,
                **scores,
            }
