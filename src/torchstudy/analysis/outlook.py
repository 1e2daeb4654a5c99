"""What more trials would probably gain, if they were like those that a model proposed last."""

from collections.abc import Sequence

import numpy as np

LATEST = 5  # proposals that stand for those to come
DRAWS = 4000
LIKELY = 0.9  # how often the gain is to be below what is said of it


def likely_gain(
    expected: Sequence[float], spreads: Sequence[float], *, best: float, count: int
) -> float:
    """How far the best of `count` more trials would be above `best`, as a 90% quantile.

    Each is drawn from what was expected of one of the given proposals, as a normal distribution;
    larger is better. 0 or more. Deterministic.
    """
    generator = np.random.default_rng(0)
    means, deviations = np.array(expected), np.array(spreads)
    drawn = generator.integers(len(means), size=(DRAWS, count))
    values = means[drawn] + deviations[drawn] * generator.standard_normal((DRAWS, count))
    gains = np.maximum(values.max(axis=1) - best, 0.0)
    return float(np.quantile(gains, LIKELY))
