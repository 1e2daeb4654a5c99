"""Columns as a network takes them: numbers standardised, categories as codes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from torchstudy.data.listing import Rows
from torchstudy.data.spec import DataSpec
from torchstudy.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

MIN_SPREAD = 1e-9  # of a column; a constant one must not be divided by zero

Numbers = NDArray[np.float32]
Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """What the training split says of the columns: statistics, and the values that occur."""

    number_means: tuple[float, ...]
    number_stds: tuple[float, ...]
    category_values: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, rows: Rows, train: NDArray[np.int64]) -> "Encoding":
        """The encoding that the training items teach; missing numbers are left out."""
        numbers = rows.numbers[train]
        present = ~np.isnan(numbers)
        counts = np.maximum(present.sum(axis=0), 1)
        means = np.where(present, numbers, 0).sum(axis=0) / counts
        squares = np.where(present, (numbers - means) ** 2, 0).sum(axis=0) / counts
        return cls(
            number_means=tuple(means.tolist()),
            number_stds=tuple(np.maximum(np.sqrt(squares), MIN_SPREAD).tolist()),
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

    DataError lists missing columns, text among numbers and, unless `unknown` is "other", values
    that did not occur in training. None where the data have no such columns.
    """
    from torchstudy.data.columns import number_problems
    from torchstudy.data.words import in_words

    wanted = [*data.numbers, *data.categories]
    names = [str(name) for name in table.columns]
    problems = [
        f"the table lacks the column {name!r}{did_you_mean(name, names)}; the model takes "
        f"{', '.join(wanted)}"
        for name in wanted
        if name not in names
    ]
    if problems:
        raise DataError(problems)
    encoding = Encoding(
        number_means=data.number_means,
        number_stds=data.number_stds,
        category_values=data.category_values,
    )
    words = in_words(table, data.categories)
    problems = [p for name in data.numbers for p in number_problems(table[name], "the table")]
    codes = encoding.codes(words)
    if unknown == "error":
        problems += _unknown_values(words, codes, data)
    if problems:
        raise DataError(problems)
    numbers = encoding.numbers(as_numbers(table, data.numbers)) if data.numbers else None
    return numbers, codes if data.categories else None


def column_notes(rows: Rows, encoding: Encoding) -> Iterator[str]:
    """What had to be filled in, one sentence per column."""
    for name, column in zip(rows.number_names, rows.numbers.T, strict=True):
        if missing := int(np.isnan(column).sum()):
            yield f"column {name!r}: {missing} missing numbers count as the training mean"
    unseen = (encoding.codes(rows.words) == 0).sum(axis=0) if rows.category_names else ()
    for name, count in zip(rows.category_names, unseen, strict=True):
        if count:
            yield f"column {name!r}: {count} entries are missing or do not occur in training"


def as_numbers(table: "pd.DataFrame", names: Sequence[str]) -> NDArray[np.float64]:
    """Columns as float64 (rows, columns), NaN where an entry is missing."""
    import pandas as pd

    numbers = np.empty((len(table), len(names)))
    for at, name in enumerate(names):
        column: Any = pd.to_numeric(table[name], errors="coerce")
        numbers[:, at] = column.to_numpy("float64", na_value=np.nan)
    return numbers


def _unknown_values(words: NDArray[np.str_], codes: Codes, data: DataSpec) -> Iterator[str]:
    for at, name in enumerate(data.categories):
        rows = np.flatnonzero(codes[:, at] == 0)
        if not len(rows):
            continue
        value, known = str(words[rows[0], at]), data.category_values[at]
        shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
        yield (
            f"column {name!r}: {value!r} in row {rows[0] + 1} did not occur in training"
            f"{did_you_mean(value, known)}; known are {shown} (unknown='other' takes any value)"
        )
