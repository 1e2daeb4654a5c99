"""How much of a best value is luck, and how good the best of fewer trials would have been."""

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from torchstudy.analysis.tables import Results
from torchstudy.records import Status

Array: TypeAlias = npt.NDArray[np.float64]

DRAWS = 4000
BEST_SHARE = 0.5  # of the trials: those among which the best could be another one
FEWEST = 3  # trials with a value before anything is said
MOST_POINTS = 60  # of a family's curve


def likely_optimism(shares: Sequence[float], items: int) -> float:
    """How far the best of some shares of correct answers is probably above its true value.

    Parametric bootstrap: true values are the observed ones, the better half of them drawn together
    until their spread is what chance leaves of it (empirical Bayes: Efron and Morris, 1975); each
    is measured anew with the binomial noise of `items` items, the best is picked, and the mean of
    what it shows too much comes back, 0 or more. The noise of two trials is taken as independent.
    As all see the same items it is less, so this is an upper estimate. In simulations with
    independent noise it is within a quarter of the truth for 20 to 60 trials. NaN for fewer than
    three trials or without items. Deterministic.
    """
    seen = np.array([share for share in shares if math.isfinite(share)])
    if len(seen) < FEWEST or items < 1:
        return math.nan
    true = _drawn_together(seen, items)
    generator = np.random.default_rng(0)
    measured = true + _noise(true, items) * generator.standard_normal((DRAWS, len(true)))
    picked = measured.argmax(axis=1)
    return max(0.0, float((measured[np.arange(DRAWS), picked] - true[picked]).mean()))


def expected_best(results: Results) -> pd.DataFrame:
    """The mean best value of k of a family's trials, drawn without replacement: what order hides.

    Columns: family, trials (k), best. Unbiased for trials that are exchangeable (Tang et al.,
    "Showing your work doesn't always work", ACL 2020, equation 5); a model's proposals are better
    than the first ones, so that of a search that learns it is what its trials would have brought in
    any order. A failed trial counts as the worst value that was seen.
    """
    rows = [
        {"family": family, "trials": k, "best": best}
        for family in results.families
        for k, best in _best_of(_values(results, family))
    ]
    signed = pd.DataFrame(rows, columns=["family", "trials", "best"])
    signed["best"] = results.objective.sign * signed["best"].astype("float64")
    return signed


def _values(results: Results, family: str) -> Array:
    """A family's values, signed so that larger is better; those of failed trials are the worst."""
    is_own = results.trials["family"] == family
    own = results.trials[is_own.fillna(False).astype(bool)]
    values = np.asarray(results.values[own.index], dtype=np.float64) * results.objective.sign
    failed = own["status"].isin([status.value for status in Status if status.is_failure]).to_numpy()
    known: Array = values[np.isfinite(values)]
    if not len(known):
        return known
    num_failed = int((failed & ~np.isfinite(values)).sum())
    everything: Array = np.append(known, np.full(num_failed, known.min()))
    return everything


def _best_of(values: Array) -> list[tuple[int, float]]:
    """(k, mean of the largest of k) for up to `MOST_POINTS` numbers k from 1 to all."""
    size = len(values)
    if size < FEWEST:
        return []
    ordered = np.sort(values)
    counts = np.unique(np.geomspace(1, size, MOST_POINTS).round().astype(int))
    return [(int(k), float(_weights(size, int(k)) @ ordered)) for k in counts]


def _weights(size: int, k: int) -> Array:
    """The probability of each of `size` sorted values to be the largest of k that are drawn."""
    from scipy.special import gammaln

    place = np.arange(size)  # how many are smaller
    with np.errstate(invalid="ignore"):
        logarithms = gammaln(place + 1) - gammaln(place - k + 2) - gammaln(k)
    whole = gammaln(size + 1) - gammaln(size - k + 1) - gammaln(k + 1)
    weights: Array = np.where(place >= k - 1, np.exp(logarithms - whole), 0.0)
    return weights


def _drawn_together(seen: Array, items: int) -> Array:
    """The values, the better half shrunk towards their mean by the noise that is in them."""
    best = np.sort(seen)[-_num_best(len(seen)) :]
    spread, chance = float(best.var(ddof=1)), float((_noise(best, items) ** 2).mean())
    kept = math.sqrt(max(0.0, 1 - chance / spread)) if spread > 0 else 0.0
    centre = float(best.mean())
    true: Array = np.where(seen >= best.min(), centre + kept * (seen - centre), seen)
    return true


def _noise(shares: Array, items: int) -> Array:
    """The standard deviation of shares of so many items; as if half an item were wrong at least."""
    likely = np.clip(shares, 0.5 / items, 1 - 0.5 / items)
    noise: Array = np.sqrt(likely * (1 - likely) / items)
    return noise


def _num_best(size: int) -> int:
    return max(FEWEST, math.ceil(BEST_SHARE * size))
