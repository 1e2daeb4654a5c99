"""The table of epochs, made of the ledger's rows by the column: there may be half a million."""

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torchstudy.records import SECONDS, TrainingKey
from torchstudy.schemas import EPOCH_COLUMNS
from torchstudy.visible import storable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

Row = dict[str, object]

OWN = ("epoch", "seconds", "finished", "train_loss", "valid_loss", "learning_rate", "grad_norm")
NESTED = (("metrics", "valid_"), ("measured", ""), ("parts", ""))  # a field, its columns' prefix
BLOCK = 1 << 22  # bytes of JSON that are read at once; blocks of 1 MiB take a fifth longer
KINDS = {"int64": "Int64", "double": "float64", "bool": "boolean"}  # any other is text


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EpochTable:
    """`epochs` as a data frame, and what a row of `trials` takes from it."""

    table: "pd.DataFrame"
    keys: Sequence[TrainingKey]  # of the rows; those of a training stand together
    precision: Sequence[object]

    def last_rows(self) -> dict[TrainingKey, Row]:
        """For each training: `valid_*` and `precision` of its last epoch, seconds of all by part.

        Seconds are left out where no epoch was timed, metrics where the last one has none.
        """
        spans = self._spans()
        lasts = [end - 1 for _, end in spans]
        names = [name for name in self.table.columns if name.startswith("valid_")]
        values = {name: self.table[name].iloc[lasts].tolist() for name in names}
        timed = {name: self.table[name].to_numpy() for name in SECONDS}
        found: dict[TrainingKey, Row] = {}
        for place, (begin, end) in enumerate(spans):
            row: Row = {"precision": self.precision[end - 1] or None}
            for name, parts in timed.items():
                told = parts[begin:end]
                if (is_told := told == told).any():
                    row[name] = float(told[is_told].sum())
            for name in names:
                value = values[name][place]
                if name == "valid_loss" or not _is_missing(value):
                    row[name] = value
            found[self.keys[begin]] = row
        return found

    def curves(self, column: str) -> "dict[TrainingKey, npt.NDArray[np.float64]]":
        """A column's values of each training, by epoch; nothing where there is no such column."""
        if column not in self.table:
            return {}
        values = self.table[column].to_numpy(dtype="float64", na_value=math.nan)
        return {self.keys[begin]: values[begin:end] for begin, end in self._spans()}

    def _spans(self) -> list[tuple[int, int]]:
        """Where the rows of each training begin and end."""
        keys = self.keys
        firsts = [
            at
            for at, key in enumerate(keys)
            if at == 0 or (key is not keys[at - 1] and key != keys[at - 1])
        ]
        return list(itertools.pairwise([*firsts, len(self.keys)]))


def epoch_table(study: str, rows: Sequence[tuple[TrainingKey, str]]) -> EpochTable:
    """`epochs` of rows as `Ledger.epoch_texts` gives them: the schema's columns, then further ones.

    Further columns stand in the order in which they first appear.
    """
    import pandas as pd

    from torchstudy.analysis.tables import frame

    keys = [key for key, _ in rows]
    if not rows:
        return EpochTable(table=frame([], EPOCH_COLUMNS), keys=[], precision=[])
    parsed = _parsed([text for _, text in rows])
    columns = dict(_columns(parsed))
    identity: dict[str, Any] = {
        "study": [study] * len(keys),
        "family": [key.family for key in keys],
        "trial": [key.number for key in keys],
        "seed": [key.seed for key in keys],
    }
    given = {**columns, **identity}
    own = {name: given.pop(name, None) for name in EPOCH_COLUMNS}
    table = {name: _typed(own[name], kind, len(keys)) for name, kind in EPOCH_COLUMNS.items()}
    further = {name: columns[name] for name in given if columns[name].notna().any()}
    table |= dict(sorted(further.items(), key=lambda pair: _first_place(pair[1])))
    has_precision = "precision" in parsed.column_names
    precision = parsed["precision"].to_pylist() if has_precision else [""] * len(keys)
    return EpochTable(
        table=pd.DataFrame(table, index=pd.RangeIndex(len(keys))), keys=keys, precision=precision
    )


def _parsed(texts: Sequence[str]) -> "pa.Table":
    """Rows of JSON as columns; where a metric is a truth value here and a number there, numbers."""
    import pyarrow as pa
    from pyarrow import json as parser

    options = parser.ReadOptions(block_size=max(BLOCK, 2 * max(map(len, texts))))
    try:
        return parser.read_json(pa.BufferReader("\n".join(texts).encode()), read_options=options)
    except pa.ArrowInvalid:
        rows = [json.loads(text) for text in texts]
        for row in rows:
            for name, _ in NESTED:
                row[name] = {storable(k): float(v) for k, v in row.get(name, {}).items()}
        return pa.Table.from_struct_array(pa.array(rows))


def _columns(parsed: "pa.Table") -> "Iterator[tuple[str, pd.Series[Any]]]":
    """Every column of the epochs by its name in the table."""
    for name in OWN:
        if name in parsed.column_names:
            yield name, parsed[name].to_pandas()
    for name, prefix in NESTED:
        if name not in parsed.column_names:
            continue
        for field in parsed[name].type:
            values = parsed[name].combine_chunks().field(field.name)
            kind = KINDS.get(str(field.type), "string")
            yield f"{prefix}{field.name}", _typed(values.to_pandas(), kind, len(values))


def _typed(values: Any, kind: str, length: int) -> "pd.Series[Any]":
    """A column of the table; None stands for one that is missing everywhere."""
    import pandas as pd

    given: pd.Series[Any] = pd.Series([None] * length if values is None else values)
    if kind.startswith("datetime64"):
        return pd.to_datetime(given, utc=True, format="ISO8601").dt.as_unit("us")
    typed: pd.Series[Any] = given.astype(kind)  # type: ignore[call-overload]  # a name of the schema
    return typed


def _first_place(column: "pd.Series[Any]") -> int:
    """The first row in which there is a value."""
    return int(column.notna().to_numpy().argmax())


def _is_missing(value: object) -> bool:
    import pandas as pd

    return value is pd.NA or value is None or value != value
