"""What is always giving the same answer worth? A family that is no better has learned nothing."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from torchstudy.analysis.intervals import ROUNDING, mean_interval
from torchstudy.analysis.itemwise import OF_NUMBERS, item_scores
from torchstudy.analysis.statistics import answers_on_test, are_close
from torchstudy.analysis.tables import Results
from torchstudy.records import AT_MOST_ONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """The best constant answer to the items of a split: a class, or a number."""

    answer: str | float
    score: float  # the objective that it has
    items: int
    is_below_one: bool = False  # it counts from 1, as r2 does

    def is_beaten_by(self, score: float, sign: int) -> bool:
        """Whether a score, of which more is better times `sign`, is better but for rounding.

        What is counted from 1, as r2, is a difference to 1, and rounded like that.
        """
        size = max(abs(score), abs(self.score), 1.0 if self.is_below_one else 0.0)
        return sign * (score - self.score) > ROUNDING * size


def best_constant(results: Results, split: str) -> Constant | None:
    """The constant answer with the best objective on the items of a split.

    The most frequent class for accuracy, the median for absolute errors and the mean for other
    errors of numbers and r2, each of that split itself, so that no constant known beforehand does
    better. None for other objectives, and where no family's answers are recorded.
    """
    for family in results.families:
        answers = results.predictions.get(family)
        if answers is None:
            continue
        is_own = answers["split"].eq(split).fillna(False).astype(bool)
        own = answers[is_own].drop_duplicates("item")
        if len(own) and (found := _constant(results, own)):
            return found
    return None


def least_lead(
    results: Results, family: str, split: str, constant: Constant, score: float
) -> float:
    """The lower end of a 95% interval for how far a family is ahead of a constant answer.

    Over the same items; on test over the seeds, too, elsewhere for the one training that has this
    score. NaN where the answers that the score is of are not known.
    """
    if split == "test":
        own = answers_on_test(results, family)
    else:
        own = _answers_of(results, family, split, score)
    always = _always(results, family, split, constant)
    if own is None or always is None or set(own) != set(always.columns):
        return float("nan")
    apart = own.to_numpy(dtype=np.float64) - always[own.columns].to_numpy(dtype=np.float64)
    return mean_interval(results.objective.sign * apart).low


def _answers_of(results: Results, family: str, split: str, score: float) -> pd.DataFrame | None:
    own = item_scores(results, results.predictions.get(family), split)
    if own is None:
        return None
    means = own.mean(axis=1)
    return own if are_close(means, pd.Series(score, index=means.index)) else None


def _always(results: Results, family: str, split: str, constant: Constant) -> pd.DataFrame | None:
    """The scores on single items of always answering the same."""
    answers = results.predictions.get(family)
    if answers is None:
        return None
    once = answers.drop_duplicates(["split", "item"])
    if isinstance(constant.answer, str):
        answered = once.assign(is_correct=once["target"].eq(constant.answer))
    else:
        answered = once.assign(predicted_value=constant.answer)
    return item_scores(results, answered.assign(seed=0), split)


def _constant(results: Results, own: pd.DataFrame) -> Constant | None:
    metric = results.objective.metric
    if metric == "accuracy" and own["target"].notna().all():
        names, counts = np.unique(own["target"].to_numpy(dtype=object), return_counts=True)
        top = int(counts.argmax())
        share = float(counts[top] / len(own))
        return Constant(answer=str(names[top]), score=share, items=len(own), is_below_one=True)
    if "target_value" not in own or metric not in OF_NUMBERS:
        return None
    values = own["target_value"].to_numpy(dtype=np.float64)
    answer = float(np.median(values) if metric == "mae" else values.mean())
    split = str(own["split"].iloc[0])
    scores = item_scores(results, own.assign(predicted_value=answer, seed=0), split)
    if scores is None:
        return None
    return Constant(
        answer=answer,
        score=float(scores.iloc[0].mean()),
        items=len(own),
        is_below_one=metric in AT_MOST_ONE,
    )
