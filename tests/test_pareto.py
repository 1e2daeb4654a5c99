"""Pareto ranks, and the order in which results are taken."""

import numpy as np
import pytest

from torchstudy.pareto import on_front, pareto_ranks, taken_in_order


def ranked_by_hand(values: list[list[float]]) -> list[int]:
    """As the definition says: peel off what no row that is left beats."""
    left, ranks, rank = set(range(len(values))), [0] * len(values), 0
    while left:
        rank += 1
        free = {row for row in left if not any(beats(values[o], values[row]) for o in left)}
        for row in free:
            ranks[row] = rank
        left -= free
    return ranks


def beats(one: list[float], other: list[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_ranks_are_those_of_the_definition(columns: int) -> None:
    generator = np.random.default_rng(0)
    for size in (0, 1, 2, 7, 40):
        values = generator.integers(6, size=(size, columns)).astype(float)  # with ties
        assert pareto_ranks(values).tolist() == ranked_by_hand(values.tolist())


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_the_front_is_the_first_rank(columns: int) -> None:
    generator = np.random.default_rng(1)
    for size in (0, 1, 60):
        values = generator.integers(5, size=(size, columns)).astype(float)
        assert on_front(values).tolist() == (pareto_ranks(values) == 1).tolist()
        assert on_front(values).sum() == sum(rank == 1 for rank in ranked_by_hand(values.tolist()))


def test_equal_results_beat_neither_each_other() -> None:
    assert pareto_ranks(np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 1.0]])).tolist() == [1, 1, 2]


def test_one_objective_is_taken_best_first_and_equals_in_order() -> None:
    values = np.array([[0.2], [0.9], [0.5], [0.9]])
    assert taken_in_order(values) == [1, 3, 2, 0]


def test_of_one_rank_the_best_in_the_first_comes_first_then_what_is_far_away() -> None:
    front = np.array([[1.0, 0.0], [0.9, 0.1], [0.5, 0.5], [0.0, 1.0]])
    beaten = np.array([[0.4, 0.4]])
    assert taken_in_order(np.concatenate([beaten, front])) == [1, 4, 3, 2, 0]


def test_what_was_taken_before_keeps_others_at_a_distance() -> None:
    front = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    assert taken_in_order(front, before=np.array([[1.0, 0.0]]))[0] == 2
    assert taken_in_order(front, before=np.array([[0.0, 1.0]]))[0] == 0


def test_units_do_not_matter() -> None:
    generator = np.random.default_rng(1)
    values = generator.random((30, 2))
    assert taken_in_order(values * [1.0, 1e6]) == taken_in_order(values)
