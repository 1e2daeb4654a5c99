"""The database of record: every trial, epoch and outcome, written before anything acts on it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import DatabaseError, OperationalError

from torchstudy.errors import RunError, StudyChanged, StudyClaimed
from torchstudy.execution import schema
from torchstudy.execution.changes import difference
from torchstudy.execution.owner import Owner
from torchstudy.execution.rows import (
    ADD_EPOCH,
    CHANGE_TRAINING,
    EPOCHS,
    JOINED_TRAINING,
    SPENT,
    TRAINING,
    as_training,
    as_trial,
    columns_of,
    joined_query,
    key_of,
    named,
)
from torchstudy.records import Epoch, Outcome, Purpose, Status, Training, TrainingKey, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyState:
    """A study as the ledger knows it, without executing its file."""

    name: str
    state: str
    summary: Mapping[str, Any]
    owner: Owner | None
    claimed: str


class Ledger:
    """All studies of one database. Every method is one transaction, durable when it returns."""

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        self._engine = schema.open_database(url, read_only=read_only)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    # -- studies ---------------------------------------------------------------------------------

    def claim(self, study: str, declaration: Mapping[str, object]) -> bool:
        """Hold `study` for this process; what a dead holder left running becomes paused.

        Returns whether its last run came to its end, so that its files are as the ledger says.

        Raises StudyClaimed if a living process holds it and StudyChanged if its declaration is not
        the one that the stored results belong to.
        """
        text = json.dumps(declaration, sort_keys=True)
        holder = json.dumps(asdict(Owner.here()))
        with self._writing() as connection:
            row = _study_row(connection, study)
            if row is None:
                values = {"name": study, "declaration": text, "summary": "{}", "state": "running"}
                connection.execute(
                    insert(schema.studies).values(**values, owner=holder, claimed=_now())
                )
                return False
            _refuse_if_held(row)
            if row.declaration != text:
                raise StudyChanged(difference(study, json.loads(row.declaration), declaration))
            connection.execute(
                update(schema.studies)
                .where(schema.studies.c.name == study)
                .values(owner=holder, claimed=_now(), state="running")
            )
            _pause_orphans(connection, study)
            return bool(row.state == "finished")

    def release(self, study: str, state: str) -> None:
        """Let go of `study`, leaving it `finished` or `interrupted`."""
        with self._writing() as connection:
            connection.execute(
                update(schema.studies)
                .where(schema.studies.c.name == study)
                .values(owner="", state=state)
            )

    def forget(self, study: str) -> None:
        """Remove everything about `study`; raises StudyClaimed if a living process holds it."""
        with self._writing() as connection:
            row = _study_row(connection, study)
            if row is None:
                return
            _refuse_if_held(row)
            for table in (schema.epochs, schema.trainings, schema.trials):
                connection.execute(delete(table).where(table.c.study == study))
            connection.execute(delete(schema.studies).where(schema.studies.c.name == study))

    def describe(self, study: str, summary: Mapping[str, object]) -> None:
        """Keep what a report needs to know of `study` beside its tables."""
        with self._writing() as connection:
            connection.execute(
                update(schema.studies)
                .where(schema.studies.c.name == study)
                .values(summary=json.dumps(summary))
            )

    def studies(self) -> list[StudyState]:
        """All studies, by name."""
        with self._reading() as connection:
            rows = connection.execute(select(schema.studies).order_by(schema.studies.c.name)).all()
        return [
            StudyState(
                name=row.name,
                state=row.state,
                summary=json.loads(row.summary),
                owner=Owner(**json.loads(row.owner)) if row.owner else None,
                claimed=row.claimed,
            )
            for row in rows
        ]

    # -- trials and trainings --------------------------------------------------------------------

    def propose(self, study: str, trials: Sequence[Trial]) -> None:
        """Record proposals before they are used."""
        with self._writing() as connection:
            for trial in trials:
                connection.execute(
                    insert(schema.trials).values(
                        study=study,
                        family=trial.family,
                        number=trial.number,
                        config=json.dumps(dict(trial.config)),
                        origin=trial.origin,
                        proposed=_now(),
                    )
                )

    def begin(self, study: str, key: TrainingKey, purpose: Purpose, worker: str) -> int:
        """Record that a training starts or goes on; returns the number of this attempt (from 1)."""
        with self._writing() as connection:
            row = connection.execute(TRAINING, named(study, key)).one_or_none()
            if row is not None:
                change = {"status": Status.RUNNING, "attempt": row.attempt + 1, "worker": worker}
                connection.execute(CHANGE_TRAINING, {**named(study, key), **change})
                return int(row.attempt) + 1
            connection.execute(
                insert(schema.trainings).values(
                    **columns_of(study, key),
                    purpose=purpose,
                    status=Status.RUNNING,
                    attempt=1,
                    reason="",
                    epochs=0,
                    best_epoch=0,
                    parameters=0,
                    seconds=0.0,
                    started=_now(),
                    finished="",
                    worker=worker,
                    metrics="{}",
                    tested="",
                )
            )
            return 1

    def add_epoch(self, study: str, key: TrainingKey, attempt: int, epoch: Epoch) -> bool:
        """Record an epoch; False if it is known already or comes from an attempt given up."""
        new = {
            "new_epoch": epoch.epoch,
            "new_attempt": attempt,
            "new_seconds": epoch.seconds,
            "new_row": json.dumps(asdict(epoch)),
        }
        with self._writing() as connection:
            added = connection.execute(ADD_EPOCH, {**named(study, key), **new})
            return bool(added.rowcount)

    def end(
        self, study: str, key: TrainingKey, attempt: int, outcome: Outcome, seconds: float
    ) -> bool:
        """Record how an attempt ended after `seconds`; False if the attempt had been given up."""
        with self._writing() as connection:
            row = connection.execute(TRAINING, named(study, key)).one_or_none()
            if row is None or row.attempt != attempt or row.status != Status.RUNNING:
                return False
            change = {
                "status": outcome.status,
                "reason": outcome.reason,
                "epochs": outcome.epochs,
                "best_epoch": outcome.best_epoch,
                "parameters": outcome.parameters,
                "seconds": row.seconds + seconds,
                "finished": _now() if outcome.status.is_final else "",
                "metrics": json.dumps(dict(outcome.metrics)),
            }
            connection.execute(CHANGE_TRAINING, {**named(study, key), **change})
            return True

    def add_test(self, study: str, key: TrainingKey, metrics: Mapping[str, float]) -> None:
        """Record the reading of the test split for a finished training."""
        with self._writing() as connection:
            row = connection.execute(TRAINING, named(study, key)).one()
            change = {
                "metrics": json.dumps({**json.loads(row.metrics), **metrics}),
                "tested": _now(),
            }
            connection.execute(CHANGE_TRAINING, {**named(study, key), **change})

    def trials(self, study: str, family: str) -> list[Trial]:
        """The proposals of one family, in order."""
        query = select(schema.trials).where(
            schema.trials.c.study == study, schema.trials.c.family == family
        )
        with self._reading() as connection:
            rows = connection.execute(query.order_by(schema.trials.c.number)).all()
        return [as_trial(row) for row in rows]

    def trainings(self, study: str, purpose: Purpose | None = None) -> list[Training]:
        """The trainings of a study, ordered by trial number, family and seed."""
        column = schema.trainings.c
        query = joined_query().where(column.study == study)
        if purpose is not None:
            query = query.where(column.purpose == purpose)
        with self._reading() as connection:
            rows = connection.execute(
                query.order_by(column.number, column.family, column.seed)
            ).all()
        return [as_training(row) for row in rows]

    def training(self, study: str, key: TrainingKey) -> Training:
        """One training, which must be there."""
        with self._reading() as connection:
            return as_training(connection.execute(JOINED_TRAINING, named(study, key)).one())

    def running(self, study: str) -> list[TrainingKey]:
        """The trainings that are under way."""
        column = schema.trainings.c
        query = select(column.family, column.number, column.seed).where(
            column.study == study, column.status == Status.RUNNING
        )
        with self._reading() as connection:
            rows = connection.execute(query).all()
        return [key_of(row) for row in rows]

    def epochs(self, study: str, key: TrainingKey | None = None) -> list[tuple[TrainingKey, Epoch]]:
        """Every epoch row of a study or of one training, by family, trial, seed and epoch."""
        column = schema.epochs.c
        order = (column.family, column.number, column.seed, column.epoch)
        everything = select(schema.epochs).where(column.study == study).order_by(*order)
        with self._reading() as connection:
            rows = (
                connection.execute(everything)
                if key is None
                else connection.execute(EPOCHS, named(study, key))
            ).all()
        return [(key_of(row), Epoch(**json.loads(row.row))) for row in rows]

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        try:
            with self._engine.execution_options(writes=True).begin() as connection:
                yield connection
        except OperationalError as error:
            raise RunError(f"the ledger cannot be written: {error.orig}") from None

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except DatabaseError as error:
            raise RunError(f"the ledger cannot be read: {error.orig}") from None


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _study_row(connection: Connection, study: str) -> Row[Any] | None:
    return connection.execute(
        select(schema.studies).where(schema.studies.c.name == study)
    ).one_or_none()


def _refuse_if_held(row: Row[Any]) -> None:
    owner = Owner(**json.loads(row.owner)) if row.owner else None
    if owner is None or owner.is_gone or owner == Owner.here():
        return
    raise StudyClaimed(
        f"study {row.name!r} is being run by process {owner.pid} on {owner.host} since "
        f"{row.claimed[:19]} UTC; wait for it or stop it first"
    )


def _pause_orphans(connection: Connection, study: str) -> None:
    """Trainings that a dead process left running; the epochs they finished count as spent."""
    column = schema.trainings.c
    running = select(schema.trainings).where(column.study == study, column.status == Status.RUNNING)
    for row in connection.execute(running).all():
        own = named(study, key_of(row))
        spent = connection.execute(SPENT, {**own, "of_attempt": row.attempt}).scalar_one()
        change = {"status": Status.PAUSED, "seconds": row.seconds + spent}
        connection.execute(CHANGE_TRAINING, {**own, **change})
