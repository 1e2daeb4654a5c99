"""How records stand in the ledger's tables: keys, queries, and rows made records again."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, bindparam, exists, func, insert, or_, select

from torchstudy.execution import schema
from torchstudy.records import Attempt, Decision, Epoch, Status, Training, TrainingKey, Trial
from torchstudy.repeats import repeat_prefix

KEY = ("study", "family", "number", "seed")


def columns_of(study: str, key: TrainingKey) -> dict[str, object]:
    """The columns that identify a training."""
    return {"study": study, "family": key.family, "number": key.number, "seed": key.seed}


def named(study: str, key: TrainingKey) -> dict[str, object]:
    """The parameters by which the statements here find a training."""
    return {f"of_{name}": value for name, value in columns_of(study, key).items()}


def matches(table: Table) -> list[Any]:
    """The conditions under which a row of `table` belongs to the training that is `named`."""
    return [table.c[name] == bindparam(f"of_{name}") for name in KEY]


def is_of(column: ColumnElement[str], study: str) -> ColumnElement[bool]:
    """The condition that a column names a study or one of its repeats."""
    prefix = repeat_prefix(study)  # compared as it is: LIKE takes `_` and, in SQLite, no case
    return or_(column == study, func.substr(column, 1, len(prefix)) == prefix)


def with_environment(environments: str, environment: str) -> str:
    """The environments that worked on a training so far, and this one if it is another."""
    known = environments.split("+") if environments else []
    is_new = environment and environment not in known
    return "+".join([*known, environment] if is_new else known)


def joined_query() -> Any:
    """Trainings with the configurations of their trials."""
    trained, proposed = schema.trainings.c, schema.trials.c
    joined = schema.trainings.join(
        schema.trials,
        (trained.study == proposed.study)
        & (trained.family == proposed.family)
        & (trained.number == proposed.number),
    )
    own = (proposed.config, proposed.origin, proposed.decisions)
    return select(schema.trainings, *own).select_from(joined)


def _adding_an_epoch() -> Any:
    """Adds an epoch if its attempt is under way and has not told of it yet."""
    trained, told = schema.trainings.c, schema.epochs.c
    new = [bindparam(f"new_{name}", type_=told[name].type) for name in NEW]
    is_known = exists().where(*matches(schema.epochs), told.epoch == bindparam("new_epoch"))
    found = select(*(trained[name] for name in KEY), *new).where(
        *matches(schema.trainings),
        trained.attempt == bindparam("new_attempt"),
        trained.status == Status.RUNNING.value,
        ~is_known,
    )
    locked = found.with_for_update(read=True)  # a run that takes over pauses the training: not now
    return insert(schema.epochs).from_select([*KEY, *NEW], locked)


def _finding_the_last_epochs() -> Any:
    """Finds the last epoch of each unfinished training of a study, in the index alone."""
    trained, told = schema.trainings.c, schema.epochs.c
    is_own = [told[name] == trained[name] for name in KEY]
    last = select(func.max(told.epoch)).where(*is_own).correlate(schema.trainings).scalar_subquery()
    return select(
        trained.family, trained.number, trained.seed, func.coalesce(last, 0).label("last")
    ).where(
        trained.study == bindparam("of_study"),
        trained.status.in_([Status.RUNNING.value, Status.PAUSED.value]),
    )


# Statements that are run for every epoch are made once: making one takes longer than running it.
NEW = ("epoch", "attempt", "seconds", "row")
ADD_EPOCH = _adding_an_epoch().execution_options(preserve_rowcount=True)
TRAINING = select(schema.trainings).where(*matches(schema.trainings))
JOINED_TRAINING = joined_query().where(*matches(schema.trainings))
CHANGE_TRAINING = schema.trainings.update().where(*matches(schema.trainings))
EPOCHS = select(schema.epochs).where(*matches(schema.epochs)).order_by(schema.epochs.c.epoch)
LAST_EPOCHS = _finding_the_last_epochs()
SPENT = select(func.coalesce(func.sum(schema.epochs.c.seconds), 0.0)).where(
    *matches(schema.epochs), schema.epochs.c.attempt == bindparam("of_attempt")
)


def as_trial(row: Row[Any]) -> Trial:
    """The trial of a row that has its columns."""
    return Trial(
        family=row.family,
        number=row.number,
        config=json.loads(row.config),
        origin=row.origin,
        decisions=tuple(_as_decision(found) for found in json.loads(row.decisions)),
    )


def as_text(decisions: Sequence[Decision]) -> str:
    """Decisions as the JSON in which a trial keeps them, where null stands for NaN."""
    found = [asdict(decision) for decision in decisions]
    return json.dumps(
        [{k: None if v != v else v for k, v in each.items()} for each in found], allow_nan=False
    )


def _as_decision(found: dict[str, Any]) -> Decision:
    known: dict[str, Any] = {k: math.nan if v is None else v for k, v in found.items()}
    return Decision(**{**known, "pending": tuple(found["pending"])})


def key_of(row: Any) -> TrainingKey:
    """The training that a row belongs to."""
    return TrainingKey(family=row.family, number=row.number, seed=row.seed)


def num_readings(row: Row[Any]) -> int:
    """How often the test split was read for a training; formats before 4 did not count."""
    return max(int(row.readings), int(row.tested != ""))


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
        losses=row.losses,
        environment=row.environment,
        tested=row.tested,
        tested_by=row.tested_by,
        readings=num_readings(row),
        earlier=tuple(_as_attempt(found) for found in json.loads(row.earlier)),
    )


def _as_attempt(found: dict[str, Any]) -> Attempt:
    told = tuple(Epoch(**each) for each in found["epochs"])
    return Attempt(**{**found, "status": Status(found["status"]), "epochs": told})
