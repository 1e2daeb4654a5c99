"""The tables of a study, as its ledger has them: for a terminal, for a file, for the report."""

import gc
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from torchstudy.errors import StudyError
from torchstudy.stored import find_study, reading, writing
from torchstudy.visible import on_one_line

if TYPE_CHECKING:
    import pandas as pd

MAX_COLUMN = 40  # letters of a cell in a printed table
SCORES = ("best_valid_", "valid_", "select_", "test_")  # columns that are shown early
GAP = 3  # letters between two columns
AFTER_SCORES = ("pending", "reason", "origin", "chosen", "seconds")


def study_table(
    reports: Path, storage: str | None, study: str, what: str, repeat: int | None = None
) -> "pd.DataFrame":
    """One of the tables of a study, or of one of its searches, as it stands in the ledger."""
    from torchstudy.execution.outputs import tables

    with reading(reports, storage) as opened:
        ledger, state = find_study(opened, reports, study, repeat)
        if what == "repeats" and repeat is not None:
            raise StudyError(
                "the table of repeats has a row for every search: leave out --repeat, or ask for "
                "another table"
            )
        return tables(ledger, state, [what])[what]


def exported(table: "pd.DataFrame", format: str) -> bytes:
    """A table as the bytes of a csv, json (records) or parquet file."""
    if format == "csv":
        from torchstudy.spreadsheets import csv_pieces

        return b"".join(csv_pieces(table))
    if format == "json":
        records = json.loads(str(table.to_json(orient="records", date_format="iso")))
        return (json.dumps(records, indent=2) + "\n").encode()
    parquet = table.to_parquet(index=False)
    assert isinstance(parquet, bytes)
    return parquet


def frame_lines(table: "pd.DataFrame", width: int) -> tuple[list[str], list[list[str]], list[str]]:
    """Header and cells of a table for `width` letters, and the columns there is no room for.

    Scores come early; columns that are empty are left out.
    """
    shown = table.drop(columns=["study", "worker", "started"], errors="ignore")
    names = [name for name in shown.columns if not name.startswith(SCORES)]
    place = next((i for i, name in enumerate(names) if _is_after_scores(name)), len(names))
    scores = [name for name in shown.columns if name.startswith(SCORES)]
    scores.sort(key=lambda name: not name.startswith("best_"))
    columns = [
        [str(name).removeprefix("config."), *map(_cell, shown[name])]
        for name in [*names[:place], *scores, *names[place:]]
    ]
    columns = [column for column in columns if set(column[1:]) - {"", "-"}]
    ends = itertools.accumulate(max(map(len, column)) + GAP for column in columns)
    room = max(1, sum(end <= width + GAP for end in ends))
    header, *rows = zip(*columns[:room], strict=True) if columns else ((),)
    return list(header), [list(row) for row in rows], [column[0] for column in columns[room:]]


def _is_after_scores(name: str) -> bool:
    return name in AFTER_SCORES or name.startswith("config.")


def redraw_report(
    reports: Path, storage: str | None, study: str, out: Path | None, repeat: int | None = None
) -> Path:
    """Write tables and report from the ledger again; the report's path."""
    from torchstudy.execution.outputs import write_tables
    from torchstudy.report.page import write_report

    with _uncollected():
        with reading(reports, storage) as opened:
            ledger, state = find_study(opened, reports, study, repeat)
            folder = reports / state.name
            with writing(folder):
                write_tables(ledger, state, folder)
        with writing(out or folder):
            return write_report(folder, out)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without Python's search for cycles: it would look at half a million rows again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _cell(value: object) -> str:
    import pandas as pd

    if pd.isna(value):  # type: ignore[call-overload]  # every cell is a scalar
        return "-"
    if isinstance(value, pd.Timestamp):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    line = on_one_line(text.strip().rpartition("\n")[2])
    return line if len(line) <= MAX_COLUMN else line[: MAX_COLUMN - 1] + "…"
