"""Which of several results no other beats in every respect, and in which order they are taken."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]


def pareto_ranks(values: Array) -> NDArray[np.int64]:
    """1 for rows that no other beats, 2 for those that only such rows beat, and so on; (n,).

    `values` (n, m) holds one row per result; larger is better in every column, and none is NaN. A
    row beats another if it is nowhere worse and somewhere better (non-dominated sorting: Deb et
    al., "A fast and elitist multiobjective genetic algorithm: NSGA-II", 2002). Takes time with the
    number of ranks: for the first one alone there is `on_front`.
    """
    if values.shape[1] == 1:
        _, places = np.unique(-values[:, 0], return_inverse=True)
        return places.reshape(-1).astype(np.int64) + 1
    ranks = np.zeros(len(values), dtype=np.int64)
    left, rank = np.arange(len(values)), 0
    while len(left):
        rank += 1
        is_best = on_front(values[left])
        ranks[left[is_best]] = rank
        left = left[~is_best]
    return ranks


def on_front(values: Array) -> NDArray[np.bool_]:
    """Whether no other row beats each row of `values` (n, m), (n,).

    In the order of the columns, from the largest, no row beats one that comes before it.
    """
    found = np.zeros(len(values), dtype=bool)
    front = np.empty((0, values.shape[1]))
    for row in np.lexsort(-values.T[::-1]):
        own = values[row]
        if not ((front >= own).all(axis=1) & (front > own).any(axis=1)).any():
            found[row] = True
            front = np.concatenate([front, own[None]])
    return found


def taken_in_order(values: Array, before: Array | None = None) -> list[int]:
    """The rows of `values` (n, m), those of a lower rank first, and those far apart.

    `before` (k, m) are taken already; ranks are those among all rows. Among rows of one rank the
    next is the one farthest from all that were taken, distances being measured in ranges of the
    columns; the first of all is the best in the first column (an epsilon-net: Schmucker et al.,
    "Multi-objective asynchronous successive halving", 2021).
    """
    both = values if before is None else np.concatenate([values, before])
    width = np.ptp(both, axis=0) if len(both) else np.ones(values.shape[1])
    both = both / np.where(width > 0, width, 1.0)
    scaled, ranks = both[: len(values)], pareto_ranks(both)[: len(values)]
    apart = np.full(len(values), np.inf)
    for taken in both[len(values) :]:
        apart = np.minimum(apart, np.linalg.norm(scaled - taken, axis=1))
    order: list[int] = []
    left = np.arange(len(values))
    while len(left):
        keys = -left, scaled[left, 0], apart[left], -ranks[left]  # the last one counts first
        place = int(np.lexsort(keys)[-1])
        order.append(int(left[place]))
        left = np.delete(left, place)
        apart = np.minimum(apart, np.linalg.norm(scaled - scaled[order[-1]], axis=1))
    return order
