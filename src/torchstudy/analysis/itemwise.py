"""What every test item says about a family: what scores can be compared over, item by item."""

import numpy as np
import pandas as pd

from torchstudy.analysis.tables import Results

OF_CLASSES = ("accuracy",)
OF_NUMBERS = ("mse", "mae", "r2", "loss")


def item_scores(
    results: Results, answers: pd.DataFrame | None, split: str = "test"
) -> pd.DataFrame | None:
    """The objective on each item of a split, one row per seed: its mean is that seed's score.

    `answers` are predictions of one family. Errors and right answers are what they are; r2, a
    ratio of two sums over the items, is linearised about its value (Cochran, "Sampling
    Techniques", 1977, 6.4), so that the choice of the items counts in both sums. None where the
    objective is no mean over items, where items are missing for a seed, or fewer than two.
    """
    metric = results.objective.metric
    if answers is None:
        return None
    own = answers[answers["split"].eq(split).fillna(False).astype(bool)]
    if metric in OF_CLASSES and "is_correct" in own:
        return _wide(own, "is_correct")
    if metric not in OF_NUMBERS or "predicted_value" not in own:
        return None
    found, wanted = _wide(own, "predicted_value"), _wide(own, "target_value")
    if found is None or wanted is None:
        return None
    errors = found - wanted
    if metric == "mae":
        return errors.abs()
    if metric == "r2":
        return _explained(errors**2, wanted)
    return errors**2 if metric == "mse" else _standardised(results, errors**2)


def _wide(answers: pd.DataFrame, column: str) -> pd.DataFrame | None:
    """The column for every seed (rows) and item (columns)."""
    own = answers.drop_duplicates(["seed", "item"])
    own = own.assign(**{column: own[column].astype("float64")})  # pivots 90 times as fast
    wide = own.pivot(index="seed", columns="item", values=column)
    is_whole = wide.shape[1] > 1 and bool(np.isfinite(wide.to_numpy(dtype=np.float64)).all())
    return wide if is_whole else None


def _explained(squares: pd.DataFrame, targets: pd.DataFrame) -> pd.DataFrame | None:
    """The share of variance explained: 1 - SSE / SST, with what each item adds to either sum."""
    apart = (targets.sub(targets.mean(axis=1), axis=0)) ** 2
    variance = apart.mean(axis=1)
    if not variance.gt(0).all():
        return None
    ratio = squares.mean(axis=1) / variance
    beyond = squares - apart.mul(ratio, axis=0)
    return (-beyond.div(variance, axis=0)).add(1 - ratio, axis=0)


def _standardised(results: Results, squares: pd.DataFrame) -> pd.DataFrame | None:
    """The squares in the unit of the loss: the variance of the training targets."""
    spread = (results.summary.get("data") or {}).get("target_std")
    return squares / float(spread) ** 2 if spread else None
