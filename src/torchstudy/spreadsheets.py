"""How a table becomes CSV in which no spreadsheet finds a formula."""

import re
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FORMULA = re.compile("[ \t\r\n\u00a0\ufeff]*[=+\\-@]|[\t\r\n]")
"""The beginning of a text that spreadsheets run, or that would begin a cell of its own; script.js
of the report has the same rule."""
MANY = 10_000  # rows from which a table is written by the column
QUOTED = frozenset(',"\r\n')  # characters of which a cell needs quotes
PRIVATE = range(0xE000, 0xF900)  # characters that stand for nothing


def as_csv(table: pd.DataFrame) -> str:
    """The table as CSV with a header; lines end with one line feed, missing entries are empty.

    Text that begins like a formula, in a header or a cell, gets an apostrophe before it. Numbers,
    booleans and times stay as they are; Parquet holds every text as it is.
    """
    safe = _with_texts(table, guarded)
    texts = {text for _, column in safe.items() for text in _texts(column)}
    texts |= set(safe.columns)
    if not any("\r" in text for text in texts):
        return _plain_csv(safe)
    # pandas leaves a cell with a lone carriage return unquoted: readers take it for a line's end.
    unused = next(chr(code) for code in PRIVATE if not any(chr(code) in text for text in texts))
    marked = _with_texts(safe, lambda text: text.replace("\r", f"\n{unused}"))
    return _plain_csv(marked).replace(f"\n{unused}", "\r")


def guarded(text: str) -> str:
    """The text, with an apostrophe before it if it begins like a formula."""
    return f"'{text}" if FORMULA.match(text) else text


def _plain_csv(table: pd.DataFrame) -> str:
    texts = [*map(str, table.columns), *(text for _, own in table.items() for text in _texts(own))]
    if len(table) < MANY or any(set(text) & QUOTED for text in texts):
        return str(table.to_csv(index=False, lineterminator="\n"))
    return _long_csv(table)


def _long_csv(table: pd.DataFrame) -> str:
    """As pandas writes it, but by the column: about three times as fast.

    The numbers are the same; very small and large ones may be spelled otherwise (`1.5e-7`).
    """
    import pyarrow.compute as compute

    cells = [_cells(column) for _, column in table.items()]
    lines = compute.binary_join_element_wise(*cells, ",").to_pylist()
    return "\n".join([",".join(map(str, table.columns)), *lines, ""])


def _cells(column: "pd.Series[Any]") -> Any:
    """A column as an array of texts, empty where something is missing."""
    import pyarrow as pa
    import pyarrow.compute as compute

    if isinstance(column.dtype, pd.DatetimeTZDtype) and str(column.dtype.tz) == "UTC":
        return _times(column)
    if not pd.api.types.is_float_dtype(column):
        return pa.array(column.astype("string").fillna(""), type=pa.string())
    numbers = pa.array(column, from_pandas=True)
    texts = numbers.cast(pa.string()).fill_null("")
    whole = compute.equal(numbers, compute.trunc(numbers)).fill_null(False)
    if not compute.any(whole).as_py():
        return texts
    pointed = compute.replace_substring_regex(texts.filter(whole), r"^(-?\d+)$", r"\1.0")
    return compute.replace_with_mask(texts, whole, pointed)


def _times(column: "pd.Series[Any]") -> Any:
    """Times as pandas writes them, with as many decimals as any has, in a twentieth of the time."""
    import pyarrow as pa
    import pyarrow.compute as compute

    times: NDArray[np.datetime64] = column.dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    known = times[~np.isnat(times)].astype("int64")
    unit: Literal["s", "ms", "us"] = "us"
    if not (known % 1_000).any():
        unit = "ms" if (known % 1_000_000).any() else "s"
    texts = np.ascontiguousarray(np.datetime_as_string(times, unit=unit))
    texts.view("U1").reshape(len(texts), -1)[:, 10] = " "  # in place of the T
    joined = compute.binary_join_element_wise(pa.array(texts), "+00:00", "")
    return compute.if_else(pa.array(np.isnat(times)), "", joined)


def _with_texts(table: pd.DataFrame, changed: Callable[[str], str]) -> pd.DataFrame:
    """The table with every text of it changed, in the header too."""
    columns = [_changed(column, changed) for _, column in table.items()]
    whole = pd.concat(columns, axis=1) if columns else table
    return whole.set_axis([changed(str(name)) for name in table.columns], axis=1)


def _changed(column: "pd.Series[Any]", changed: Callable[[str], str]) -> "pd.Series[Any]":
    new = {text: changed(text) for text in _texts(column)}
    if all(text == other for text, other in new.items()):
        return column
    return column.map(lambda cell: new[cell] if isinstance(cell, str) else cell)


def _texts(column: "pd.Series[Any]") -> list[str]:
    """The different texts in a column."""
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        return []
    return [cell for cell in column.dropna().unique() if isinstance(cell, str)]
