"""What a study's folder holds of its ledger: the tables, `study.json`, a folder per training.

It needs no torch: tables and reports are drawn where none is installed.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torchstudy.analysis.diagnosis import KEYS, diagnose, diagnoses
from torchstudy.analysis.front import front_table
from torchstudy.analysis.tables import frame, write_table
from torchstudy.errors import brief
from torchstudy.execution.attempts_table import attempt_rows
from torchstudy.execution.confirm import chosen_number, ranked
from torchstudy.execution.epochs import epoch_table
from torchstudy.execution.examples import write_examples
from torchstudy.execution.ledger import Ledger, StudyState
from torchstudy.execution.proposals import proposal_rows
from torchstudy.execution.repeats_table import repeat_rows, searches_of
from torchstudy.failpoints import failpoint
from torchstudy.files import write_json
from torchstudy.records import (
    COSTS,
    Bound,
    Epoch,
    Objective,
    Purpose,
    Status,
    Training,
    TrainingKey,
    bounds_in,
    objectives_in,
)
from torchstudy.schemas import (
    ATTEMPT_COLUMNS,
    CONFIRMATION_COLUMNS,
    PROPOSAL_COLUMNS,
    READING_COLUMNS,
    REPEAT_COLUMNS,
    TRIAL_COLUMNS,
)

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, object]
ALWAYS = ("trials", "epochs", "confirmation", "proposals")
TABLES = (*ALWAYS, "front", "repeats", "attempts")


def training_folder(folder: Path, key: TrainingKey) -> Path:
    """Where a training keeps its checkpoint, weights and predictions."""
    return folder / "checkpoints" / key.family / _folder_name(key)


def tables(
    ledger: Ledger, state: StudyState, names: Sequence[str] = TABLES
) -> "dict[str, pd.DataFrame]":
    """Those of `TABLES` of a study, as they stand in the ledger."""
    found: dict[str, pd.DataFrame] = {}
    objectives, bounds = objectives_in(state.summary), bounds_in(state.summary)
    objective, trainings = objectives[0], ledger.trainings(state.name)
    if not {"trials", "epochs", "proposals", "front"}.isdisjoint(names):
        epochs = epoch_table(state.name, ledger.epoch_texts(state.name))
        searched = _ordered(trainings, state, "search")
        if not {"trials", "front"}.isdisjoint(names):
            last_rows = epochs.last_rows()
            shown = [*objectives, *(bound.objective for bound in bounds)]
            rows = [_trial_row(state.name, t, last_rows.get(t.key, {}), shown) for t in searched]
            trials = frame(rows, TRIAL_COLUMNS)
            if "trials" in names:
                found["trials"] = trials.assign(diagnosis=_sentences(trials, epochs.table))
            if "front" in names:
                found["front"] = front_table(trials, objectives, bounds)
        if "epochs" in names:
            found["epochs"] = epochs.table
        if "proposals" in names:
            curves = epochs.curves(f"valid_{objective.metric}")
            rows = proposal_rows(ledger, state, searched, curves)
            found["proposals"] = frame(rows, PROPOSAL_COLUMNS)
    if "confirmation" in names:
        confirmed = _ordered(trainings, state, "confirmation")
        confirmations = list(_confirmation_rows(state.name, confirmed, objective, bounds))
        found["confirmation"] = frame(confirmations, CONFIRMATION_COLUMNS)
    if "attempts" in names:
        found["attempts"] = frame(list(attempt_rows(state.name, trainings)), ATTEMPT_COLUMNS)
    if "repeats" in names:
        found["repeats"] = frame(list(repeat_rows(ledger, state.name)), REPEAT_COLUMNS)
    return found


def _ordered(trainings: Sequence[Training], state: StudyState, purpose: Purpose) -> list[Training]:
    """The trainings of a purpose, the families in the study's order."""
    families = list(state.summary["families"])
    own = [training for training in trainings if training.purpose == purpose]
    return sorted(own, key=lambda t: (families.index(t.trial.family), t.trial.number, t.seed))


def write_tables(ledger: Ledger, state: StudyState, folder: Path) -> None:
    """Write the tables as Parquet and CSV, examples, and last `study.json`.

    The front is one of several objectives, repeats are those of several searches, and attempts
    those of trainings that crashed and began again.
    """
    front = ["front"] if len(objectives_in(state.summary)) > 1 else []
    repeats = ["repeats"] if len(searches_of(ledger, state.name)) > 1 else []
    found = tables(ledger, state, [*ALWAYS, *front, *repeats, "attempts"])
    if found["attempts"].empty:
        del found["attempts"]
    for name, table in found.items():
        write_table(table, folder / name)
        failpoint("amid-tables")
    classes = (state.summary.get("data") or {}).get("classes") or []
    write_examples(folder, found["trials"], classes)
    stopped = {"error": brief(state.error)} if state.error else {}
    write_json(folder / "study.json", {**state.summary, "state": state.state, **stopped})


def prune(
    folder: Path,
    trainings: Sequence[Training],
    objective: Objective,
    keep: int,
    bounds: Sequence[Bound] = (),
) -> None:
    """Delete the files of finished search trials of one family, but for the `keep` best ones."""
    kept = {training.key for training in ranked(trainings, objective, bounds)[:keep]}
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


def _trial_row(study: str, training: Training, last: Row, shown: Sequence[Objective]) -> Row:
    trial = training.trial
    config = {f"config.{name}": value for name, value in trial.config.items()}
    return {
        "study": study,
        "family": trial.family,
        "trial": trial.number,
        "origin": trial.origin,
        **_standing(training),
        **{cost: training.metrics.get(cost) for cost in COSTS if cost != "parameters"},
        **config,
        **last,
        **{
            f"best_valid_{each.metric}": training.valid(each)
            for place, each in enumerate(shown)
            if place == 0 or each.metric not in COSTS
        },
    }


def _sentences(trials: "pd.DataFrame", epochs: "pd.DataFrame") -> "pd.Series[str]":
    """What ails each trial, with the remedy; missing for a healthy one."""
    import pandas as pd

    found = diagnoses(trials, epochs)
    keys = zip(*(found[name].tolist() for name in KEYS), strict=True)
    said = dict(zip(keys, found["sentence"].tolist(), strict=True))
    places = zip(*(trials[name].tolist() for name in KEYS), strict=True)
    return pd.Series([said.get(place) for place in places], dtype="string", index=trials.index)


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
        "environment": training.environment or None,
    }


def _confirmation_rows(
    study: str, trainings: Sequence[Training], objective: Objective, bounds: Sequence[Bound]
) -> Iterator[Row]:
    by_family: dict[str, list[Training]] = {}
    for training in trainings:
        by_family.setdefault(training.trial.family, []).append(training)
    for family, group in by_family.items():
        is_done = all(training.status.is_final for training in group)
        chosen = chosen_number(group, objective, bounds) if is_done else None
        for training in group:
            standing = _standing(training)
            del standing["best_epoch"]
            if training.readings:
                standing |= {name: getattr(training, name) for name in READING_COLUMNS}
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
