"""How records stand in the ledger's tables: keys, queries, and rows made records again."""

import json
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row, select

from torchstudy.execution import schema
from torchstudy.records import Status, Training, TrainingKey, Trial


def columns_of(study: str, key: TrainingKey) -> dict[str, object]:
    """The columns that identify a training."""
    return {"study": study, **asdict(key)}


def matches(table: Any, study: str, key: TrainingKey) -> list[Any]:
    """The conditions under which a row of `table` belongs to a training."""
    return [table.c[name] == value for name, value in columns_of(study, key).items()]


def training_query(study: str, key: TrainingKey) -> Any:
    """The row of one training."""
    return select(schema.trainings).where(*matches(schema.trainings, study, key))


def joined_query() -> Any:
    """Trainings with the configurations of their trials."""
    trained, proposed = schema.trainings.c, schema.trials.c
    joined = schema.trainings.join(
        schema.trials,
        (trained.study == proposed.study)
        & (trained.family == proposed.family)
        & (trained.number == proposed.number),
    )
    return select(schema.trainings, proposed.config, proposed.origin).select_from(joined)


def as_trial(row: Row[Any]) -> Trial:
    """The trial of a row that has its columns."""
    config = json.loads(row.config)
    return Trial(family=row.family, number=row.number, config=config, origin=row.origin)


def key_of(row: Any) -> TrainingKey:
    """The training that a row belongs to."""
    return TrainingKey(family=row.family, number=row.number, seed=row.seed)


def as_training(row: Row[Any]) -> Training:
    """The training of a row of `joined_query`."""
    return Training(
        trial=as_trial(row),
        seed=row.seed,
        purpose=row.purpose,
        status=Status(row.status),
        attempt=row.attempt,
        reason=row.reason,
        epochs=row.epochs,
        best_epoch=row.best_epoch,
        parameters=row.parameters,
        seconds=row.seconds,
        started=row.started,
        finished=row.finished,
        worker=row.worker,
        metrics=json.loads(row.metrics),
    )
