"""Columns as a network takes them: numbers standardised, categories as codes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from torchstudy.data.listing import Rows
from torchstudy.data.spec import DataSpec
from torchstudy.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

SAME = 1e-12  # of the mean: a column that varies less is constant, up to rounding
SHOWN = 3  # values named in a message

Numbers: TypeAlias = NDArray[np.float32]
Codes: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """What the training split says of the columns: statistics, and the values that occur."""

    number_means: tuple[float, ...]
    number_stds: tuple[float, ...]  # 1 for a column that never changes
    category_values: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, rows: Rows, train: NDArray[np.int64]) -> "Encoding":
        """The encoding that the training items teach; missing entries are left out."""
        numbers = rows.numbers[train]
        present = ~np.isnan(numbers)
        counts = np.maximum(present.sum(axis=0), 1)
        means = np.where(present, numbers, 0).sum(axis=0) / counts
        squares = np.where(present, (numbers - means) ** 2, 0).sum(axis=0) / counts
        stds = np.sqrt(squares)
        stds[stds <= SAME * np.abs(means)] = 1
        return cls(
            number_means=tuple(means.tolist()),
            number_stds=tuple(stds.tolist()),
            category_values=tuple(
                tuple(np.unique(column[column != ""]).tolist()) for column in rows.words[train].T
            ),
        )

    def numbers(self, raw: NDArray[np.float64]) -> Numbers:
        """Standardised numbers (items, columns); a missing one becomes 0, the mean."""
        scaled = (raw - np.array(self.number_means)) / np.array(self.number_stds)
        filled: Numbers = np.nan_to_num(scaled, nan=0.0).astype(np.float32)
        return filled

    def codes(self, words: NDArray[np.str_]) -> Codes:
        """Codes (items, columns) from 1 in the order of `category_values`; 0 for any other."""
        codes = np.zeros(words.shape, dtype=np.int64)
        for at, values in enumerate(self.category_values):
            known = {value: code for code, value in enumerate(values, start=1)}
            codes[:, at] = [known.get(str(word), 0) for word in words[:, at]]
        return codes


def encode_table(
    table: "pd.DataFrame", data: DataSpec, *, unknown: Literal["error", "other"] = "error"
) -> tuple[Numbers | None, Codes | None]:
    """The columns of new rows as a model takes them: numbers (rows, n) and codes (rows, k).

    None where the data have no such columns. As in training a missing number counts as the mean,
    and a missing category as unlike all others. DataError lists missing columns, text among numbers
    and, unless `unknown` is "other", categories that did not occur in training.
    """
    from torchstudy.data.words import in_numbers, in_words, text_names

    table = text_names(table)
    problems = [*_column_problems(table, data), *_number_problems(table, data)]
    if unknown == "error":
        problems += _category_problems(table, data)
    if problems:
        raise DataError(problems)
    encoding = Encoding(
        number_means=data.number_means,
        number_stds=data.number_stds,
        category_values=data.category_values,
    )
    numbers = encoding.numbers(in_numbers(table, data.numbers)) if data.numbers else None
    codes = encoding.codes(in_words(table, data.categories)) if data.categories else None
    return numbers, codes


def column_notes(rows: Rows, encoding: Encoding) -> Iterator[str]:
    """What had to be filled in, one sentence per column."""
    for name, column in zip(rows.number_names, rows.numbers.T, strict=True):
        if missing := int(np.isnan(column).sum()):
            counts = "number counts" if missing == 1 else "numbers count"
            yield f"column {name!r}: {missing} missing {counts} as the training mean"
    codes = encoding.codes(rows.words)
    for name, words, known in zip(rows.category_names, rows.words.T, codes.T, strict=True):
        if missing := int((words == "").sum()):
            entries = "missing entry counts" if missing == 1 else "missing entries count"
            yield f"column {name!r}: {missing} {entries} as unknown"
        if unseen := int((known == 0).sum()) - missing:
            values, count = ("entry does", "counts") if unseen == 1 else ("entries do", "count")
            yield (
                f"column {name!r}: {unseen} {values} not occur in training and {count} as unknown"
            )


def _column_problems(table: "pd.DataFrame", data: DataSpec) -> Iterator[str]:
    names, wanted = list(table.columns), (*data.numbers, *data.categories)
    for name in wanted:
        if name not in names:
            hint = did_you_mean(name, names)
            yield f"the table lacks the column {name!r}{hint}; the model takes {', '.join(wanted)}"
        elif names.count(name) > 1:
            yield f"the table has the column {name!r} twice"


def _present(table: "pd.DataFrame", names: tuple[str, ...]) -> Iterator["pd.Series[Any]"]:
    once = [name for name in names if list(table.columns).count(name) == 1]
    return (table[name] for name in once)


def _number_problems(table: "pd.DataFrame", data: DataSpec) -> Iterator[str]:
    from torchstudy.data.columns import number_problems

    for column in _present(table, data.numbers):
        remedy = "give numbers, or leave the entries empty for the mean"
        yield from number_problems(column, f"column {column.name!r}", remedy)


def _category_problems(table: "pd.DataFrame", data: DataSpec) -> Iterator[str]:
    from torchstudy.data.words import words_of

    values_of = dict(zip(data.categories, data.category_values, strict=True))
    for column in _present(table, data.categories):
        known = values_of[str(column.name)]
        first: dict[str, int] = {}
        for row, value in enumerate(words_of(column), start=1):
            if value and value not in known:
                first.setdefault(value, row)
        if first:
            more = f" and {len(first) - SHOWN} more" if len(first) > SHOWN else ""
            wrong = ", ".join(_unknown(*item, known) for item in list(first.items())[:SHOWN])
            shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
            yield (
                f"column {column.name!r} has what the model does not know: {wrong}{more}; it knows "
                f"{shown}; correct the entries, or let any value pass (unknown='other' in Python, "
                "--unknown other at the command line)"
            )


def _unknown(value: str, row: int, known: tuple[str, ...]) -> str:
    return f"row {row} has {value!r}{did_you_mean(value, known)}"
