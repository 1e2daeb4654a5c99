"""How this process comes to hold a study, shows that it still does, and lets go of it."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

from sqlalchemy import Connection, insert, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from torchstudy.errors import StudyChanged
from torchstudy.execution import heartbeat, schema
from torchstudy.execution.changes import difference
from torchstudy.execution.database import Database, now
from torchstudy.execution.heartbeat import Heartbeat
from torchstudy.execution.holding import (
    change_study,
    holder_of,
    must_be_watched,
    pause_orphans,
    refuse_if_held,
    refuse_if_lost,
    study_row,
)
from torchstudy.execution.owner import Owner

LOOKS = 50  # at the ledger while a holder is watched


class Claims:
    """The studies of one database that this process holds, each with its signs of life."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held: dict[str, tuple[str, Heartbeat | None]] = {}

    def close(self) -> None:
        """Give no more signs of life."""
        for study in list(self._held):
            self._fall_silent(study)

    def take(
        self, study: str, declaration: Mapping[str, object], tell: Callable[[str], None]
    ) -> bool:
        """Hold `study` from now on: `Ledger.claim`."""
        silent = self.watched(study, tell)
        holder = json.dumps(asdict(Owner.here()))
        try:
            is_finished = self._take(study, declaration, holder, silent)
        except IntegrityError:  # another run made the study in the meantime
            is_finished = self._take(study, declaration, holder, silent)
        self._fall_silent(study)
        self._held[study] = holder, self._beating(study, holder)
        return is_finished

    def release(self, study: str, state: str, error: str) -> None:
        """Let go of `study`, unless another run has taken it; what still runs becomes paused."""
        holder, _ = self._held.get(study, ("", None))
        self._fall_silent(study)
        with self._database.writing() as connection:
            row = study_row(connection, study, locks=True)
            if row is not None and (not holder or row.owner == holder):
                change_study(connection, study, owner="", state=state, error=error)
                pause_orphans(connection, study)

    def watched(self, study: str, tell: Callable[[str], None]) -> str:
        """The last sign of life of a holder out of sight that gave no other while it was watched.

        No clock is compared with another: only whether the sign changes.
        """
        with self._database.reading() as connection:
            first = study_row(connection, study)
        if first is None or not must_be_watched(first):
            return ""
        owner, patience = holder_of(first), heartbeat.PATIENCE
        assert owner is not None
        tell(
            f"study {study!r} is held by process {owner.pid} on {owner.host}, last heard of at "
            f"{first.seen[:19]} UTC; waiting {patience:.0f} s for a sign of life"
        )
        end = time.monotonic() + patience
        while time.monotonic() < end:
            time.sleep(patience / LOOKS)
            with self._database.reading() as connection:
                row = study_row(connection, study)
            if row is None or row.seen != first.seen:
                return ""
        return str(first.seen)

    @contextmanager
    def changing(self, study: str) -> Iterator[Connection]:
        """A transaction on a study; refused if this process held it and another has taken it."""
        holder, _ = self._held.get(study, ("", None))
        with self._database.writing() as connection:
            if holder:
                refuse_if_lost(connection, study, holder)
            yield connection

    def _take(
        self, study: str, declaration: Mapping[str, object], holder: str, silent: str
    ) -> bool:
        text = json.dumps(declaration, sort_keys=True)
        own = {"owner": holder, "claimed": now(), "seen": now(), "state": "running", "error": ""}
        with self._database.writing() as connection:
            row = study_row(connection, study, locks=True)
            if row is None:
                values = {"name": study, "declaration": text, "summary": "{}", **own}
                connection.execute(insert(schema.studies).values(**values))
                return False
            refuse_if_held(row, silent)
            if row.declaration != text:
                raise StudyChanged(difference(study, json.loads(row.declaration), declaration))
            change_study(connection, study, **own)
            pause_orphans(connection, study)
            return bool(row.state == "finished")

    def _beating(self, study: str, holder: str) -> Heartbeat | None:
        """Signs of life from now on; none where no other process could see them."""
        if self._database.is_private:
            return None
        engine, own = self._database.engine, schema.studies.c
        change = update(schema.studies).where(own.name == study, own.owner == holder)

        def beat() -> bool:
            try:
                with engine.execution_options(writes=True).begin() as connection:
                    return bool(connection.execute(change.values(seen=now())).rowcount)
            except SQLAlchemyError:  # one that cannot be written is missed, as it should be
                return True

        return Heartbeat(beat, heartbeat.BEAT)

    def _fall_silent(self, study: str) -> None:
        _, beating = self._held.pop(study, ("", None))
        if beating is not None:
            beating.stop()
