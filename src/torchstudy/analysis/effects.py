"""How the score changes with one hyperparameter: a curve with a band, and the trials around it."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from torchstudy.analysis.importance import Weighed, design_of, moments_of, weighed
from torchstudy.analysis.tables import CONFIG, Results
from torchstudy.analysis.terms import Term
from torchstudy.analysis.widths import quantile
from torchstudy.domains import FloatDomain, IntDomain, RangeDomain
from torchstudy.values import plain

Array = npt.NDArray[np.float64]

FEW = 2  # hyperparameters shown where fewer rise above the floor
MANY = 4
GRID = 25  # places on a curve
COLUMNS = ["hyperparameter", "value", "expected", "low", "high"]
TRIED_COLUMNS = ["hyperparameter", "trial", "value", "score", "is_raised"]


def effects(results: Results, family: str, found: Weighed | None = None) -> pd.DataFrame:
    """What a typical trial scores at values of one hyperparameter, all others as they were tried.

    Rows for `shown` hyperparameters, their values rising on their own scale or the categories in
    the order of the space; between the smallest and largest value that was tried. `expected` is in
    the objective's unit, as if trained to the end (see `levelled`): the model of `weighed` gives
    the rank, and the trials the score of that rank. `low` and `high` are the 95% interval of the
    curve at that value, not of single trials.
    """
    found = weighed(results, family) if found is None else found
    terms = {term.name: term for term in found.terms}
    tables = [_effect(found, terms[name]) for name in shown(found)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


def tried(found: Weighed) -> pd.DataFrame:
    """The trials with a score beside the values of the hyperparameters that `effects` shows."""
    scored = found.trials[found.trials["score"].notna()]
    tables = []
    for name in shown(found):
        own = scored[scored[f"{CONFIG}{name}"].notna()]
        values = [plain(value) for value in own[f"{CONFIG}{name}"]]
        table = own[["trial", "score", "is_raised"]].assign(
            hyperparameter=name, value=pd.Series(values, index=own.index, dtype=object)
        )
        tables.append(table[TRIED_COLUMNS])
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=TRIED_COLUMNS)


def shown(found: Weighed) -> list[str]:
    """Those above the floor, at most MANY; of the others the most important, to FEW in all."""
    table = found.table[found.table["importance"].notna()]
    number = min(max(FEW, int(table["is_above"].sum())), MANY)
    return [str(name) for name in table["hyperparameter"].head(number)]


def _effect(found: Weighed, term: Term) -> pd.DataFrame:
    standing = found.trials["standing"].to_numpy(dtype="float64")
    names = frozenset({*found.risen, term.name})
    design = design_of(found.terms, frozenset(found.risen), len(standing))
    inside = design.of(names)
    moments = moments_of(design.columns, standing[:, None])
    coefficients = moments.solved(inside, moments.cross[inside])[:, 0]
    covariance = moments.solved(inside, np.eye(len(inside)))
    freedom = max(moments.n - len(inside), 1)
    variance = float(moments.left_over(inside)[0]) / freedom
    own = [place for place, at in enumerate(inside) if design.owners[at] == {term.name}]
    values = _grid(term, found.trials[f"{CONFIG}{term.name}"])
    columns = term.at(values)
    middle = columns @ coefficients[own]
    error = np.sqrt(
        variance * np.einsum("ij,jk,ik->i", columns, covariance[np.ix_(own, own)], columns)
    )
    error *= quantile(freedom)
    curves = [_scores(found.trials, middle + side * error) for side in (0, -1, 1)]
    ends = np.sort(curves[1:], axis=0)  # where smaller is better the ends change places
    return pd.DataFrame(
        {
            "hyperparameter": term.name,
            "value": pd.Series(values, dtype=object),
            "expected": curves[0],
            "low": ends[0],
            "high": ends[1],
        }
    )


def _grid(term: Term, values: "pd.Series[Any]") -> list[Any]:
    if not isinstance(term.domain, RangeDomain):
        return list(term.levels)
    given = pd.to_numeric(values, errors="coerce").dropna().astype("float64")
    low, high = (
        min(max(float(v), term.domain.low), term.domain.high) for v in (given.min(), given.max())
    )
    spaced = np.geomspace if term.domain.log else np.linspace
    places = spaced(low, high, GRID)
    if isinstance(term.domain, IntDomain):
        return sorted({int(place) for place in np.rint(places)})
    assert isinstance(term.domain, FloatDomain)
    return [float(place) for place in places]


def _scores(trials: pd.DataFrame, standing: Array) -> Array:
    """The scores of trials with such ranks, between the worst and the best."""
    scored = trials[trials["score"].notna()].sort_values("standing", kind="stable")
    places = scored["standing"].to_numpy(dtype="float64")
    return np.asarray(np.interp(standing, places, scored["score"].to_numpy(dtype="float64")))
