"""How sure one can be: scores of the families on the test split, and their differences."""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from torchstudy.analysis.tables import Results, chosen_trainings, numbers
from torchstudy.records import COUNTS, Status

Array = npt.NDArray[np.float64]

LEVEL = 0.95
SEEDS_AND_ITEMS = "seeds and test items"
SEEDS_ONLY = "seeds only"
ITEMS_ONLY = "test items only"
COUNTED = "counted"  # what a network costs is the same with every seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean with its 95% interval; the bounds are NaN when one seed is all there is."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far family `a` is ahead of family `b` (positive is better, whatever the direction)."""

    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float  # two-sided, for no difference
    seeds: tuple[int, int]
    items: int  # test items that both predicted; 0 when only seeds were compared
    basis: str
    adjusted_p: float = math.nan  # Holm, over all families against the best

    @property
    def is_separable(self) -> bool:
        """Whether the difference is unlikely to be noise, after the correction where there is one.

        Without a correction the interval decides.
        """
        p = self.p if math.isnan(self.adjusted_p) else self.adjusted_p
        return p < 1 - LEVEL


def family_scores(results: Results) -> pd.DataFrame:
    """One row per confirmed family, best first: mean of the objective on test, with 95% interval.

    Columns: family, trial, mean, low, high, seeds, items, basis, scores (one value per seed).
    """
    rows = []
    for family in results.families:
        table = confirmed(results, family)
        if table.empty:
            continue
        scores = scores_on_test(results, family)
        correct = correctness(results, family)
        interval, basis = _score_interval(scores, correct)
        if results.objective.metric in COUNTS:
            basis = COUNTED
        rows.append(
            {
                "family": family,
                "trial": int(table["trial"].iloc[0]),
                "mean": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "seeds": len(scores),
                "items": 0 if correct is None else correct.shape[1],
                "basis": basis,
                "scores": tuple(float(score) for score in scores),
            }
        )
    columns = ["family", "trial", "mean", "low", "high", "seeds", "items", "basis", "scores"]
    scores_table = pd.DataFrame(rows, columns=columns)
    rising = results.objective.direction == "minimize"
    ordered = scores_table.sort_values("mean", ascending=rising, kind="stable")
    return ordered.reset_index(drop=True)


def compare(results: Results, a: str, b: str) -> Difference:
    """How far `a` is ahead of `b` on the test split, with a 95% interval.

    With predictions of both it is `paired_interval` over their test items, else `welch_interval`
    over their seeds; what is counted has no interval. ValueError if either is unconfirmed.
    """
    if any(confirmed(results, family).empty for family in (a, b)):
        raise ValueError(f"{a} and {b} are not both confirmed")
    one, two = (scores_on_test(results, family) for family in (a, b))
    sign = results.objective.sign
    paired, is_counted = _paired(results, a, b), results.objective.metric in COUNTS
    if is_counted:
        gap = float(sign * (one.mean() - two.mean()))
        interval, p = Interval(mean=gap, low=gap, high=gap), 0.0 if gap else 1.0
    elif paired is None:
        interval, p = welch_interval(sign * one, sign * two)
    else:
        interval, p = paired_interval(*paired)
    return Difference(
        a=a,
        b=b,
        difference=interval.mean,
        low=interval.low,
        high=interval.high,
        p=p,
        seeds=(len(one), len(two)),
        items=0 if paired is None else paired[0].shape[1],
        basis=COUNTED
        if is_counted
        else _basis(min(len(one), len(two)), has_items=paired is not None),
    )


def against_best(results: Results) -> list[Difference]:
    """The best family against every other confirmed one, second best first, Holm-corrected.

    Holm (1979, Scandinavian Journal of Statistics 6, 65-70).
    """
    families = list(family_scores(results)["family"])
    if not families:
        return []
    found = [compare(results, families[0], other) for other in families[1:]]
    adjusted = holm([difference.p for difference in found])
    return [
        replace(difference, adjusted_p=p) for difference, p in zip(found, adjusted, strict=True)
    ]


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given; NaN stays NaN and is not counted."""
    known = [index for index, p in enumerate(p_values) if not math.isnan(p)]
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(known, key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(known) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def crossed_interval(correct: Array) -> Interval:
    """The mean of a (seeds, items) array of 0 and 1, with a 95% interval for new seeds and items.

    Squared standard error: variance between seeds / seeds + variance between items / items, the
    two margins of a crossed design, with Satterthwaite's degrees of freedom; the noise within a
    cell counts in both, so the interval errs on the wide side. It is put on the scale of a
    proportion by Wilson's formula with the effective number of items p (1 - p) / se^2 (Korn and
    Graubard 1998, Survey Methodology 24, 193-201), so it stays within [0, 1] and has a width even
    when every item is right.

    In simulations of 3 seeds and 270 items it covers 93 to 97% at 79 to 95% right and up to 99% at
    99% right; a percentile bootstrap of seeds and items covers 72 to 94%, because three seeds are
    too few to be resampled.
    """
    seeds, items = correct.shape
    mean = float(correct.mean())
    parts = [
        (_variance(correct.mean(axis=1)) / seeds if seeds > 1 else 0.0, seeds - 1),
        (_variance(correct.mean(axis=0)) / items, items - 1),
    ]
    variance = sum(part for part, _ in parts)
    t = float(stats.t.ppf((1 + LEVEL) / 2, _degrees(parts)))
    spread = mean * (1 - mean)
    effective = min(max(spread / variance, 1.0), correct.size) if variance > 0 else float(items)
    shrink = 1 + t**2 / effective
    centre = (mean + t**2 / (2 * effective)) / shrink
    half = t / shrink * math.sqrt(spread / effective + t**2 / (4 * effective**2))
    return Interval(mean=mean, low=max(centre - half, 0.0), high=min(centre + half, 1.0))


def paired_interval(one: Array, two: Array) -> tuple[Interval, float]:
    """The difference of two (seeds, items) arrays over the same items, with 95% interval and p.

    Squared standard error: var(d) / items, for the item-wise difference d of the means over seeds,
    plus the variance between seeds / seeds of either array. Degrees of freedom: Satterthwaite
    (1946, Biometrics Bulletin 2, 110-114). With one seed, the seeds' part is left out.
    """
    apart = one.mean(axis=0) - two.mean(axis=0)
    parts = [(_variance(apart) / len(apart), len(apart) - 1)]
    parts += [_variance_of_mean(given.mean(axis=1)) for given in (one, two) if len(given) > 1]
    return _t_interval(float(apart.mean()), parts)


def welch_interval(one: Array, two: Array) -> tuple[Interval, float]:
    """The difference of two means over seeds, with 95% interval and p; NaN for a single seed.

    Welch (1947, Biometrika 34, 28-35).
    """
    parts = [_variance_of_mean(one), _variance_of_mean(two)]
    return _t_interval(float(one.mean() - two.mean()), parts)


def seed_interval(scores: Array) -> Interval:
    """The mean over seeds with Student's t interval; NaN bounds for a single seed."""
    return _t_interval(float(scores.mean()), [_variance_of_mean(scores)])[0]


def confirmed(results: Results, family: str) -> pd.DataFrame:
    """The completed fresh trainings of the family's chosen configuration that have a test score."""
    table = chosen_trainings(results, family)
    is_done = table["status"] == Status.COMPLETED.value
    has_score = numbers(table, f"test_{results.objective.metric}").notna()
    return table[is_done.fillna(False).astype(bool) & has_score]


def scores_on_test(results: Results, family: str) -> Array:
    """The objective on test, one value per confirmed seed."""
    table = confirmed(results, family)
    return np.asarray(numbers(table, f"test_{results.objective.metric}"), dtype=np.float64)


def correctness(results: Results, family: str) -> Array | None:
    """A (seeds, items) array of 0 and 1 over the test split of the confirmed seeds.

    None unless the objective is accuracy and every confirmed seed predicted the same items.
    """
    wide = _correct_table(results, family)
    return None if wide is None else wide.to_numpy(dtype=np.float64)


def _correct_table(results: Results, family: str) -> pd.DataFrame | None:
    if results.objective.metric != "accuracy" or family not in results.predictions:
        return None
    table = results.predictions[family]
    seeds = confirmed(results, family)["seed"]
    own = table[(table["split"] == "test").fillna(False) & table["seed"].isin(seeds)]
    wide = own.drop_duplicates(["seed", "item"]).pivot(
        index="seed", columns="item", values="is_correct"
    )
    is_whole = len(wide) == seeds.nunique() and wide.shape[1] > 1 and wide.notna().all(axis=None)
    return wide.astype("float64") if is_whole else None


def _paired(results: Results, a: str, b: str) -> tuple[Array, Array] | None:
    one, two = _correct_table(results, a), _correct_table(results, b)
    if one is None or two is None:
        return None
    shared = one.columns.intersection(two.columns)
    if len(shared) < max(one.shape[1], two.shape[1]):
        return None
    return one[shared].to_numpy(dtype=np.float64), two[shared].to_numpy(dtype=np.float64)


def _score_interval(scores: Array, correct: Array | None) -> tuple[Interval, str]:
    basis = _basis(len(scores), has_items=correct is not None)
    if correct is None:
        return seed_interval(scores), basis
    interval = crossed_interval(correct)
    return Interval(mean=float(scores.mean()), low=interval.low, high=interval.high), basis


def _basis(seeds: int, *, has_items: bool) -> str:
    if not has_items:
        return SEEDS_ONLY
    return SEEDS_AND_ITEMS if seeds > 1 else ITEMS_ONLY


def _variance(values: Array) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else math.nan


def _degrees(parts: list[tuple[float, int]]) -> float:
    """Satterthwaite's degrees of freedom of a sum of variances; at least those of the fewest."""
    used = [(part, degrees) for part, degrees in parts if part > 0 and degrees > 0]
    if not used:
        return float(max(degrees for _, degrees in parts))
    total = sum(part for part, _ in used)
    return float(total**2 / sum(part**2 / degrees for part, degrees in used))


def _variance_of_mean(scores: Array) -> tuple[float, int]:
    return _variance(scores) / len(scores), len(scores) - 1


def _t_interval(mean: float, parts: list[tuple[float, int]]) -> tuple[Interval, float]:
    """The interval, and the two-sided p for a mean of zero; NaN where a variance is unknown."""
    variance = sum(part for part, _ in parts)
    if math.isnan(variance):
        return Interval(mean=mean, low=math.nan, high=math.nan), math.nan
    if variance == 0:
        return Interval(mean=mean, low=mean, high=mean), 1.0 if mean == 0 else math.nan
    error, degrees = math.sqrt(variance), _degrees(parts)
    half = float(stats.t.ppf((1 + LEVEL) / 2, degrees)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, degrees))
    return Interval(mean=mean, low=mean - half, high=mean + half), p
