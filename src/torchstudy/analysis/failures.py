"""What failed, how often, and in which region of the space."""

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from torchstudy.analysis.tables import CONFIG, numbers
from torchstudy.records import Status

FAILED = tuple(status.value for status in Status if status.is_failure)
FEWEST = 3  # failed and other trials needed before a region is looked for
ALPHA = 0.05
REASON_COLUMNS = [
    "family",
    "status",
    "reason",
    "n",
    "tried",
    "trials",
    "hyperparameter",
    "median_failed",
    "median_rest",
    "p",
]


def outcome_counts(trials: pd.DataFrame) -> pd.DataFrame:
    """How many trials ended how: family, status, n; families and statuses as they first appear."""
    counts = trials.groupby(["family", "status"], sort=False).size().rename("n")
    return counts.reset_index()


def failure_reasons(trials: pd.DataFrame) -> pd.DataFrame:
    """One row per family, status and kind of reason, most frequent first.

    Reasons that differ only in their numbers are one kind, shown by its first. `tried` counts the
    family's trials. `hyperparameter` is the numeric one whose values differ most from the family's
    trials that did not fail this way (two-sided Mann-Whitney test, Bonferroni-corrected p below
    0.05, at least 3 of either), else missing.
    """
    failed = trials[trials["status"].isin(FAILED)]
    kinds = failed["reason"].fillna("").astype(str).map(_kind_of_reason)
    rows = []
    for (family, status, _), group in failed.groupby(
        [failed["family"], failed["status"], kinds.rename("kind")], sort=True
    ):
        own = trials[trials["family"] == family]
        rows.append(
            {
                "family": str(family),
                "status": str(status),
                "reason": str(group["reason"].fillna("").iloc[0]),
                "n": len(group),
                "tried": len(own),
                "trials": tuple(int(number) for number in group["trial"]),
                **_region(group, own.drop(index=group.index)),
            }
        )
    table = pd.DataFrame(rows, columns=REASON_COLUMNS)
    return table.sort_values("n", ascending=False, kind="stable").reset_index(drop=True)


def _kind_of_reason(reason: str) -> str:
    return re.sub(r"\d+(\.\d+)?([eE][+-]?\d+)?", "#", reason)


def _region(failed: pd.DataFrame, rest: pd.DataFrame) -> dict[str, object]:
    nothing: dict[str, object] = dict.fromkeys(REASON_COLUMNS[-4:], np.nan)
    nothing["hyperparameter"] = None
    if min(len(failed), len(rest)) < FEWEST:
        return nothing
    found = list(_contrasts(failed, rest))
    if not found:
        return nothing
    p, name, inside, outside = min(found)
    if p * len(found) >= ALPHA:
        return nothing
    return {
        "hyperparameter": name,
        "median_failed": inside,
        "median_rest": outside,
        "p": p * len(found),
    }


def _contrasts(
    failed: pd.DataFrame, rest: pd.DataFrame
) -> Iterator[tuple[float, str, float, float]]:
    from scipy import stats  # a third of a second, and few studies have enough failures

    for column in (str(name) for name in failed.columns if str(name).startswith(CONFIG)):
        kind = failed[column].dtype
        if not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_bool_dtype(kind):
            continue
        inside, outside = numbers(failed, column).dropna(), numbers(rest, column).dropna()
        if min(len(inside), len(outside)) < FEWEST or pd.concat([inside, outside]).nunique() < 2:
            continue
        p = float(stats.mannwhitneyu(inside, outside, alternative="two-sided").pvalue)
        yield p, column.removeprefix(CONFIG), float(inside.median()), float(outside.median())
