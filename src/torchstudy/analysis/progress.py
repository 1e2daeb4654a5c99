"""How a study's values grew: over trials and seconds, and over the epochs of trainings."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from torchstudy.analysis.tables import VALID, Results, numbers, shortfalls, usable_values
from torchstudy.records import Bound, Objective


def best_so_far(
    trials: pd.DataFrame, objective: Objective, bounds: Sequence[Bound] = ()
) -> pd.DataFrame:
    """Per family, the best value after each trial, in the order in which they finished.

    Columns: family, trial, seconds (spent in the family's trials so far, failed ones too), value
    (of this trial), best (so far, of those that miss no bound; NaN before the first). Unfinished
    trials are left out.
    """
    ended = trials[trials["finished"].notna()].sort_values(["finished", "trial"], kind="stable")
    value = usable_values(ended, objective)
    table = pd.DataFrame(
        {
            "family": ended["family"],
            "trial": ended["trial"],
            "seconds": ended["seconds"].fillna(0.0).groupby(ended["family"]).cumsum(),
            "value": value,
        }
    )
    allowed = value.where(shortfalls(ended, bounds) == 0)
    signed = (allowed * objective.sign).fillna(-np.inf).groupby(ended["family"]).cummax()
    table["best"] = (signed * objective.sign).replace([np.inf, -np.inf], np.nan)
    return table.reset_index(drop=True)


def steps(progress: pd.DataFrame, most: int) -> pd.DataFrame:
    """The rows of one family's progress that draw its line of steps: all, if they are `most`.

    Else every row at which the best value changes and an even sample of `most` rows, the first and
    the last among them.
    """
    if len(progress) <= most:
        return progress
    changes = np.flatnonzero(np.diff(progress["best"].to_numpy(dtype=np.float64))) + 1
    even = np.linspace(0, len(progress) - 1, most).round().astype(np.int64)
    return progress.iloc[np.union1d(changes, even)]


def learning_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """Per family and epoch of `search_epochs`: median, 10% and 90% quantile, and n.

    Columns: family, epoch, median, low, high, n. Trainings that ended earlier are not counted, so
    late epochs describe the ones that the search let go on.
    """
    if curves.empty:
        return pd.DataFrame(columns=["family", "epoch", "median", "low", "high", "n"])
    grouped = curves.groupby(["family", "epoch"], sort=True)["value"]
    wide = grouped.quantile(0.5).rename("median").to_frame()
    wide["low"], wide["high"] = grouped.quantile(0.1), grouped.quantile(0.9)
    wide["n"] = grouped.size()
    return wide.reset_index()


def search_epochs(
    results: Results, family: str | None = None, *, metric: str | None = None
) -> pd.DataFrame:
    """A metric after each epoch of the search: family, trial, epoch, value (never NaN).

    Of all families, or of one; it is the objective's unless another metric is named.
    """
    keys = ["family", "trial", "seed"]
    table = results.epochs
    if family is not None:
        table = table[(table["family"] == family).fillna(False).astype(bool)]
    value = numbers(table, f"{VALID}{metric or results.objective.metric}").replace(
        [np.inf, -np.inf], np.nan
    )
    curves = table[[*keys, "epoch"]].assign(value=value).dropna(subset=["value"])
    own = results.trials[keys].drop_duplicates()
    joined = curves.merge(own, on=keys).sort_values(["family", "trial", "epoch"], kind="stable")
    return joined.drop(columns="seed").reset_index(drop=True)
