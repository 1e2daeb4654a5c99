"""Who may write to a study: its holder, and after that one's end whoever comes first."""

import json
from typing import Any

from sqlalchemy import Connection, Row, select, update

from torchstudy.errors import StudyClaimed
from torchstudy.execution import schema
from torchstudy.execution.owner import Owner
from torchstudy.execution.rows import CHANGE_TRAINING, SPENT, key_of, named
from torchstudy.records import Status


def study_row(connection: Connection, study: str, *, locks: bool = False) -> Row[Any] | None:
    """The row of a study; `locks` keeps others from changing it until the transaction ends."""
    query = select(schema.studies).where(schema.studies.c.name == study)
    return connection.execute(query.with_for_update() if locks else query).one_or_none()


def holder_of(row: Row[Any]) -> Owner | None:
    """The process that holds the study of a row."""
    return Owner(**json.loads(row.owner)) if row.owner else None


def must_be_watched(row: Row[Any]) -> bool:
    """Whether only its signs of life can tell if the holder is there."""
    owner = holder_of(row)
    return owner is not None and owner.beats and not owner.is_in_sight


def refuse_if_held(row: Row[Any], silent: str = "") -> None:
    """Raise StudyClaimed if the study has a living holder other than this process.

    `silent` is the last sign of life of a holder that was watched and gave no other.
    """
    owner = holder_of(row)
    if owner is None or owner.is_gone or owner == Owner.here():
        return
    if must_be_watched(row) and silent == row.seen:
        return
    heard = "" if owner.is_in_sight or not row.seen else f", last heard of at {row.seen[:19]} UTC"
    raise StudyClaimed(
        f"study {row.name!r} is being run by process {owner.pid} on {owner.host} since "
        f"{row.claimed[:19]} UTC{heard}; wait for it or stop it first"
    )


def refuse_if_lost(connection: Connection, study: str, holder: str) -> None:
    """Raise StudyClaimed if another run has taken the study over from `holder`.

    It may have been stopped or cut off for so long that it was taken for gone.
    """
    row = study_row(connection, study, locks=True)
    if row is not None and row.owner != holder:
        other = holder_of(row)
        by = f" by process {other.pid} on {other.host}" if other else ""
        raise StudyClaimed(
            f"study {study!r} was taken over{by} at {row.claimed[:19]} UTC, as this run gave no "
            "sign of life; what it had recorded before is kept"
        )


def pause_orphans(connection: Connection, study: str) -> None:
    """Pause what a dead process left running; the epochs they finished count as spent."""
    column = schema.trainings.c
    running = select(schema.trainings).where(column.study == study, column.status == Status.RUNNING)
    for row in connection.execute(running.with_for_update()).all():
        own = named(study, key_of(row))
        spent = connection.execute(SPENT, {**own, "of_attempt": row.attempt}).scalar_one()
        change = {"status": Status.PAUSED, "seconds": row.seconds + spent}
        connection.execute(CHANGE_TRAINING, {**own, **change})


def change_study(connection: Connection, study: str, **values: object) -> int:
    """Set columns of a study's row; the number of rows that were there."""
    own = schema.studies.c.name == study
    return connection.execute(update(schema.studies).where(own).values(**values)).rowcount
