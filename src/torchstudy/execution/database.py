"""How the ledger's database is opened, and its transactions."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    IntegrityError,
    ProgrammingError,
    SQLAlchemyError,
)

from torchstudy.errors import RunError, StorageError, StudyError
from torchstudy.execution import schema
from torchstudy.execution.integrity import advice, checked
from torchstudy.execution.redaction import redacted, shown, without_secrets
from torchstudy.execution.upgrading import bring_up_to_date, create, read_as_current
from torchstudy.failpoints import failpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A database with the ledger's tables, and what there was to repair in it."""

    engine: Engine
    note: str = ""


class Database:
    """Transactions that are wholly done or not at all; what goes wrong is a RunError."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def is_private(self) -> bool:
        """Whether it is in this process's memory, where no other can see it."""
        return self.engine.dialect.name == "sqlite" and not self.engine.url.database

    def close(self) -> None:
        """Let go of every connection."""
        self.engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is durable once this ends."""
        try:
            with self.engine.execution_options(writes=True).begin() as connection:
                yield connection
                failpoint("before-ledger-commit")
            failpoint("after-ledger-commit")
        except (IntegrityError, ProgrammingError):  # only a bug breaks a rule of the tables
            raise
        except DatabaseError as error:
            raise RunError(f"the ledger cannot be written: {self._cause(error)}") from None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A view of one moment, which no writer waits for."""
        try:
            with self.engine.connect() as connection:
                yield connection
        except DatabaseError as error:
            raise RunError(f"the ledger cannot be read: {self._cause(error)}") from None

    def _cause(self, error: DatabaseError) -> str:
        return advice(without_secrets(self.engine.url, str(error.orig)))


def now() -> str:
    """The time for a stamp: UTC, ISO 8601. Durations are never taken from it."""
    return datetime.now(UTC).isoformat()


def open_database(url: str, *, read_only: bool = False) -> Opened:
    """The database of an SQLAlchemy URL, with the tables there; nothing is made with `read_only`.

    SQLite runs in WAL mode (readers never block) with `synchronous=FULL`; a writing transaction
    takes its lock at once, so that two processes cannot both believe they came first. Raises
    StudyError for a URL that names nothing and StorageError for a database that cannot be used.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # of a port that is no number
        raise StudyError(
            f"storage {redacted(url)!r} is not a database URL; give one like "
            "sqlite:///reports/studies.sqlite"
        ) from None
    name, path = shown(parsed), _file_of(parsed)
    if read_only and path is not None and not path.exists():
        raise StorageError(f"storage {name} cannot be read: there is no such file")
    note = "" if read_only or path is None else checked(path, name)
    try:
        engine = create_engine(parsed)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _prepare_reader if read_only else _prepare_sqlite)
            event.listen(engine, "begin", _begin)
        is_new = not inspect(engine).has_table(schema.studies.name)
        if is_new and read_only:
            raise StorageError(f"storage {name} holds no studies")
        if is_new:
            create(engine)
        (read_as_current if read_only else bring_up_to_date)(engine, name)
    except (SQLAlchemyError, ImportError) as error:
        cause = without_secrets(parsed, str(getattr(error, "orig", None) or error))
        raise StorageError(f"storage {name} cannot be used: {advice(cause)}") from None
    return Opened(engine=engine, note=note)


def _file_of(url: URL) -> Path | None:
    """The SQLite file that the URL names, which opening would create."""
    is_file = url.get_backend_name() == "sqlite" and bool(url.database) and "uri" not in url.query
    return Path(str(url.database)) if is_file and url.database != ":memory:" else None


def _prepare_reader(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions are begun by _begin
    connection.execute("PRAGMA busy_timeout=30000")


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions are begun by _begin
    for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
