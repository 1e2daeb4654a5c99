"""The ledger's tables, and how a database is opened."""

from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Float,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    inspect,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from torchstudy.errors import StorageError, StudyError

metadata = MetaData()

studies = Table(
    "studies",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("declaration", Text, nullable=False),  # JSON: what must not change
    Column("summary", Text, nullable=False),  # JSON: study.json
    Column("state", String(20), nullable=False),  # running | interrupted | finished
    Column("owner", Text, nullable=False),  # JSON, empty when nobody holds the study
    Column("claimed", String(40), nullable=False),
)

trials = Table(
    "trials",
    metadata,
    Column("study", String(200), primary_key=True),
    Column("family", String(200), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("config", Text, nullable=False),  # JSON
    Column("origin", String(20), nullable=False),
    Column("proposed", String(40), nullable=False),
)

trainings = Table(
    "trainings",
    metadata,
    Column("study", String(200), primary_key=True),
    Column("family", String(200), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("seed", Integer, primary_key=True, autoincrement=False),
    Column("purpose", String(20), nullable=False),
    Column("status", String(20), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("epochs", Integer, nullable=False),
    Column("best_epoch", Integer, nullable=False),
    Column("parameters", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("started", String(40), nullable=False),
    Column("finished", String(40), nullable=False),
    Column("worker", String(200), nullable=False),
    Column("metrics", Text, nullable=False),  # JSON
    Column("tested", String(40), nullable=False),  # when the test split was read, or empty
    ForeignKeyConstraint(
        ["study", "family", "number"], ["trials.study", "trials.family", "trials.number"]
    ),
)

epochs = Table(
    "epochs",
    metadata,
    Column("study", String(200), primary_key=True),
    Column("family", String(200), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("seed", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("row", Text, nullable=False),  # JSON of records.Epoch
)


def open_database(url: str, *, read_only: bool = False) -> Engine:
    """An engine for an SQLAlchemy URL, with the tables there; nothing is made with `read_only`.

    SQLite runs in WAL mode (readers never block) with `synchronous=FULL`; a writing transaction
    takes its lock at once, so that two processes cannot both believe they came first. Raises
    StudyError for a URL that names nothing and StorageError for a database that cannot be used.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StudyError(
            f"storage {url!r} is not a database URL; give one like sqlite:///reports/studies.sqlite"
        ) from None
    if read_only and _is_missing_file(parsed):
        raise StorageError(f"storage {_shown(parsed)} cannot be read: there is no such file")
    try:
        engine = create_engine(parsed)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _prepare_reader if read_only else _prepare_sqlite)
            event.listen(engine, "begin", _begin)
        is_new = not inspect(engine).has_table(studies.name)
        if is_new and read_only:
            raise StorageError(f"storage {_shown(parsed)} holds no studies")
        if is_new:
            metadata.create_all(engine.execution_options(writes=True))
    except (SQLAlchemyError, ImportError) as error:
        cause = getattr(error, "orig", None) or error
        raise StorageError(f"storage {_shown(parsed)} cannot be used: {cause}") from None
    return engine


def _is_missing_file(url: URL) -> bool:
    """Whether the URL names a SQLite file that is not there, which opening would create."""
    is_file = url.get_backend_name() == "sqlite" and bool(url.database) and "uri" not in url.query
    return is_file and not Path(str(url.database)).exists()


def _shown(url: URL) -> str:
    return url.render_as_string(hide_password=True)


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
