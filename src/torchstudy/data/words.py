"""Entries of a table as text and as numbers, the same however the table stores them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from torchstudy.visible import storable

if TYPE_CHECKING:
    import pandas as pd


def text_names(table: "pd.DataFrame") -> "pd.DataFrame":
    """The table with names of columns that are text; the given one stays as it is."""
    return table.set_axis([storable(str(name)) for name in table.columns], axis=1)


def in_words(table: "pd.DataFrame", names: Sequence[str]) -> NDArray[np.str_]:
    """Columns as text (rows, columns), empty where an entry is missing."""
    columns = [words_of(table[name]) for name in names]
    return np.array(columns, dtype=np.str_).reshape(len(names), len(table)).T


def words_of(column: "pd.Series[Any]") -> list[str]:
    """The entries of a column as text, empty where one is missing."""
    entries = zip(column, column.isna(), strict=True)
    return ["" if is_missing else word(value) for value, is_missing in entries]


def word(value: object) -> str:
    """A value as text: 85255.0, which pandas makes of 85255 beside a gap, is 85255 again."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return storable(str(value).strip())


def in_numbers(table: "pd.DataFrame", names: Sequence[str]) -> NDArray[np.float64]:
    """Columns as float64 (rows, columns), NaN where an entry is missing or no number."""
    numbers = np.empty((len(table), len(names)))
    for at, name in enumerate(names):
        numbers[:, at] = numbers_of(table[name])
    return numbers


def numbers_of(column: "pd.Series[Any]") -> NDArray[np.float64]:
    """The entries of a column as float64, NaN where one is missing or no number."""
    import pandas as pd

    plain = column.astype(object) if isinstance(column.dtype, pd.CategoricalDtype) else column
    numbers: Any = pd.to_numeric(plain, errors="coerce")
    values: NDArray[np.float64] = numbers.to_numpy("float64", na_value=np.nan)
    return values
