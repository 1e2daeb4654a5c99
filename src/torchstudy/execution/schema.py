"""The ledger's tables, and how a database is opened."""

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
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from torchstudy.errors import RunError, StudyError

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


def open_database(url: str) -> Engine:
    """An engine for an SQLAlchemy URL, with the tables there.

    SQLite runs in WAL mode (readers never block) with `synchronous=FULL`; a writing transaction
    takes its lock at once, so that two processes cannot both believe they came first. Raises
    StudyError for a URL that names nothing and RunError for a database that cannot be used.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StudyError(
            f"storage {url!r} is not a database URL; give one like sqlite:///reports/studies.sqlite"
        ) from None
    try:
        engine = create_engine(parsed)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin)
        if not inspect(engine).has_table(studies.name):
            metadata.create_all(engine.execution_options(writes=True))
    except (SQLAlchemyError, ImportError) as error:
        shown = parsed.render_as_string(hide_password=True)
        cause = getattr(error, "orig", None) or error
        raise RunError(f"storage {shown} cannot be used: {cause}") from None
    return engine


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions are begun by _begin
    for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
