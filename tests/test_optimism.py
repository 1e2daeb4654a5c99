"""What is said of luck and of fewer trials holds in simulated searches."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.report_data import Made, write_study

from torchstudy.analysis.optimism import expected_best, likely_optimism
from torchstudy.analysis.tables import Results, read_results
from torchstudy.report.budget import curves
from torchstudy.report.sentences import verdict
from torchstudy.report.story import Story

STUDIES = 150
Drawn = Callable[[np.random.Generator, int], np.ndarray]


def close(generator: np.random.Generator, size: int) -> np.ndarray:
    return 0.95 + 0.003 * generator.standard_normal(size)


def spread(generator: np.random.Generator, size: int) -> np.ndarray:
    return 0.97 - generator.gamma(0.7, 0.03, size)


def equal(generator: np.random.Generator, size: int) -> np.ndarray:
    return np.full(size, 0.93)


@pytest.mark.parametrize("truth", [close, spread, equal])
@pytest.mark.parametrize("size", [20, 60])
def test_the_optimism_of_a_best_share_is_foreseen(truth: Drawn, size: int) -> None:
    """Mean of 150 searches each; 0.86 to 1.16 times the true optimism."""
    generator = np.random.default_rng(0)
    real, said = [], []
    for _ in range(STUDIES):
        true = np.clip(truth(generator, size), 0.0, 1.0)
        seen = generator.binomial(300, true) / 300
        best = int(seen.argmax())
        real.append(seen[best] - true[best])
        said.append(likely_optimism(seen.tolist(), 300))
    assert 0.75 < np.mean(said) / np.mean(real) < 1.25


def test_more_items_leave_less_to_luck_and_more_trials_more() -> None:
    shares = [0.90, 0.91, 0.92, 0.905, 0.915]
    assert likely_optimism(shares, 10_000) < likely_optimism(shares, 300)
    assert likely_optimism(shares, 300) < likely_optimism(shares * 4, 300)
    assert likely_optimism([1.0] * 5, 100) > 0
    assert math.isnan(likely_optimism([0.9, 0.8, math.nan], 300))
    assert math.isnan(likely_optimism(shares, 0))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(write_study(tmp_path_factory.mktemp("luck"), Made()))


def few(results: Results, values: list[float], statuses: list[str]) -> Results:
    """Trials of one family with these values."""
    rows = results.trials[results.trials["family"] == "CNN"].head(len(values)).copy()
    rows["best_valid_accuracy"], rows["status"] = values, statuses
    return replace(results, trials=rows.reset_index(drop=True))


def test_the_expected_best_is_the_mean_over_all_draws(results: Results) -> None:
    values = [0.5, 0.9, 0.7, 0.6, 0.8]
    table = expected_best(few(results, values, ["completed"] * 5)).set_index("trials")["best"]
    for k in range(1, 6):
        draws = [max(chosen) for chosen in itertools.combinations(values, k)]
        assert table[k] == pytest.approx(np.mean(draws))


def test_a_failed_trial_counts_as_the_worst(results: Results) -> None:
    found = few(results, [0.5, 0.9, 0.7, math.nan], ["completed"] * 3 + ["diverged"])
    table = expected_best(found).set_index("trials")["best"]
    assert table[1] == pytest.approx((0.5 + 0.9 + 0.7 + 0.5) / 4)
    assert expected_best(few(results, [0.5, 0.9], ["completed"] * 2)).empty


def test_less_is_better_of_a_loss(tmp_path: Path) -> None:
    table = expected_best(read_results(write_study(tmp_path, Made(metric="loss"))))
    for _, own in table.groupby("family"):
        assert own["best"].is_monotonic_decreasing
        assert own["trials"].is_monotonic_increasing


def test_a_study_without_confirmation_says_how_optimistic_its_number_may_be(
    results: Results,
) -> None:
    bare = replace(results, confirmation=results.confirmation.iloc[:0])
    said = verdict(Story(bare)).sentences
    assert "it is optimistic, by chance alone up to about" in said[0]
    assert "points" in said[0]


def test_the_section_on_budgets_draws_the_expected_best(results: Results) -> None:
    content = curves(Story(results))
    assert len(content.figures["fewer"].data) == len(results.families)
    said = content.context["fewer"]["said"]
    assert len(said) == len(results.families)
    assert said[0].startswith("CNN: ")
    assert "trials, drawn at random, would have brought" in said[0]
