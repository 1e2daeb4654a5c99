"""How ledgers of other versions are met: earlier ones get what they lack, later ones are refused.

Format 1 had no table `format`; format 2 added it, `trainings.losses`, `trainings.environment` and
`studies.seen`, format 3 `trials.decisions`, format 4 `trainings.readings` and `tested_by`, format 5
`trainings.earlier` and `studies.error`. Every new column has a default, so that a program of an
earlier version can go on writing to a ledger that has been brought up to date.
"""

from typing import Any

from sqlalchemy import Column, Connection, Engine, Table, event, insert, inspect, select, update
from sqlalchemy.schema import CreateColumn

from torchstudy.errors import StorageError
from torchstudy.execution import schema


def create(engine: Engine) -> None:
    """Make the tables in an empty database, those of format 1 first.

    So the first tables lie in the same place in every ledger, which rescue.py relies on.
    """
    with engine.execution_options(writes=True).begin() as connection:
        schema.metadata.create_all(connection, tables=list(schema.OLDEST))
        _mark(connection)


def bring_up_to_date(engine: Engine, name: str) -> None:
    """Add what a ledger of an earlier version lacks; raises StorageError for a later one's."""
    with engine.connect() as connection:
        is_current = _is_current(connection, name)
    if is_current:
        return
    with engine.execution_options(writes=True).begin() as connection:
        for table, column in _missing(connection):
            lines = CreateColumn(column).compile(dialect=engine.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {lines}")
        _mark(connection)


def read_as_current(engine: Engine, name: str) -> None:
    """Let a reader see the columns that its ledger lacks, without changing it.

    A temporary view takes the place of a table for its connection alone.
    """
    with engine.connect() as connection:
        if _is_current(connection, name):
            return
        place = inspect(connection).default_schema_name or "main"
        lacking: dict[Table, list[Column[Any]]] = {}
        for table, column in _missing(connection):
            lacking.setdefault(table, []).append(column)
    views = [_view(table, columns, place) for table, columns in lacking.items()]

    def make_views(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        for view in views:
            cursor.execute(view)
        cursor.close()
        if engine.dialect.name != "sqlite":
            connection.commit()

    engine.dispose()
    event.listen(engine, "connect", make_views)


def _is_current(connection: Connection, name: str) -> bool:
    if not inspect(connection).has_table(schema.formats.name):
        return False
    found = max(connection.execute(select(schema.formats.c.version)).scalars(), default=1)
    if found > schema.FORMAT:
        raise StorageError(
            f"storage {name} was written by a later version of torchstudy (format {found}, this "
            f"version knows {schema.FORMAT}); upgrade torchstudy to use it"
        )
    return found == schema.FORMAT


def _missing(connection: Connection) -> list[tuple[Table, Column[Any]]]:
    inspector = inspect(connection)
    return [
        (table, column)
        for table in schema.OLDEST
        for there in [{found["name"] for found in inspector.get_columns(table.name)}]
        for column in table.columns
        if column.name not in there
    ]


def _mark(connection: Connection) -> None:
    schema.formats.create(connection, checkfirst=True)
    if not connection.execute(update(schema.formats).values(version=schema.FORMAT)).rowcount:
        connection.execute(insert(schema.formats).values(version=schema.FORMAT))


def _view(table: Table, columns: list[Column[Any]], place: str) -> str:
    filled = [
        f"CAST('{column.server_default.arg}' AS {column.type.compile()}) AS {column.name}"  # type: ignore[union-attr]
        for column in columns
    ]
    return (
        f"CREATE TEMPORARY VIEW {table.name} AS "
        f"SELECT own.*, {', '.join(filled)} FROM {place}.{table.name} AS own"
    )
