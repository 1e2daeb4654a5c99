"""What to change in a search space: ranges whose best lies at a bound, hyperparameters to fix."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from torchstudy.analysis.importance import Weighed
from torchstudy.analysis.tables import CONFIG, config_of
from torchstudy.analysis.terms import places
from torchstudy.domains import Domain, IntDomain, RangeDomain

BEST = 0.1  # of the trials
FEWEST_BEST = 3
FEWEST = 20  # trials, for a tenth to say something
LEVEL = 0.01  # over all hyperparameters of a space and both bounds
SEEN = 0.15  # a floor below which what explains 15% of the differences would have been seen
COLUMNS = ["hyperparameter", "side", "n", "near", "chance", "p", "is_flagged", "suggestion"]
DEAD_COLUMNS = ["hyperparameter", "value", "n"]


def boundary_flags(
    trials: pd.DataFrame, space: Mapping[str, Domain], *, margin: float = 0.05
) -> pd.DataFrame:
    """One row per numeric hyperparameter: how many of the best tenth lie near a bound.

    `trials` as `levelled` returns them. Near is within `margin` of the range, measured on the
    hyperparameter's own scale, so a log range is compared in decades. `side` is the bound that more
    of the best are near, `n` how many of the best have the hyperparameter (at least 3 are looked
    at), `near` how many of them lie there. `chance` is the probability of lying there by chance:
    the share of the range, or of the other trials where that is larger, because a search that
    settled near a bound tries it often. It is flagged where that many are less probable than 1%
    (one-sided binomial test, Bonferroni's correction for both bounds of all rows) in at least 20
    trials and there is room beyond the bound; `suggestion` is then a wider range as it is written
    in `space=`.
    """
    number = max(FEWEST_BEST, math.ceil(BEST * len(trials)))
    order = trials["standing"].sort_values(ascending=False, kind="stable").index
    ranges = {
        name: domain
        for name, domain in space.items()
        if isinstance(domain, RangeDomain) and domain.size > 1 and f"{CONFIG}{name}" in trials
    }
    rows = []
    for name, domain in ranges.items():
        column = trials[f"{CONFIG}{name}"]
        best, rest = column[order[:number]].dropna(), column[order[number:]].dropna()
        sides = [_near(domain, best, rest, side, margin) for side in ("low", "high")]
        found = min(sides, key=lambda side: (side["p"], -side["near"]))
        wider = widened(domain, found["side"])
        is_rare = found["p"] * 2 * len(ranges) < LEVEL and len(trials) >= FEWEST
        is_flagged = is_rare and len(best) >= FEWEST_BEST and wider is not None
        suggestion = wider if is_flagged else None
        rows.append(
            {"hyperparameter": name, **found, "is_flagged": is_flagged, "suggestion": suggestion}
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def widened(domain: RangeDomain, side: str) -> str | None:
    """The range as it is written in `space=`, wider at one side; None where nothing lies there.

    Logarithmic ranges grow by about half a decade, or a third of themselves if that is less, others
    by half their width. Numbers that are not negative stay so; what lies between 0 and 1 on a
    linear scale is taken for a share and stays below 1; integers stay integers from 1 (or 0, if
    they may be 0) on.
    """
    low, high = _bounds(domain)
    new_low = _lower(domain, low, high) if side == "low" else low
    new_high = _upper(domain, low, high) if side == "high" else high
    if new_low >= low and new_high <= high:
        return None
    kind = "Int" if isinstance(domain, IntDomain) else "Float"
    return f"{kind}({new_low!r}, {new_high!r}{', log=True' if domain.log else ''})"


def dead(found: Weighed) -> pd.DataFrame:
    """Hyperparameters of which no effect was seen, with the value of the best trial to fix them to.

    Their whole interval lies below a floor of at most SEEN, so that a larger effect would have been
    seen in these trials. That is no proof of none: it may come with other data or longer training.
    """
    table = found.table
    below = table[(table["high"] < table["floor"]) & (table["floor"] <= SEEN)]
    best = _best(found.trials)
    rows = [
        {"hyperparameter": name, "value": best.get(name), "n": int(n)}
        for name, n in zip(below["hyperparameter"], below["n"], strict=True)
        if name in best
    ]
    return pd.DataFrame(rows, columns=DEAD_COLUMNS)


def pasted(family: str, changes: Mapping[str, str]) -> str:
    """Changes of a family's space as an argument of `Study`, ready to be pasted."""
    parts = [f"{literal(f'{family}.{name}')}: {text}" for name, text in changes.items()]
    return f"space={{{', '.join(parts)}}}"


def literal(value: object) -> str:
    """A value as Python writes it: text in double quotes, numbers with four significant digits."""
    value = float(f"{value:.4g}") if isinstance(value, float) else value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _near(
    domain: RangeDomain, best: "pd.Series[Any]", rest: "pd.Series[Any]", side: str, margin: float
) -> dict[str, Any]:
    near = int(_is_near(domain, best, side, margin).sum())
    others = _is_near(domain, rest, side, margin)
    chance = max(_share(domain, side, margin), float(others.mean()) if len(others) else 0.0)
    p = float(special.bdtrc(near - 1, len(best), min(chance, 1.0))) if len(best) else 1.0
    return {"side": side, "n": len(best), "near": near, "chance": chance, "p": p}


def _is_near(
    domain: RangeDomain, values: "pd.Series[Any]", side: str, margin: float
) -> npt.NDArray[np.bool_]:
    """Which values lie within the margin of a bound, the bounds themselves at 0 and 1."""
    ends = places(domain, pd.Series([domain.low, domain.high]))
    at = (places(domain, values) - ends[0]) / (ends[1] - ends[0])
    return np.asarray(at <= margin if side == "low" else at >= 1 - margin)


def _share(domain: RangeDomain, side: str, margin: float) -> float:
    """The share of the range that lies near: of integers, that of those within the margin."""
    if not isinstance(domain, IntDomain):
        return margin
    every = pd.Series(np.arange(domain.low, domain.high + 1))
    near = every[_is_near(domain, every, side, margin)]
    ends = (near.min() - 0.5, near.max() + 0.5, domain.low - 0.5, domain.high + 0.5)
    first, last, low, high = map(math.log, ends) if domain.log else ends
    return float((last - first) / (high - low))


def _bounds(domain: RangeDomain) -> tuple[float, float]:
    low, high = domain.extremes
    assert not isinstance(low, str)
    assert not isinstance(high, str)
    return low, high


def _lower(domain: RangeDomain, low: float, high: float) -> float:
    least = _least(domain, low)
    wider = low / _factor(low, high) if domain.log else low - (high - low) / 2
    return max(_rounded(domain, wider, low, high), least) if low > least else low


def _upper(domain: RangeDomain, low: float, high: float) -> float:
    wider = high * _factor(low, high) if domain.log else high + (high - low) / 2
    wider = _rounded(domain, wider, low, high)
    is_share = not domain.log and not isinstance(domain, IntDomain) and low >= 0 and high <= 1
    return min(wider, float(f"{(1 + high) / 2:.4g}")) if is_share else wider


def _least(domain: RangeDomain, low: float) -> float:
    """What no lower bound goes below."""
    if isinstance(domain, IntDomain):
        return 1 if low >= 1 else 0 if low >= 0 else -math.inf
    return 0.0 if low >= 0 else -math.inf


def _factor(low: float, high: float) -> float:
    return float(min(10**0.5, (high / low) ** (1 / 3)))


def _rounded(domain: RangeDomain, value: float, low: float, high: float) -> float:
    """A number that is short to write; the wider the range, the shorter."""
    if isinstance(domain, IntDomain):
        short = float(f"{value:.2g}") if domain.log else value
        return math.floor(short) if value < low else math.ceil(short)
    if domain.log:
        return float(f"{value:.{1 if _factor(low, high) > 2 else 3}g}")
    return round(value, 1 - math.floor(math.log10(high - low)))


def _best(trials: pd.DataFrame) -> dict[str, Any]:
    scored = trials[trials["score"].notna()]
    return config_of(scored.iloc[int(scored["standing"].argmax())]) if len(scored) else {}
