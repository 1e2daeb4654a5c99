"""Categories as text: the same value is the same word, however a table stores it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd


def in_words(table: "pd.DataFrame", names: Sequence[str]) -> NDArray[np.str_]:
    """Columns as text (rows, columns), empty where an entry is missing."""
    columns = [[word(value) for value in table[name]] for name in names]
    return np.array(columns, dtype=np.str_).reshape(len(names), len(table)).T


def word(value: object) -> str:
    """A value as text: 85255.0, which pandas makes of 85255 beside a gap, is 85255 again."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
