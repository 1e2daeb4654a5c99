"""CSV that spreadsheets open harmlessly, and that programs read as it was."""

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from torchstudy import spreadsheets
from torchstudy.analysis.tables import write_table
from torchstudy.spreadsheets import as_csv, csv_pieces, guarded

FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n1", " =1", "\u00a0+1", "\ufeff@x")


def cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("text", FORMULAS)
def test_text_that_begins_like_a_formula_gets_an_apostrophe(text: str) -> None:
    assert guarded(text) == f"'{text}"
    table = pd.DataFrame({"x": pd.array([text, "plain"], dtype="string")})
    assert cells(as_csv(table)) == [["x"], [f"'{text}"], ["plain"]]


@pytest.mark.parametrize("text", ["", " ", "a=1", "1-1", "'=1", "x@y", "</script>"])
def test_other_text_stays(text: str) -> None:
    assert guarded(text) == text


def test_numbers_booleans_times_and_gaps_are_untouched() -> None:
    table = pd.DataFrame(
        {
            "float": [-1.5, np.nan],
            "int": pd.array([-3, None], dtype="Int64"),
            "bool": pd.array([True, None], dtype="boolean"),
            "time": pd.to_datetime(["2026-01-01", None], utc=True),
            "text": pd.array([None, "b"], dtype="string"),
        }
    )
    assert as_csv(table) == table.to_csv(index=False, lineterminator="\n")


@pytest.mark.parametrize("dtype", ["string", "object", "category"])
def test_text_is_guarded_however_pandas_keeps_it(dtype: str) -> None:
    table = pd.DataFrame({"x": pd.Series(["=1", "a", None], dtype=dtype), "y": 0})
    assert as_csv(table) == "x,y\n'=1,0\na,0\n,0\n"


def test_headers_are_guarded_too_and_may_repeat() -> None:
    table = pd.DataFrame([["a", 1.0]], columns=["=x", "=x"])
    assert as_csv(table) == "'=x,'=x\na,1.0\n"


def test_a_carriage_return_begins_no_row_of_its_own() -> None:
    odd = ["a\r=1+1", "\r", "a\r\nb", 'q"\r', "\ue000\r", "plain"]
    table = pd.DataFrame({"x": odd, "y\rz": range(len(odd))})
    read = cells(as_csv(table))
    assert [row[0] for row in read] == ["x", *map(guarded, odd)]
    assert read[0][1] == "y\rz"


@pytest.mark.parametrize("size", [7, spreadsheets.MANY + 7])
def test_a_table_of_any_length_is_read_back_as_it_was(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spreadsheets, "PIECE", 100)  # the last piece has seven rows
    odd = [*FORMULAS, "", "a,b", 'q"', "two\nlines", "é\U0001f600", "\ue000\r", "</script>"]
    texts = [odd[place % len(odd)] for place in range(size)]
    table = pd.DataFrame(
        {
            "=te,xt": pd.array(texts, dtype="string"),
            "plain": texts,
            "share": np.random.default_rng(0).normal(size=size),
            "round": pd.array([place if place % 3 else None for place in range(size)], "Int64"),
        }
    )
    text = as_csv(table)
    assert b"".join(csv_pieces(table)) == text.encode()
    header, *rows = cells(text)
    assert header == ["'=te,xt", "plain", "share", "round"]
    assert [row[0] for row in rows] == [row[1] for row in rows] == [*map(guarded, texts)]
    assert [float(row[2]) for row in rows] == table["share"].tolist()
    assert [row[3] for row in rows] == [str(n) if n % 3 else "" for n in range(size)]


@pytest.mark.parametrize("size", [3, 3 * spreadsheets.MANY])
def test_an_empty_cell_of_a_single_column_is_a_row(size: int) -> None:
    column = pd.array([None, "a", ""] * (size // 3), dtype="string")
    assert cells(as_csv(pd.DataFrame({"x": column}))) == [["x"], *[[""], ["a"], [""]] * (size // 3)]


def test_a_table_on_disk_is_exact_in_parquet_and_guarded_in_csv(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": pd.array([*FORMULAS, "\x1b[2J"], dtype="string")})
    write_table(table, tmp_path / "t")
    assert list(pd.read_parquet(tmp_path / "t.parquet")["x"]) == [*FORMULAS, "\x1b[2J"]
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        assert [row[0] for row in csv.reader(file)][1:] == [*map(guarded, FORMULAS), "\x1b[2J"]
