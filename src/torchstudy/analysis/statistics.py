"""How sure one can be: scores of the families on the test split, and their differences."""

import itertools
import math
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pandas as pd

from torchstudy.analysis.intervals import (
    Interval,
    crossed_interval,
    error_interval,
    paired_interval,
    seed_interval,
    welch_interval,
)
from torchstudy.analysis.itemwise import item_scores
from torchstudy.analysis.tables import Results, chosen_trainings, numbers
from torchstudy.analysis.widths import LEVEL, Array
from torchstudy.records import AT_LEAST_ZERO, AT_MOST_ONE, COUNTS, Status

CLOSE = 1e-4  # between the mean of answers and the score in the table, relative to it
ROUNDED = 1e-9  # likewise, where the score is about 0
SEEDS_AND_ITEMS = "seeds and test items"
SEEDS_ONLY = "seeds only"
ITEMS_ONLY = "test items only"
COUNTED = "counted"  # what a network costs is the same with every seed


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
    adjusted_p: float = math.nan  # Holm, over all pairs of families whose p is known
    num_compared: int = 1  # those pairs

    @property
    def is_separable(self) -> bool:
        """Whether the difference is unlikely to be noise, after the correction where there is one.

        Without a correction the interval decides.
        """
        p = self.p if math.isnan(self.adjusted_p) else self.adjusted_p
        return p < 1 - LEVEL


Compared = TypeVar("Compared", bound=Difference)


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
        answers = answers_on_test(results, family)
        interval, basis = _score_interval(results, scores, answers)
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
                "items": 0 if answers is None else answers.shape[1],
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


def perfect(results: Results) -> float:
    """What an error is counted from, where the objective is one: nothing is better."""
    return 1.0 if results.objective.metric in AT_MOST_ONE else 0.0


def farthest(results: Results) -> float:
    """What no difference of two scores exceeds."""
    return highest(results) - lowest(results)


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
        low=max(interval.low, -farthest(results)),
        high=min(interval.high, farthest(results)),
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
    corrected = holm_corrected([compare(results, a, b) for a, b in pairs])
    return [difference for difference in corrected if difference.a == pairs[0][0]]


def holm_corrected(found: list[Compared]) -> list[Compared]:
    """The differences with their adjusted p."""
    adjusted = holm([difference.p for difference in found])
    known = sum(not math.isnan(difference.p) for difference in found)
    return [
        replace(difference, adjusted_p=p, num_compared=known)
        for difference, p in zip(found, adjusted, strict=True)
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


def answers_on_test(results: Results, family: str) -> pd.DataFrame | None:
    """The objective on each test item (columns) by each confirmed training (rows): `item_scores`.

    None where that is not known of all of them, or is not what their scores are made of.
    """
    table, answers = confirmed(results, family), results.predictions.get(family)
    if answers is None or table.empty:
        return None
    found = item_scores(results, answers[answers["seed"].isin(table["seed"])])
    if found is None or len(found) != table["seed"].nunique():
        return None
    scores = table.drop_duplicates("seed").set_index("seed").loc[found.index]
    told = numbers(scores, f"test_{results.objective.metric}")
    return found if are_close(found.mean(axis=1), told) else None


def are_close(means: "pd.Series[float]", scores: "pd.Series[float]") -> bool:
    """Whether means over items are the scores of a table: the answers are of those trainings."""
    return bool(np.allclose(means, scores, rtol=CLOSE, atol=ROUNDED))


def _paired(results: Results, a: str, b: str) -> tuple[Array, Array] | None:
    one, two = answers_on_test(results, a), answers_on_test(results, b)
    if one is None or two is None:
        return None
    shared = one.columns.intersection(two.columns)
    if len(shared) < max(one.shape[1], two.shape[1]):
        return None
    return one[shared].to_numpy(dtype=np.float64), two[shared].to_numpy(dtype=np.float64)


def _score_interval(
    results: Results, scores: Array, answers: pd.DataFrame | None
) -> tuple[Interval, str]:
    basis = _basis(len(scores), has_items=answers is not None)
    if answers is None:
        return seed_interval(scores), basis
    given = answers.to_numpy(dtype=np.float64)
    if results.objective.metric == "accuracy":
        interval = crossed_interval(given)
    else:
        interval = error_interval(given, perfect=perfect(results))
    return replace(interval, mean=float(scores.mean())), basis


def _basis(seeds: int, *, has_items: bool) -> str:
    if not has_items:
        return SEEDS_ONLY
    return SEEDS_AND_ITEMS if seeds > 1 else ITEMS_ONLY
