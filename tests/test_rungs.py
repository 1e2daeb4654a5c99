"""The rungs of a search: where trials pause, and which of them may go on."""

import pytest

from torchstudy.domains import Float
from torchstudy.search.rungs import (
    Ladder,
    expected_epochs,
    ladder_for,
    promotable,
    without_rungs,
)
from torchstudy.search.tried import State, Tried
from torchstudy.space import SearchSpace

SPACE = SearchSpace({"rate": Float(0, 1)})
LADDER = ladder_for(27)


def tried(number: int, reached: int, *, until: int = 0, state: State = "waiting") -> Tried:
    """A trial that has got to a rung of 27 epochs, and trains on to `until` if that is given."""
    return Tried(
        number=number,
        config={"rate": number / 100},
        state="pending" if until else state,
        until=until or reached,
        values={level: number / 100 for level in LADDER.levels if level <= reached},
    )


@pytest.mark.parametrize(
    ("epochs", "levels"),
    [
        (1, (1,)),
        (3, (3,)),
        (4, (4,)),
        (5, (3, 5)),
        (27, (3, 9, 27)),
        (30, (3, 9, 30)),
        (52, (3, 9, 27, 52)),
        (100, (6, 18, 54, 100)),
        (1000, (60, 180, 540, 1000)),
    ],
)
def test_rungs_are_a_share_of_the_full_length_and_short_trainings_have_none(
    epochs: int, levels: tuple[int, ...]
) -> None:
    assert ladder_for(epochs).levels == levels


def test_one_new_configuration_in_ten_goes_straight_to_the_top() -> None:
    firsts = [LADDER.first(number, trained=0) for number in range(40)]
    assert [number for number, until in enumerate(firsts) if until == 27] == [9, 19, 29, 39]
    assert set(firsts) == {3, 27}
    assert {without_rungs(27).first(number, trained=0) for number in range(40)} == {27}


def test_once_five_full_trainings_have_been_paid_new_trials_pause_at_the_second_rung() -> None:
    assert [LADDER.first(0, trained) for trained in (0, 134, 135, 10_000)] == [3, 3, 9, 9]
    assert LADDER.first(9, trained=10_000) == 27
    assert ladder_for(52).first(0, trained=260) == 9


@pytest.mark.parametrize("epochs", [3, 9])
def test_the_top_is_nobodys_first_rung_for_what_has_been_paid(epochs: int) -> None:
    ladder = ladder_for(epochs)
    assert ladder.first(0, trained=10_000) == ladder.levels[0]


def test_the_next_rung_is_the_first_above_what_was_reached() -> None:
    assert [LADDER.after(epochs) for epochs in (1, 3, 8, 9, 26)] == [3, 9, 9, 27, 27]


def test_one_trial_in_three_may_go_on() -> None:
    waiting = [tried(number, 3) for number in range(5)]
    assert promotable(LADDER, waiting[:2]) == []
    assert promotable(LADDER, waiting) == waiting
    promoted = [tried(0, 3, until=9), *waiting[1:]]
    assert promotable(LADDER, promoted) == []  # one of five goes on already
    assert promotable(LADDER, [*promoted, tried(5, 3)]) == [*waiting[1:], tried(5, 3)]


def test_the_highest_rung_with_room_comes_first() -> None:
    high = [tried(number, 9) for number in range(3)]
    low = [tried(number, 3) for number in range(3, 30)]
    assert promotable(LADDER, [*low, *high]) == high
    assert promotable(LADDER, [*low, *high[:2]]) == low


def test_what_is_under_way_or_failed_or_at_its_end_is_not_promoted() -> None:
    failed = [tried(number, 3, state="failed") for number in range(9)]
    assert promotable(LADDER, [*failed, tried(9, 3, until=9)]) == []
    assert promotable(LADDER, [*failed, tried(9, 27, state="completed"), tried(10, 3)]) == [
        tried(10, 3)
    ]


def test_a_trial_on_its_first_leg_takes_no_room() -> None:
    young = [tried(number, 0, until=3) for number in range(9)]
    assert promotable(LADDER, [*young, tried(9, 3), tried(10, 3)]) == []


def test_even_a_search_of_two_trials_brings_one_to_the_top_at_its_end() -> None:
    pair = [tried(0, 3), tried(1, 3)]
    assert promotable(LADDER, pair) == []
    assert promotable(LADDER, pair, is_closing=True) == pair
    assert promotable(LADDER, [pair[0], tried(1, 9)], is_closing=True) == [tried(1, 9)]
    ended = [pair[0], tried(1, 27, state="completed")]
    assert promotable(LADDER, ended, is_closing=True) == []


def test_without_rungs_nobody_waits() -> None:
    assert promotable(without_rungs(27), [tried(n, 3) for n in range(30)], is_closing=True) == []


def test_the_expected_epochs_are_those_of_a_search_that_promotes_what_it_may() -> None:
    assert expected_epochs(without_rungs(27), 9) == 9 * 27
    assert expected_epochs(Ladder(levels=(3, 9, 27), straight=0), 9) == 9 * 3 + 3 * 6 + 1 * 18


def test_the_expected_epochs_know_who_does_not_pause_at_the_first_rung() -> None:
    ladder = Ladder(levels=(3, 9, 27), straight=0)
    num_early = 19  # whose 57 + 42 + 54 epochs are more than five times 27
    assert expected_epochs(ladder, num_early) == 19 * 3 + 7 * 6 + 3 * 18
    assert expected_epochs(ladder, 60) == 60 * 3 + 41 * 6 + 14 * 18
    assert expected_epochs(ladder, 60, trained=5 * 27) == 60 * 9 + 20 * 18
    assert expected_epochs(ladder, num_early, trained=60) > expected_epochs(ladder, num_early)
