"""What can still be read of a damaged SQLite ledger, row by row, into a new file."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Table, create_engine

from torchstudy.execution import schema
from torchstudy.execution.leaves import PAGE, row_numbers
from torchstudy.execution.upgrading import create

WINDOW = 500  # rows that are read together until one of them is damaged
HEADER = 100  # bytes of a database file before its first page's own header
MAGIC = b"SQLite format 3\0"
JSON = {"studies": "summary", "trials": "config", "trainings": "metrics", "epochs": "row"}

Row = tuple[Any, ...]


@dataclass(slots=True, kw_only=True)
class Tally:
    """How many rows were read of each table, of how many its index knows, and what was dropped."""

    read: dict[str, int] = field(default_factory=dict)
    known: dict[str, int | None] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kept = [
            f"{count} of {_counted(self.known[name])} {name}" for name, count in self.read.items()
        ]
        return ", ".join(kept) + "".join(f"; {reason}" for reason in self.dropped)


def rescue(damaged: Path, new: Path) -> Tally | None:
    """Fill the ledger `new` from `damaged`, which is changed; None where nothing is a ledger's.

    A row is taken if it can be read and is what its columns say. As trials are counted from 0
    without a gap, those after a lost one are dropped, with what belongs to them.
    """
    beginning = damaged.read_bytes()[:HEADER] if damaged.stat().st_size < PAGE else _head(damaged)
    _lay_out(new)
    if not _is_readable(damaged):
        _give_first_page(damaged, new)
    tally = Tally()
    with closing(sqlite3.connect(new, isolation_level=None)) as target:
        target.execute("PRAGMA synchronous=FULL")
        target.execute("BEGIN")
        with closing(sqlite3.connect(damaged, isolation_level=None)) as source:
            with suppress(sqlite3.DatabaseError):
                source.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that all is in one file
            for table in schema.OLDEST:
                tally.known[table.name] = _known(source, table.name)
                _take(source, target, table, damaged)
        _drop_what_is_left_over(target, tally)
        for table in schema.OLDEST:
            count = target.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0]
            tally.read[table.name] = count
        target.execute("COMMIT")
    is_ours = any(tally.read.values()) or beginning.startswith(MAGIC) or not any(beginning)
    return tally if is_ours else None


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(PAGE)


def _lay_out(new: Path) -> None:
    """An empty ledger, its tables in the places where every ledger has them."""
    engine = create_engine(f"sqlite:///{new}")
    create(engine)
    engine.dispose()


def _is_readable(path: Path) -> bool:
    """Whether the list of tables can be read."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            names = connection.execute("SELECT name FROM sqlite_schema").fetchall()
    except sqlite3.DatabaseError:
        return False
    return {table.name for table in schema.OLDEST} <= {name for (name,) in names}


def _give_first_page(damaged: Path, new: Path) -> None:
    """Put the first page of a new ledger over that of a damaged one.

    It says where the tables begin, which is the same in both: format 2 made its own after them, and
    a row that is short of columns has their defaults.
    """
    first = bytearray(_head(new))
    pages = max(1, -(-damaged.stat().st_size // PAGE))
    first[28:32] = pages.to_bytes(4, "big")
    first[32:40] = bytes(8)  # no free pages
    first[92:96] = first[24:28]  # so that the number of pages is believed
    with open(damaged, "r+b") as file:
        file.write(first)
    damaged.with_name(f"{damaged.name}-wal").unlink(missing_ok=True)  # it is not of this page
    os.truncate(damaged, pages * PAGE)


def _known(source: sqlite3.Connection, table: str) -> int | None:
    """How many rows the table's index has; None where that cannot be read either."""
    try:
        return int(source.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    except sqlite3.DatabaseError:
        return None


def _take(
    source: sqlite3.Connection, target: sqlite3.Connection, table: Table, pages: Path
) -> None:
    try:
        there = {row[1] for row in source.execute(f"PRAGMA table_info({table.name})")}
    except sqlite3.DatabaseError:
        return
    names = [column.name for column in table.columns if column.name in there]
    places = ", ".join("?" for _ in names)
    statement = f"INSERT OR IGNORE INTO {table.name} ({', '.join(names)}) VALUES ({places})"
    found = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
    root = source.execute(found, (table.name,)).fetchone()[0]
    rows = _rows(source, table.name, names, row_numbers(pages, root))
    target.executemany(statement, (row for row in rows if _is_sound(table, names, row)))


def _rows(
    source: sqlite3.Connection, table: str, names: list[str], numbers: list[int]
) -> Iterator[Row]:
    """The rows of the given numbers that can be read, many at a time where all can."""
    query = f"SELECT {', '.join(names)} FROM {table} NOT INDEXED WHERE rowid BETWEEN ? AND ?"
    for at in range(0, len(numbers), WINDOW):
        window = numbers[at : at + WINDOW]
        try:
            yield from source.execute(query, (window[0], window[-1])).fetchall()
        except sqlite3.DatabaseError:
            for number in window:
                yield from _one(source, query, number)


def _one(source: sqlite3.Connection, query: str, number: int) -> list[Row]:
    try:
        return source.execute(query, (number, number)).fetchall()
    except sqlite3.DatabaseError:
        return []


def _is_sound(table: Table, names: list[str], row: Row) -> bool:
    """Whether every value is of its column's type, and what should be JSON is."""
    for name, value in zip(names, row, strict=True):
        kind = table.c[name].type.python_type
        if not isinstance(value, (float, int) if kind is float else kind):
            return False
        if name == JSON[table.name]:
            try:
                json.loads(str(value))
            except ValueError:
                return False
    return True


def _drop_what_is_left_over(target: sqlite3.Connection, tally: Tally) -> None:
    """Trials after a gap, and trainings and epochs whose trial is not there."""
    places = "SELECT study, family, number FROM trials"
    gone = target.execute(
        "DELETE FROM trials WHERE rowid IN (SELECT rowid FROM (SELECT rowid, number, row_number() "
        "OVER (PARTITION BY study, family ORDER BY number) AS place FROM trials) "
        "WHERE number <> place - 1)"
    ).rowcount
    if gone:
        tally.dropped.append(f"{gone} trials after a lost one were dropped")
    for table in ("trainings", "epochs"):
        gone = target.execute(
            f"DELETE FROM {table} WHERE (study, family, number) NOT IN ({places})"
        ).rowcount
        if gone:
            tally.dropped.append(f"{gone} {table} of lost trials were dropped")


def _counted(known: int | None) -> str:
    return "an unknown number of" if known is None else str(known)
