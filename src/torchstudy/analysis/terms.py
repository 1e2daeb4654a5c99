"""How hyperparameters enter a model of the scores: columns per hyperparameter and per pair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from torchstudy.analysis.tables import CONFIG
from torchstudy.domains import ChoiceDomain, Domain, FloatDomain, IntDomain, RangeDomain
from torchstudy.values import Value

Array = npt.NDArray[np.float64]

FEWEST = 10  # trials in which a hyperparameter exists, for it to be judged
# 2 sees 62 of 100 learning rates in 20 trials, 3 sees 54 and 4 sees 44; in 40 each 98 or more:
# benchmarks/importance.json. Where scores fall steeply on one side, the best of the curve is off by
# 0.36 decades with 3, 0.52 with 2: benchmarks/curves.json.
DEGREE = 3
LEAST = 1e-9  # a column that varies less is constant


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Term:
    """One hyperparameter's columns, centred where it exists (`active`) and 0 elsewhere.

    `main` (trials, k): Legendre polynomials of a number's place on its own scale, or one column
    per category but the first; `pairing` (trials, k'): what is multiplied with other terms, the
    line of the polynomial or the categories.
    """

    name: str
    domain: Domain
    levels: tuple[Value, ...]  # the categories that were tried; none of a number
    degree: int
    active: npt.NDArray[np.bool_]
    main: Array
    centre: Array

    @property
    def pairing(self) -> Array:
        """The columns that are multiplied with those of other terms."""
        return self.main if self.levels else self.main[:, :1]

    def at(self, values: Sequence[Any]) -> Array:
        """The columns of these values of the hyperparameter."""
        table = pd.Series(list(values), dtype=object)
        return _columns(self.domain, self.levels, self.degree, table) - self.centre


def domains_of(space: Mapping[str, Mapping[str, Any]]) -> dict[str, Domain]:
    """The domains that `study.json` describes, by the hyperparameters' names."""
    return {name: domain_of(described) for name, described in space.items()}


def domain_of(described: Mapping[str, Any]) -> Domain:
    """The domain that `Domain.describe` described, without its prior."""
    shared: dict[str, Any] = {
        "default": described["default"],
        "when": tuple((described.get("when") or {}).items()),
    }
    if described["type"] == "choice":
        return ChoiceDomain(values=tuple(described["values"]), **shared)
    kind = IntDomain if described["type"] == "int" else FloatDomain
    is_log = described.get("scale") == "log"
    return kind(low=described["low"], high=described["high"], log=is_log, **shared)


def terms_of(domains: Mapping[str, Domain], trials: pd.DataFrame) -> list[Term]:
    """The terms of the hyperparameters that vary and that at least FEWEST trials have."""
    found = []
    for name, domain in domains.items():
        if domain.size > 1 and f"{CONFIG}{name}" in trials:
            term = _term(name, domain, trials[f"{CONFIG}{name}"])
            found += [term] if term else []
    return found


def places(domain: Domain, values: "pd.Series[Any]") -> Array:
    """Where numbers lie in their range, from 0 to 1 on its own scale; NaN for what is missing.

    Values beyond a bound are put on it.
    """
    assert isinstance(domain, RangeDomain)
    edge = 0.5 if isinstance(domain, IntDomain) else 0.0
    known = pd.to_numeric(values, errors="coerce").astype("Float64").astype("float64")
    given = np.clip(np.asarray(known, "float64"), domain.low, domain.high)
    low, high = domain.low - edge, domain.high + edge
    if domain.log:
        given, low, high = np.log(given), np.log(low), np.log(high)
    found: Array = (given - low) / (high - low)
    return found


def _term(name: str, domain: Domain, values: "pd.Series[Any]") -> Term | None:
    levels = _levels(domain, values)
    degree = min(DEGREE, int(values.nunique()) - 1)
    if max(degree, len(levels) - 1) < 1:
        return None
    columns = _columns(domain, levels, degree, values)
    active = values.notna().to_numpy() & np.isfinite(columns).all(axis=1)
    if active.sum() < FEWEST:
        return None
    centre = columns[active].mean(axis=0)
    main = np.where(active[:, None], columns - centre, 0.0)
    if main.std(axis=0).max() < LEAST:
        return None
    return Term(
        name=name,
        domain=domain,
        levels=levels,
        degree=degree,
        active=active,
        main=main,
        centre=centre,
    )


def _levels(domain: Domain, values: "pd.Series[Any]") -> tuple[Value, ...]:
    if not isinstance(domain, ChoiceDomain):
        return ()
    return tuple(value for value in domain.values if _equals(values, value).any())


def _columns(
    domain: Domain, levels: tuple[Value, ...], degree: int, values: "pd.Series[Any]"
) -> Array:
    if isinstance(domain, ChoiceDomain):
        return np.column_stack([_equals(values, level) for level in levels[1:]]).astype("float64")
    powers = np.polynomial.legendre.legvander(2 * places(domain, values) - 1, degree)
    return np.asarray(powers[:, 1:], dtype="float64")


def _equals(values: "pd.Series[Any]", level: Value) -> npt.NDArray[np.bool_]:
    """Where the column has this value; a column that also holds other families' texts is text."""
    is_text = isinstance(values.dtype, pd.StringDtype)
    return (values == (str(level) if is_text else level)).fillna(False).to_numpy(dtype=bool)
