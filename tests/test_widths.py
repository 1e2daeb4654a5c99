"""Half widths of means whose variance is known in parts."""

import numpy as np
import pytest

from torchstudy.analysis.widths import Seeds, between_seeds, crossed_width, half_width, quantile


def test_without_seeds_it_is_student_s_interval_over_items() -> None:
    assert crossed_width((4.0, 9.0), [])[1] == pytest.approx(2 * quantile(9.0))


def test_without_variance_over_items_it_is_student_s_interval_over_seeds() -> None:
    seeds = Seeds(square=4.0, noise=0.0, degrees=2)
    assert crossed_width((0.0, 1e6), [seeds])[1] == pytest.approx(half_width([(4.0, 2)]))


def test_seeds_that_agree_make_nothing_narrower_than_the_items_do() -> None:
    seeds = Seeds(square=0.0, noise=1.0, degrees=2)
    assert crossed_width((4.0, 99.0), [seeds])[1] == crossed_width((4.0, 99.0), [])[1]


def test_it_widens_with_the_level_and_with_what_seeds_add() -> None:
    few, many = (Seeds(square=square, noise=0.5, degrees=1) for square in (1.0, 3.0))
    widths = [crossed_width((1.0, 99.0), [few], p)[1] for p in (1.0, 0.5, 0.05, 1e-9)]
    assert widths[0] == 0
    assert widths == sorted(widths)
    assert crossed_width((1.0, 99.0), [many])[1] > widths[2]


def test_noise_is_what_seeds_that_are_alike_differ_by() -> None:
    answers = (np.random.default_rng(8).random((10, 20_000)) < 0.9).astype(float)
    found = between_seeds(answers)
    assert found.noise == pytest.approx(0.9 * 0.1 / answers.size, rel=0.05)
    assert found.square < 3.2 * found.noise  # chi-squared / 9 exceeds it in one of 2,000
