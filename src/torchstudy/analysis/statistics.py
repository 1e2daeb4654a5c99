"""How sure one can be: scores of the families on the test split, and their differences."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import optimize

from torchstudy.analysis.tables import Results, chosen_trainings, numbers
from torchstudy.analysis.widths import (
    LEVEL,
    Array,
    Part,
    between_seeds,
    crossed_width,
    half_width,
    quantile,
    together,
)
from torchstudy.records import AT_LEAST_ZERO, AT_MOST_ONE, COUNTS, Status

USUAL = math.log(1 - LEVEL)
SMALLEST = -46.0  # logarithm of a p-value: 1e-20
PRECISE = 1e-9  # of a p-value, relative to it
ROUNDING = 1e-12  # of what is computed from equal numbers, relative to them
SEEDS_AND_ITEMS = "seeds and test items"
SEEDS_ONLY = "seeds only"
ITEMS_ONLY = "test items only"
COUNTED = "counted"  # what a network costs is the same with every seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean with its 95% interval; the bounds are NaN where there is none, as from one seed."""

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
    adjusted_p: float = math.nan  # Holm, over all pairs of families

    @property
    def is_separable(self) -> bool:
        """Whether the difference is unlikely to be noise, after the correction where there is one.

        Without a correction the interval decides.
        """
        p = self.p if math.isnan(self.adjusted_p) else self.adjusted_p
        return p < 1 - LEVEL


def family_scores(results: Results) -> pd.DataFrame:
    """One row per confirmed family, best first: mean of the objective on test, with 95% interval.

    Columns: family, trial, mean, low, high, seeds, items, basis, scores (one value per seed). The
    bounds are NaN where seeds are all that is known and agree, as those of a solver do: that says
    nothing about other test items.
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
        elif basis == SEEDS_ONLY and interval.low == interval.high:
            interval = Interval(mean=interval.mean, low=math.nan, high=math.nan)
        rows.append(
            {
                "family": family,
                "trial": int(table["trial"].iloc[0]),
                "mean": interval.mean,
                "low": max(interval.low, lowest(results)),
                "high": min(interval.high, highest(results)),
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


def lowest(results: Results) -> float:
    """What no score is below."""
    return 0.0 if results.objective.metric in AT_LEAST_ZERO else -math.inf


def highest(results: Results) -> float:
    """What no score exceeds."""
    return 1.0 if results.objective.metric in AT_MOST_ONE else math.inf


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
        interval, p = paired_interval(sign * paired[0], sign * paired[1])
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

    Corrected for all pairs of families, since the scores decide which family is the best: among six
    that are equal, the best would else be called better than another in 8% of studies.
    Holm (1979, Scandinavian Journal of Statistics 6, 65-70).
    """
    pairs = list(itertools.combinations(family_scores(results)["family"], 2))
    found = [compare(results, a, b) for a, b in pairs]
    adjusted = holm([difference.p for difference in found])
    return [
        replace(difference, adjusted_p=p)
        for difference, p in zip(found, adjusted, strict=True)
        if difference.a == pairs[0][0]
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

    The half-width is that of `crossed_width`, put on the scale of a proportion by Wilson's formula
    with the effective number of items p (1 - p) t^2 / half^2 (Korn and Graubard 1998, Survey
    Methodology 24, 193-201), so it stays within [0, 1] and has a width even when every item is
    right. A percentile bootstrap of 3 seeds and 270 items covers 72 to 94%.
    """
    seeds, items = correct.shape
    mean = float(correct.mean())
    over_items = _variance(correct.mean(axis=0)) / items, items - 1.0
    variance, half_line = crossed_width(over_items, [between_seeds(correct)] if seeds > 1 else [])
    t = half_line / math.sqrt(variance) if variance > 0 else quantile(items - 1)
    spread = mean * (1 - mean)
    effective = min(max(spread / variance, 1.0), correct.size) if variance > 0 else float(items)
    shrink = 1 + t**2 / effective
    centre = (mean + t**2 / (2 * effective)) / shrink
    half = t / shrink * math.sqrt(spread / effective + t**2 / (4 * effective**2))
    return Interval(mean=mean, low=max(centre - half, 0.0), high=min(centre + half, 1.0))


def paired_interval(one: Array, two: Array) -> tuple[Interval, float]:
    """The difference of two (seeds, items) arrays over the same items, with 95% interval and p.

    Over the item-wise differences of the means over seeds, and what the seeds of both add to their
    variance (`crossed_width`). With one seed, the seeds' part is left out.
    """
    apart = one.mean(axis=0) - two.mean(axis=0)
    items = _variance(apart) / len(apart), len(apart) - 1.0
    seeds = [between_seeds(given) for given in (one, two) if len(given) > 1]
    return _interval(float(apart.mean()), lambda p: crossed_width(items, seeds, p)[1])


def welch_interval(one: Array, two: Array) -> tuple[Interval, float]:
    """The difference of two means over seeds, with 95% interval and p; NaN for a single seed.

    Welch (1947, Biometrika 34, 28-35).
    """
    parts = [_variance_of_mean(one), _variance_of_mean(two)]
    gap, largest = float(one.mean() - two.mean()), float(np.abs([*one, *two]).max())
    return t_interval(gap if abs(gap) > ROUNDING * largest else 0.0, [together(parts)])


def seed_interval(scores: Array) -> Interval:
    """The mean over seeds with Student's t interval; NaN bounds for a single seed."""
    return t_interval(float(scores.mean()), [_variance_of_mean(scores)])[0]


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
    own = own.assign(is_correct=own["is_correct"].astype("float64"))  # pivots 90 times as fast
    wide = own.drop_duplicates(["seed", "item"]).pivot(
        index="seed", columns="item", values="is_correct"
    )
    is_whole = len(wide) == seeds.nunique() and wide.shape[1] > 1 and wide.notna().all(axis=None)
    return wide if is_whole else None


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


def _variance_of_mean(scores: Array) -> Part:
    variance, rounding = _variance(scores), ROUNDING * float(np.abs(scores).max())
    return 0.0 if variance <= rounding**2 else variance / len(scores), len(scores) - 1


def t_interval(mean: float, parts: list[Part]) -> tuple[Interval, float]:
    """The interval, and the two-sided p for a mean of zero; NaN where a variance is unknown."""
    if math.isnan(sum(part for part, _ in parts)):
        return Interval(mean=mean, low=math.nan, high=math.nan), math.nan
    return _interval(mean, lambda p: half_width(parts, p))


def _interval(mean: float, half_at: Callable[[float], float]) -> tuple[Interval, float]:
    """The interval, and the p-value: one minus the level of the interval that just reaches zero.

    Where nothing scatters, as with families that draw nothing, the mean is taken as it is.
    """

    def short_of_zero(log_p: float) -> float:
        return abs(mean) - half_at(math.exp(log_p))

    half = half_at(math.exp(USUAL))
    interval = Interval(mean=mean, low=mean - half, high=mean + half)
    if not mean:
        return interval, 1.0
    if short_of_zero(SMALLEST) > 0:
        return interval, 0.0
    bounds = (USUAL, 0.0) if short_of_zero(USUAL) <= 0 else (SMALLEST, USUAL)
    return interval, math.exp(optimize.brentq(short_of_zero, *bounds, xtol=PRECISE))
