"""What a run leaves in its folder: tables, study.json, Ax experiments, evidence, best models."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from torchstudy.analysis.diagnosis import diagnose
from torchstudy.analysis.tables import frame, write_table
from torchstudy.data.dataset import ImageData
from torchstudy.execution import job as jobs
from torchstudy.execution.confirm import chosen_number, ranked
from torchstudy.execution.ledger import Ledger, StudyState
from torchstudy.families.base import Family
from torchstudy.files import write_json
from torchstudy.fitting import instantiate
from torchstudy.models.saved import save_model
from torchstudy.records import (
    CONFIRMATION_COLUMNS,
    COSTS,
    EPOCH_COLUMNS,
    TRIAL_COLUMNS,
    Epoch,
    Objective,
    Status,
    Training,
    TrainingKey,
)

Row = dict[str, object]


def training_folder(folder: Path, key: TrainingKey) -> Path:
    """Where a training keeps its checkpoint, weights and predictions."""
    return folder / "checkpoints" / key.family / f"{key.number}-{key.seed}"


def tables(ledger: Ledger, state: StudyState) -> dict[str, pd.DataFrame]:
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


def write_best(
    folder: Path, family: type[Family], data: ImageData, training: Training, metrics: Row
) -> None:
    """Save the network of one training under `best/<family>/`."""
    source = training_folder(folder, training.key)
    instance = instantiate(family, training.trial.config).family
    state, spec = jobs.deployed_state(source, instance, data.spec)
    save_model(
        folder / "best" / family.__name__,
        family=family,
        config=training.trial.config,
        data=spec,
        state=state,
        metrics={"trial": training.trial.number, "seed": training.seed, **metrics},
    )


def prune(folder: Path, trainings: Sequence[Training], objective: Objective, keep: int) -> None:
    """Delete the files of finished search trials of one family, but for the `keep` best ones."""
    kept = ranked(trainings, objective)[:keep]
    for training in trainings:
        place = training_folder(folder, training.key)
        if training.status.is_final and training not in kept and place.exists():
            shutil.rmtree(place)


def ailment(rows: Sequence[Epoch], status: Status, reason: str) -> str:
    """One sentence on what ails a training, with the remedy; empty for a healthy one."""
    found = diagnose(pd.DataFrame([row.values() for row in rows]), status=status, reason=reason)
    return found.sentence if found else ""


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
        **config,
        **valid,
        f"best_valid_{objective.metric}": training.valid(objective),
    }


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
