from hypothesis import given, settings
from hypothesis import strategies as st

from torchstudy.seeds import derive


def test_a_seed_is_the_same_on_every_machine_and_in_every_version() -> None:
    assert derive(0) == 804681139
    assert derive(0, "CNN", 3, "init") == 1465108145


@given(st.integers(0, 2**63), st.lists(st.text() | st.integers()))
@settings(max_examples=60, deadline=None)
def test_every_seed_fits_what_torch_and_numpy_accept(seed: int, path: list[str | int]) -> None:
    assert 0 <= derive(seed, *path) < 2**31
    assert derive(seed, *path) == derive(seed, *path)


def test_seeds_differ_by_study_family_trial_and_purpose() -> None:
    seeds = {
        derive(seed, family, trial, purpose)
        for seed in range(5)
        for family in ("CNN", "Transfer")
        for trial in range(20)
        for purpose in ("init", "shuffle")
    }
    assert len(seeds) == 5 * 2 * 20 * 2


def test_the_order_of_a_path_matters() -> None:
    assert derive(0, "a", "b") != derive(0, "b", "a")
    assert derive(1, 23) != derive(12, 3)


def test_seeds_spread_over_the_whole_range() -> None:
    # The mean of 2,000 uniform numbers is within 4.5 standard errors of the middle; the same
    # numbers come out of every run.
    places = [derive(0, number) / 2**31 for number in range(2000)]
    assert abs(sum(places) / 2000 - 0.5) < 4.5 * (1 / 12) ** 0.5 / 2000**0.5
