"""What a study's tables hold: reading, writing, and the frames that the report draws."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from torchstudy.arrays import DAMAGE, opened_arrays
from torchstudy.errors import StudyError
from torchstudy.files import written_aside
from torchstudy.records import Bound, Objective, Status, bounds_in, objectives_in
from torchstudy.schemas import (
    ATTEMPT_COLUMNS,
    CODE_COLUMNS,
    CONFIRMATION_COLUMNS,
    EPOCH_COLUMNS,
    LATER_COLUMNS,
    PREDICTION_COLUMNS,
    PROPOSAL_COLUMNS,
    REPEAT_COLUMNS,
    TRIAL_COLUMNS,
)
from torchstudy.spreadsheets import csv_pieces
from torchstudy.values import plain
from torchstudy.visible import storable

FURTHER = {
    "epochs": EPOCH_COLUMNS,
    "confirmation": CONFIRMATION_COLUMNS,
    "proposals": PROPOSAL_COLUMNS,
    "repeats": REPEAT_COLUMNS,
    "attempts": ATTEMPT_COLUMNS,
}
"""The tables that a study's folder may have beside `trials`."""

Gallery: TypeAlias = dict[int, dict[str, npt.NDArray[np.uint8]]]

CONFIG = "config."
VALID = "valid_"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Results:
    """Everything a finished or running study left behind."""

    trials: pd.DataFrame
    epochs: pd.DataFrame
    confirmation: pd.DataFrame
    summary: dict[str, Any]
    predictions: Mapping[str, pd.DataFrame]
    folder: Path
    codes: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    proposals: pd.DataFrame = field(default_factory=lambda: frame([], PROPOSAL_COLUMNS))
    repeats: pd.DataFrame = field(default_factory=lambda: frame([], REPEAT_COLUMNS))
    attempts: pd.DataFrame = field(default_factory=lambda: frame([], ATTEMPT_COLUMNS))

    @property
    def objective(self) -> Objective:
        """The metric that decides."""
        return self.objectives[0]

    @property
    def objectives(self) -> list[Objective]:
        """Every objective, the one that decides first."""
        return objectives_in(self.summary)

    @property
    def bounds(self) -> list[Bound]:
        """What learned metrics have to reach, or not to exceed."""
        return bounds_in(self.summary)

    @property
    def families(self) -> list[str]:
        """Every family declared or tried, in the order of declaration."""
        tried = [str(name) for name in self.trials["family"].dropna().unique()]
        return list(dict.fromkeys([*self.summary["families"], *tried]))

    @property
    def values(self) -> "pd.Series[float]":
        """`usable_values` of the study's trials."""
        return usable_values(self.trials, self.objective)

    def gallery(self, family: str) -> Gallery:
        """Pictures of a family by epoch and caption, (items, C, H, W); read anew, none if no file.

        Epoch 0 is the untrained network. Raises StudyError for a damaged file.
        """
        paths = {path.parent.name: path for path in self.folder.glob("evidence/*/gallery.npz")}
        return read_gallery(paths[family]) if family in paths else {}


def read_results(folder: Path) -> Results:
    """The results in a study's folder.

    `trials` must exist; the other tables and predictions may be absent and are then empty.
    Raises StudyError when the folder, `study.json` or a table cannot be used.
    """
    if not folder.is_dir():
        raise StudyError(f"{folder} is not a folder of results; `optimize run` makes one")
    summary = _summary(folder / "study.json")
    trials = read_table(folder / "trials.parquet", TRIAL_COLUMNS)
    if trials is None:
        raise StudyError(f"{folder / 'trials.parquet'} is missing; `optimize run` writes it")
    return Results(
        trials=trials,
        summary=summary,
        predictions=read_predictions(folder),
        folder=folder,
        codes=_evidence(folder, "codes", CODE_COLUMNS),
        **{name: _table_or_empty(folder, name, columns) for name, columns in FURTHER.items()},
    )


def _table_or_empty(folder: Path, name: str, columns: Mapping[str, str]) -> pd.DataFrame:
    """A table of a study's folder; without rows where there is no file."""
    found = read_table(folder / f"{name}.parquet", columns)
    return frame([], columns) if found is None else found


def read_predictions(folder: Path) -> dict[str, pd.DataFrame]:
    """What the families of a study, or of one of its repeats, answered; read anew."""
    return _evidence(folder, "predictions", PREDICTION_COLUMNS)


def frame(rows: Sequence[Mapping[str, object]], columns: Mapping[str, str]) -> pd.DataFrame:
    """Rows as a table: the columns of the schema, then further ones as they first appear.

    Further columns are `Int64`, `float64` (also where integers and floats meet), `boolean` or
    `string` (also where text meets anything else). What is missing is NaN or NA.
    """
    further = dict.fromkeys(name for row in rows for name in row if name not in columns)
    table = {name: _typed([row.get(name) for row in rows], kind) for name, kind in columns.items()}
    for name in further:
        values = [row.get(name) for row in rows]
        table[storable(name)] = _typed(values, _kind(values))
    return pd.DataFrame(table, index=pd.RangeIndex(len(rows)))


def write_table(table: pd.DataFrame, path_without_suffix: Path) -> None:
    """Write the table as `.parquet` and as `.csv` (see `as_csv`), each all or nothing."""
    name = path_without_suffix.name
    parquet, csv = (path_without_suffix.with_name(f"{name}.{kind}") for kind in ("parquet", "csv"))
    with written_aside(parquet) as aside:
        table.to_parquet(aside, index=False)
    with written_aside(csv) as aside, aside.open("wb") as file:
        file.writelines(csv_pieces(table))


def numbers(table: pd.DataFrame, column: str) -> "pd.Series[float]":
    """A column as float64 with NaN for what is missing; all NaN when there is no such column."""
    if column not in table:
        return pd.Series(np.nan, index=table.index, dtype="float64")
    if table[column].dtype == np.float64:
        return table[column]
    return table[column].astype("Float64").astype("float64")


def usable_values(trials: pd.DataFrame, objective: Objective) -> "pd.Series[float]":
    """The objective at the best epoch of every trial, in their order.

    NaN where there is none or it is not finite, and for failed trials, whatever they reached.
    """
    values = numbers(trials, f"best_{VALID}{objective.metric}").replace([np.inf, -np.inf], np.nan)
    failed = [status.value for status in Status if status.is_failure]
    return values.mask(trials["status"].isin(failed))


def shortfalls(trials: pd.DataFrame, bounds: Sequence[Bound]) -> "pd.Series[float]":
    """By how much the best epoch of every trial misses the bounds, 0 where it meets all of them."""
    missed = pd.Series(0.0, index=trials.index)
    for bound in bounds:
        missed += numbers(trials, f"best_{VALID}{bound.metric}").map(bound.shortfall)
    return missed


def config_of(row: "pd.Series[Any]") -> dict[str, Any]:
    """The hyperparameters of a row of `trials` that exist, as plain Python values."""
    named = {str(name).removeprefix(CONFIG): v for name, v in row.items() if _is_config(name)}
    return {name: plain(value) for name, value in named.items() if not pd.isna(value)}


def best_trials(results: Results) -> pd.DataFrame:
    """One row per family with a completed trial: its best, and what its own recipe reached.

    A trial that misses a bound is best only where all do, and the nearest to the bounds.
    Columns: family, trial, value, recipe_value (NaN if the recipe failed), seconds, config.
    """
    completed = results.trials["status"] == Status.COMPLETED.value
    missed = shortfalls(results.trials, results.bounds)
    scored = results.trials.assign(value=results.values, missed=missed)
    rows = []
    for family in results.families:
        own = scored[scored["family"] == family]
        usable = own[completed[own.index] & own["value"].notna()]
        if usable.empty:
            continue
        order = usable.assign(key=-results.objective.sign * usable["value"])
        best = order.sort_values(["missed", "key", "trial"], kind="stable").iloc[0]
        rows.append(_trial_row(family, best, own))
    return _described(rows)


def chosen_trainings(results: Results, family: str) -> pd.DataFrame:
    """The fresh trainings of the configuration of a family that confirmation chose."""
    table = results.confirmation
    is_own = table["family"].eq(family).fillna(False).astype(bool)
    return table[is_own & table["chosen"].fillna(False).astype(bool)]


def selected_trials(results: Results) -> pd.DataFrame:
    """As `best_trials`, with the configuration that confirmation chose where there is one."""
    best = best_trials(results).set_index("family", drop=False)
    scored = results.trials.assign(value=results.values)
    rows = []
    for family in results.families:
        own = scored[scored["family"] == family]
        picked = chosen_trainings(results, family)["trial"]
        match = own[own["trial"] == picked.iloc[0]] if len(picked) else own.iloc[:0]
        if len(match):
            rows.append(_trial_row(family, match.iloc[0], own))
        elif family in best.index:
            rows.append(dict(best.loc[family]))
    return _described(rows)


def _trial_row(family: str, trial: "pd.Series[Any]", own: pd.DataFrame) -> dict[str, object]:
    recipe = own.loc[own["origin"] == "recipe", "value"]
    return {
        "family": family,
        "trial": int(trial["trial"]),
        "value": float(trial["value"]),
        "recipe_value": float(recipe.iloc[0]) if len(recipe) else float("nan"),
        "seconds": float(trial["seconds"]),
        "config": config_of(trial),
    }


def _described(rows: list[dict[str, object]]) -> pd.DataFrame:
    columns = ["family", "trial", "value", "recipe_value", "seconds", "config"]
    return pd.DataFrame(rows, columns=columns)


def _is_config(name: object) -> bool:
    return str(name).startswith(CONFIG)


def _summary(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise StudyError(f"{path} is missing; `optimize run` writes it")
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StudyError(f"{path} is not readable JSON: {error}") from error
    wanted = {"study", "objective", "families"}
    if not isinstance(summary, dict) or wanted - summary.keys():
        raise StudyError(f"{path} does not describe a study: it needs {', '.join(sorted(wanted))}")
    return summary


def read_table(path: Path, columns: Mapping[str, str]) -> pd.DataFrame | None:
    """The Parquet table at `path`, None where there is none; StudyError if it is damaged."""
    if not path.is_file():
        return None
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        raise StudyError(
            f"{path} is damaged or not Parquet ({error}); `optimize run` writes it again"
        ) from error
    absent = [name for name in columns if name not in table]
    if missing := [name for name in absent if name not in LATER_COLUMNS]:
        raise StudyError(f"{path} lacks the column(s) {', '.join(missing)}")
    for name in absent:
        table[name] = _typed([None] * len(table), columns[name])
    return table


def _evidence(folder: Path, name: str, columns: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """The table of this name of every family that has one."""
    paths = sorted((folder / "evidence").glob(f"*/{name}.parquet"))
    tables = {path.parent.name: read_table(path, columns) for path in paths}
    return {family: table for family, table in tables.items() if table is not None}


def read_gallery(path: Path) -> Gallery:
    """The pictures in a file by epoch and caption; StudyError if it is damaged or none."""
    gallery: Gallery = {}
    try:
        with opened_arrays(path) as saved:
            for key in saved.files:
                epoch, _, caption = key.partition("/")
                gallery.setdefault(int(epoch), {})[caption] = saved[key]
    except DAMAGE as error:
        raise StudyError(f"{path} is damaged or not a gallery: {error}") from error
    return dict(sorted(gallery.items()))


def _typed(values: list[Any], kind: str) -> "pd.Series[Any]":
    if kind == "float64" and set(map(type, values)) <= {float, int, NoneType}:
        return pd.Series(np.array(values, dtype=np.float64))  # NaN for None
    present = [None if _is_missing(value) else plain(value) for value in values]
    if kind.startswith("datetime64"):
        stamps = [None if value == "" else value for value in present]
        times = pd.to_datetime(pd.Series(stamps, dtype=object), utc=True, format="ISO8601")
        return times.dt.as_unit("us")
    if kind == "string":
        present = [None if value is None else storable(str(value)) for value in present]
    if kind == "float64":
        present = [np.nan if value is None else float(value) for value in present]
    return pd.Series(present, dtype=kind)


def _kind(values: list[Any]) -> str:
    given = set(map(type, values))
    if float in given or not given <= {bool, int, str, NoneType}:
        given = {type(plain(value)) for value in values if not _is_missing(value)}
    kinds = given - {NoneType}
    if kinds == {bool}:
        return "boolean"
    if kinds == {int}:
        return "Int64"
    return "float64" if kinds <= {int, float} else "string"


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or value != value
