"""The database of record: every trial, epoch and outcome, written before anything acts on it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import delete, insert, select, update

from torchstudy.execution import schema
from torchstudy.execution.attempts import set_back
from torchstudy.execution.claims import Claims
from torchstudy.execution.database import Database, now, open_database
from torchstudy.execution.holding import change_study, holder_of, refuse_if_held, study_row
from torchstudy.execution.owner import Owner
from torchstudy.execution.rows import (
    ADD_EPOCH,
    CHANGE_TRAINING,
    EPOCHS,
    JOINED_TRAINING,
    LAST_EPOCHS,
    TRAINING,
    as_text,
    as_training,
    as_trial,
    columns_of,
    is_of,
    joined_query,
    key_of,
    named,
    num_readings,
    with_environment,
)
from torchstudy.records import Epoch, Outcome, Purpose, Status, Training, TrainingKey, Trial
from torchstudy.visible import storable


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyState:
    """A study as the ledger knows it, without executing its file."""

    name: str
    state: str
    summary: Mapping[str, Any]
    owner: Owner | None
    claimed: str
    seen: str = ""  # the holder's last sign of life, UTC
    error: str = ""  # that the last run stopped on; empty if it was interrupted, or is not over


class Ledger:
    """All studies of one database. Every method is one transaction, durable when it returns.

    What a method has recorded survives the end of the process at any moment, as SQLite does each
    transaction wholly or not at all. It survives a power failure too if the disk does what it says
    when told to write through (`synchronous=FULL`: the log is synced at every commit): then at most
    the transaction in progress is lost. A disk or a network folder that only pretends can lose
    more, and damage the file: that is noticed when a run opens it next, a copy is kept, and what
    can be read goes into a new file. PostgreSQL promises as much with `fsync` and
    `synchronous_commit` on, as they are unless somebody turned them off.

    `note` says what was found and repaired in a damaged file; it is empty for a whole one.
    """

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        opened = open_database(url, read_only=read_only)
        self.note = opened.note
        self.database = Database(opened.engine)
        self._claims = Claims(self.database)

    def close(self) -> None:
        """Let go of the database, and give no more signs of life."""
        self._claims.close()
        self.database.close()

    # -- studies ---------------------------------------------------------------------------------

    def claim(
        self,
        study: str,
        declaration: Mapping[str, object],
        *,
        tell: Callable[[str], None] = lambda text: None,
    ) -> bool:
        """Hold `study` for this process; what a dead holder left running becomes paused.

        A holder that cannot be seen from here (another host, another container, before a reboot) is
        watched for a sign of life for up to 25 seconds, which `tell` is told. From here on this
        process gives one every 10 seconds. Returns whether the study's last run came to its end, so
        that its files are as the ledger says.

        Raises StudyClaimed if a living process holds it and StudyChanged if its declaration is not
        the one that the stored results belong to.
        """
        return self._claims.take(study, declaration, tell)

    def release(self, study: str, state: str, error: str = "") -> None:
        """Let go of `study`, leaving it `finished` or `interrupted`, unless another took it.

        `error` is what the run stopped on.
        """
        self._claims.release(study, state, storable(error))

    def forget(self, study: str, *, tell: Callable[[str], None] = lambda text: None) -> None:
        """Remove all of `study` and its repeats; raises StudyClaimed if a living process holds it.

        A holder out of sight is watched as by `claim`.
        """
        silent = self._claims.watched(study, tell)
        with self.database.writing() as connection:
            row = study_row(connection, study, locks=True)
            if row is None:
                return
            refuse_if_held(row, silent)
            for table in (schema.epochs, schema.trainings, schema.trials):
                connection.execute(delete(table).where(is_of(table.c.study, study)))
            connection.execute(delete(schema.studies).where(is_of(schema.studies.c.name, study)))

    def describe(self, study: str, summary: Mapping[str, object]) -> None:
        """Keep what a report needs to know of `study` beside its tables."""
        with self._claims.changing(study) as connection:
            change_study(connection, study, summary=json.dumps(summary))

    def studies(self) -> list[StudyState]:
        """All studies, by name."""
        with self.database.reading() as connection:
            rows = connection.execute(select(schema.studies).order_by(schema.studies.c.name)).all()
        return [
            StudyState(
                name=row.name,
                state=row.state,
                summary=json.loads(row.summary),
                owner=holder_of(row),
                claimed=row.claimed,
                seen=row.seen,
                error=row.error,
            )
            for row in rows
        ]

    # -- trials and trainings --------------------------------------------------------------------

    def propose(self, study: str, trials: Sequence[Trial]) -> None:
        """Record proposals before they are used."""
        with self._claims.changing(study) as connection:
            for trial in trials:
                connection.execute(
                    insert(schema.trials).values(
                        study=study,
                        family=trial.family,
                        number=trial.number,
                        config=json.dumps(dict(trial.config)),
                        origin=trial.origin,
                        proposed=now(),
                        decisions=as_text(trial.decisions),
                    )
                )

    def promote(self, study: str, trial: Trial) -> None:
        """Record a decision to go on with a trial, the last of its decisions, before it is used."""
        column = schema.trials.c
        is_own = (column.family == trial.family) & (column.number == trial.number)
        with self._claims.changing(study) as connection:
            connection.execute(
                update(schema.trials)
                .where(column.study == study, is_own)
                .values(decisions=as_text(trial.decisions))
            )

    def stop(self, study: str, keys: Sequence[TrainingKey], reason: str) -> None:
        """Record that paused trainings were not promoted; they finished with their last epoch."""
        change = {"status": Status.STOPPED, "reason": reason}
        with self._claims.changing(study) as connection:
            for key in keys:
                row = connection.execute(TRAINING, named(study, key)).one()
                if row.status == Status.PAUSED:
                    last = connection.execute(EPOCHS, named(study, key)).all()[-1]
                    own = {**change, "finished": json.loads(last.row)["finished"]}
                    connection.execute(CHANGE_TRAINING, {**named(study, key), **own})

    def begin(
        self, study: str, key: TrainingKey, purpose: Purpose, worker: str, environment: str = ""
    ) -> int:
        """Record that a training starts or goes on; returns the number of this attempt (from 1).

        `environment` is the id of the code and libraries that this attempt is made with.
        """
        with self._claims.changing(study) as connection:
            row = connection.execute(TRAINING, named(study, key)).one_or_none()
            if row is not None:
                change = {
                    "status": Status.RUNNING,
                    "attempt": row.attempt + 1,
                    "worker": worker,
                    "started": row.started or now(),
                    "environment": with_environment(row.environment, environment),
                }
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
                    started=now(),
                    finished="",
                    worker=worker,
                    metrics="{}",
                    tested="",
                    losses=0,
                    environment=environment,
                )
            )
            return 1

    def retry(self, study: str, keys: Sequence[TrainingKey]) -> None:
        """Have crashed trainings begin again, keeping what became of them: `Training.earlier`."""
        with self._claims.changing(study) as connection:
            set_back(connection, study, keys)

    def add_epoch(self, study: str, key: TrainingKey, attempt: int, epoch: Epoch) -> bool:
        """Record an epoch; False if it is known already or comes from an attempt given up."""
        new = {
            "new_epoch": epoch.epoch,
            "new_attempt": attempt,
            "new_seconds": epoch.seconds,
            "new_row": json.dumps(asdict(epoch)),
        }
        with self.database.writing() as connection:
            added = connection.execute(ADD_EPOCH, {**named(study, key), **new})
            return bool(added.rowcount)

    def end(
        self,
        study: str,
        key: TrainingKey,
        attempt: int,
        outcome: Outcome,
        seconds: float,
        *,
        is_lost: bool = False,
    ) -> bool:
        """Record how an attempt ended after `seconds`; False if the attempt had been given up.

        `is_lost` says that its worker died or hung, which is counted.
        """
        with self.database.writing() as connection:
            row = connection.execute(TRAINING, named(study, key)).one_or_none()
            if row is None or row.attempt != attempt or row.status != Status.RUNNING:
                return False
            change = {
                "status": outcome.status,
                "reason": storable(outcome.reason),
                "epochs": outcome.epochs,
                "best_epoch": outcome.best_epoch,
                "parameters": outcome.parameters,
                "seconds": row.seconds + seconds,
                "finished": now() if outcome.status.is_final else "",
                "metrics": json.dumps(dict(outcome.metrics)),
                "losses": row.losses + int(is_lost),
            }
            connection.execute(CHANGE_TRAINING, {**named(study, key), **change})
            return True

    def add_test(self, study: str, key: TrainingKey, metrics: Mapping[str, float]) -> None:
        """Record a reading of the test split for a finished training: when, and by which process.

        What an earlier reading found is replaced, and the readings are counted.
        """
        owner = Owner.here()
        with self._claims.changing(study) as connection:
            row = connection.execute(TRAINING, named(study, key)).one()
            change = {
                "metrics": json.dumps({**json.loads(row.metrics), **metrics}),
                "tested": now(),
                "tested_by": f"process {owner.pid} on {owner.host}",
                "readings": num_readings(row) + 1,
            }
            connection.execute(CHANGE_TRAINING, {**named(study, key), **change})

    def trials(self, study: str, family: str) -> list[Trial]:
        """The proposals of one family, in order."""
        query = select(schema.trials).where(
            schema.trials.c.study == study, schema.trials.c.family == family
        )
        with self.database.reading() as connection:
            rows = connection.execute(query.order_by(schema.trials.c.number)).all()
        return [as_trial(row) for row in rows]

    def trainings(self, study: str, purpose: Purpose | None = None) -> list[Training]:
        """The trainings of a study, ordered by trial number, family and seed."""
        column = schema.trainings.c
        query = joined_query().where(column.study == study)
        if purpose is not None:
            query = query.where(column.purpose == purpose)
        with self.database.reading() as connection:
            rows = connection.execute(
                query.order_by(column.number, column.family, column.seed)
            ).all()
        return [as_training(row) for row in rows]

    def training(self, study: str, key: TrainingKey) -> Training:
        """One training, which must be there."""
        with self.database.reading() as connection:
            return as_training(connection.execute(JOINED_TRAINING, named(study, key)).one())

    def last_epochs(self, study: str) -> dict[TrainingKey, int]:
        """The last recorded epoch of each training that is not at its end."""
        with self.database.reading() as connection:
            rows = connection.execute(LAST_EPOCHS, {"of_study": study}).all()
        return {key_of(row): row.last for row in rows}

    def epochs(self, study: str, key: TrainingKey | None = None) -> list[tuple[TrainingKey, Epoch]]:
        """Every epoch row of a study or of one training, by family, trial, seed and epoch."""
        column = schema.epochs.c
        order = (column.family, column.number, column.seed, column.epoch)
        everything = select(schema.epochs).where(column.study == study).order_by(*order)
        with self.database.reading() as connection:
            rows = (
                connection.execute(everything)
                if key is None
                else connection.execute(EPOCHS, named(study, key))
            ).all()
        return [(key_of(row), Epoch(**json.loads(row.row))) for row in rows]

    def epoch_texts(self, study: str) -> list[tuple[TrainingKey, str]]:
        """As `epochs`, each row as the JSON that it is stored as: many are read faster at once."""
        column = schema.epochs.c
        order = (column.family, column.number, column.seed, column.epoch)
        query = select(column.family, column.number, column.seed, column.row)
        with self.database.reading() as connection:
            rows = connection.execute(query.where(column.study == study).order_by(*order)).all()
        keys: dict[tuple[str, int, int], TrainingKey] = {}
        found = []
        for family, number, seed, text in rows:  # one object for all epochs of a training
            key = keys.get((family, number, seed))
            if key is None:
                key = TrainingKey(family=family, number=number, seed=seed)
                keys[family, number, seed] = key
            found.append((key, text))
        return found
