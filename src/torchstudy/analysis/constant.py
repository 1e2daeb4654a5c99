"""What is always giving the same answer worth? A family that is no better has learned nothing."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from torchstudy.analysis.tables import Results


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """The best constant answer to the items of a split: a class, or a number."""

    answer: str | float
    score: float  # the objective that it has
    items: int


def best_constant(results: Results, split: str) -> Constant | None:
    """The constant answer with the best objective on the items of a split.

    The most frequent class for accuracy, the mean for squared errors and r2 and the median for
    absolute errors, each of that split itself, so that no constant known beforehand does better.
    None for other objectives, and where no family's answers are recorded.
    """
    for family in results.families:
        answers = results.predictions.get(family)
        if answers is None:
            continue
        is_own = answers["split"].eq(split).fillna(False).astype(bool)
        own = answers[is_own].drop_duplicates("item")
        if len(own) and (found := _constant(results.objective.metric, own)):
            return found
    return None


def _constant(metric: str, own: pd.DataFrame) -> Constant | None:
    if metric == "accuracy" and own["target"].notna().all():
        names, counts = np.unique(own["target"].to_numpy(dtype=object), return_counts=True)
        top = int(counts.argmax())
        share = float(counts[top] / len(own))
        return Constant(answer=str(names[top]), score=share, items=len(own))
    if "target_value" not in own or metric not in ("mse", "mae", "r2"):
        return None
    values = own["target_value"].to_numpy(dtype=np.float64)
    answer = float(np.median(values) if metric == "mae" else values.mean())
    scores = {
        "mse": float(np.square(values - answer).mean()),
        "mae": float(np.abs(values - answer).mean()),
        "r2": 0.0,
    }
    return Constant(answer=answer, score=scores[metric], items=len(own))
