"""Whether a SQLite ledger is whole, and what happens when it is not: kept aside, then rescued."""

import fcntl
import glob
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from torchstudy.errors import StorageError
from torchstudy.execution.rescue import Tally, rescue

SIDECARS = ("-wal", "-shm")
RESCUED = ".rescued"  # whole, and not yet in the place of the damaged file
BEGUN = ".rescuing"  # everything that is only of use while a rescue is under way
SHARED_BYTES = (510, 0x40000002)  # what every connection to a WAL database locks: pager of SQLite
REMEDIES = {
    "No module named 'psycopg": "pip install 'torchstudy[postgres]'",
    "full": "make room, then repeat the command",
    "readonly": "its folder and file must be writable",
    "locked": "another program has held it for more than 30 s",
    "malformed": "`optimize run` keeps a copy and goes on with what can be read",
    "not a database": "`optimize run` keeps a copy and goes on with what can be read",
}


def advice(cause: str) -> str:
    """What a database said, and what can be done where that is known."""
    found = next((remedy for word, remedy in REMEDIES.items() if word in cause), None)
    return f"{cause}; {found}" if found else cause


def checked(path: Path, name: str) -> str:
    """Repair the ledger in `path` if it is damaged; what was found and kept, or "".

    Every page, row and index is looked at (0.7 s for 500,000 epochs: benchmarks/ledger.py), but no
    checksum, as SQLite has none. A WAL that was removed by hand leaves an earlier state of the
    ledger that is whole; that cannot be seen. Raises StorageError for a damaged file that another
    process has open, and for one that holds nothing of a ledger.
    """
    rescued = _beside(path, RESCUED)
    if rescued.exists():  # killed before its last step
        _put_in_place(rescued, path)
        notes = sorted(path.parent.glob(f"{glob.escape(path.name)}.damaged-*.txt"))
        return notes[-1].read_text(encoding="utf-8").strip() if notes else ""
    if not path.exists():
        return ""
    if path.stat().st_size == 0:
        return _note_on_nothing(path)
    found = damage(path)
    return _repaired(path, name, found) if found else ""


def damage(path: Path) -> str:
    """What is wrong with a SQLite file; "" for a whole one."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            found = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    except sqlite3.OperationalError:
        return ""  # busy or unreadable, which says nothing about what is in it
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if found == "ok" else found.replace("\n", " ")


def _repaired(path: Path, name: str, found: str) -> str:
    """Rescue what can be read into a new file, with the damaged one kept beside it."""
    with _nobody_else(path, name):
        if not damage(path):  # another process was quicker
            return ""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        kept = _beside(path, f".damaged-{stamp}")
        try:
            tally = _rescued(path, kept)
        except (OSError, sqlite3.Error, SQLAlchemyError) as error:
            _remove(kept)
            reason = str(getattr(error, "strerror", None) or getattr(error, "orig", error))
            raise StorageError(
                f"storage {name} is damaged ({found}) and cannot be repaired: {reason}; its "
                "folder must be writable, with room for three times the file"
            ) from None
        if tally is None:
            _remove(kept)
            raise StorageError(
                f"storage {name} cannot be used: {found}; nothing in it is a ledger's, so it is "
                "left as it is; move it away to start anew"
            )
        note = f"the ledger {name} was damaged ({found}). Kept: {tally}. The damaged file is {kept}"
        with suppress(OSError):  # for whoever does not see it said
            _beside(kept, ".txt").write_text(f"{note}\n", encoding="utf-8")
        _put_in_place(_beside(path, RESCUED), path)
    return note


def _rescued(path: Path, kept: Path) -> Tally | None:
    """Copy the damaged file to `kept`, and what can be read to where `_put_in_place` finds it."""
    work, begun = _beside(path, f"{BEGUN}-source"), _beside(path, BEGUN)
    try:
        _copy(path, kept)
        _copy(path, work)
        tally = rescue(work, begun)
        if tally is not None:
            os.rename(begun, _beside(path, RESCUED))
        return tally
    finally:
        _remove(work)
        _remove(begun)


def _remove(path: Path) -> None:
    """A database that is of no use any more, with its log."""
    for left in (path, *_sidecars(path)):
        left.unlink(missing_ok=True)


def _note_on_nothing(path: Path) -> str:
    """A file without a byte is what a kill at the very first moment leaves, or a loss."""
    losers = sorted(found.parent.name for found in path.parent.glob("*/study.json"))
    if not losers:
        return ""
    return (
        f"the ledger {path} is empty (0 bytes), though there are results of {', '.join(losers)} "
        "beside it: what it held is lost, and they begin anew"
    )


def _put_in_place(rescued: Path, path: Path) -> None:
    """A kill at any moment in here is made good by the next call."""
    for sidecar in _sidecars(path):  # a WAL of the damaged file would be played into the new one
        sidecar.unlink(missing_ok=True)
    os.replace(rescued, path)
    with suppress(OSError):  # not every file system lets a folder be synced
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def _nobody_else(path: Path, name: str) -> Iterator[None]:
    """Hold off every other connection to the file; refuse if there is one."""
    with open(path, "r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, *SHARED_BYTES)
        except OSError:
            raise StorageError(
                f"storage {name} is damaged, and another process has it open; end that first, then "
                "repeat the command"
            ) from None
        yield


def _copy(path: Path, to: Path) -> None:
    """The file and its WAL, on the disk when this returns."""
    for source, target in ((path, to), (_beside(path, "-wal"), _beside(to, "-wal"))):
        if source.exists():
            shutil.copyfile(source, target)
            with open(target, "rb") as file:
                os.fsync(file.fileno())


def _sidecars(path: Path) -> list[Path]:
    return [_beside(path, ending) for ending in SIDECARS]


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
