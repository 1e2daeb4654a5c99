"""Crashed trainings that begin again, with what had become of them: how the ledger keeps it."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, delete

from torchstudy.execution import schema
from torchstudy.execution.rows import CHANGE_TRAINING, EPOCHS, TRAINING, matches, named
from torchstudy.records import Attempt, Epoch, Status, TrainingKey

FORGET_EPOCHS = delete(schema.epochs).where(*matches(schema.epochs))
UNTRIED = {
    "status": Status.PAUSED,  # as what waits for a worker
    "reason": "",
    "epochs": 0,
    "best_epoch": 0,
    "parameters": 0,
    "seconds": 0.0,
    "started": "",
    "finished": "",
    "worker": "",
    "metrics": "{}",
    "losses": 0,
    "environment": "",
}


def set_back(connection: Connection, study: str, keys: Sequence[TrainingKey]) -> None:
    """Have crashed trainings begin again; their attempts so far, epochs included, stay with them.

    Epochs of other code must not mix: those of the attempt leave the table of epochs.
    """
    for key in keys:
        own = named(study, key)
        row = connection.execute(TRAINING, own).one()
        if row.status != Status.CRASHED:
            continue
        told = [Epoch(**json.loads(each.row)) for each in connection.execute(EPOCHS, own).all()]
        earlier = [*json.loads(row.earlier), asdict(_ended(row, told))]
        change = {**UNTRIED, "earlier": json.dumps(earlier)}
        connection.execute(FORGET_EPOCHS, own)
        connection.execute(CHANGE_TRAINING, {**own, **change})


def _ended(row: Row[Any], told: Sequence[Epoch]) -> Attempt:
    return Attempt(
        number=row.attempt,
        status=Status(row.status),
        reason=row.reason,
        seconds=row.seconds,
        started=row.started,
        finished=row.finished,
        worker=row.worker,
        environment=row.environment,
        losses=row.losses,
        epochs=tuple(told),
    )
