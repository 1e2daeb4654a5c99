"""Scores that compare: what each trial would have reached at full length, better ones larger."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from torchstudy.analysis.progress import search_epochs
from torchstudy.analysis.tables import Results
from torchstudy.records import Objective, Status

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """A scale on which training longer adds about as much to bad scores as to good ones."""

    place: Callable[[Array], Array]  # larger is better
    value: Callable[[Array], Array]


def scale_of(values: Array, objective: Objective) -> Scale:
    """Logarithms of errors for what is at most 1, of the values for what is small and positive."""
    if objective.sign > 0 and values.max(initial=0.0) <= 1:
        errors = 1 - values
        least = errors[errors > 0].min(initial=1.0) / 2
        return Scale(
            place=lambda given: -np.log(np.maximum(1 - given, least)),
            value=lambda places: 1 - np.exp(-places),
        )
    if objective.sign < 0 and values.min(initial=1.0) > 0:
        return Scale(place=lambda given: -np.log(given), value=lambda places: np.exp(-places))
    sign = objective.sign
    return Scale(place=lambda given: sign * given, value=lambda places: sign * places)


def levelled(results: Results, family: str) -> pd.DataFrame:
    """One row per trial of a family that says something about its configuration.

    Columns: those of `trials`, then `score`, the best value so far, raised by what further epochs
    gave the trials that went on where this one was stopped (`is_raised`), and `standing`, the
    normal score of its rank, larger is better. From one epoch at which trials stopped to the next
    it is the median gain of those with both, on a scale on which gains are about equal
    (`scale_of`): trials are compared as if all had been trained to the end, whatever the search did
    with them. Diverged trials share the last rank and have no score; other failures say nothing
    and are left out, as are trials without a value.
    """
    own = results.trials[(results.trials["family"] == family).fillna(False).astype(bool)]
    values = results.values.loc[own.index]
    diverged = (own["status"] == Status.DIVERGED.value).fillna(False).astype(bool)
    scale = scale_of(np.asarray(values.dropna(), "float64"), results.objective)
    rise = _rises(results, family, own, values, scale)
    places = pd.Series(scale.place(np.asarray(values, "float64")), index=own.index) + rise
    raised = scale.value(np.asarray(places, "float64"))
    score = pd.Series(raised, index=own.index).where(rise > 0, values)
    table = own.assign(score=score, is_raised=rise > 0, place=places.mask(diverged, -np.inf))
    usable = table[table["place"].notna()].sort_values("trial", kind="stable")
    return usable.assign(standing=normal_scores(usable["place"])).drop(columns="place")


def normal_scores(values: "pd.Series[float]") -> "pd.Series[float]":
    """The normal quantile of each rank (van der Waerden's scores), equal values equal."""
    shares = (values.rank() - 0.5) / max(len(values), 1)
    return pd.Series(special.ndtri(shares.to_numpy(dtype="float64")), index=values.index)


def _rises(
    results: Results, family: str, own: pd.DataFrame, values: "pd.Series[float]", scale: Scale
) -> "pd.Series[float]":
    """What each trial would gain until the last epoch that any reached, on the scale."""
    reached = own["epochs"].astype("Float64").astype("float64")
    reached = reached.mask(own["status"] == Status.COMPLETED.value, reached.max())
    stops = sorted(set(reached[values.notna() & reached.notna()]))
    curves = search_epochs(results, family)
    if curves.empty or len(stops) < 2:
        return pd.Series(0.0, index=own.index)
    places = scale.place(np.asarray(curves["value"], "float64"))
    best = curves.assign(place=places).pivot_table(index="trial", columns="epoch", values="place")
    best = best.cummax(axis=1).reindex(columns=stops)
    gains = best.diff(axis=1).median().reindex(stops).fillna(0.0).clip(lower=0.0)
    to_the_end = gains.sum() - gains.cumsum()
    return reached.map(to_the_end).fillna(0.0)
