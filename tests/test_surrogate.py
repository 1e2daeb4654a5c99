"""The model of a search: its Gaussian process, its scale of values, and what it makes of trials."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.stats import norm
from tests.test_proposer import SPACE, question, waiting

from torchstudy import tune
from torchstudy.domains import Choice, Float, Int
from torchstudy.records import Objective
from torchstudy.search import gaussian
from torchstudy.search.acquisition import best_point, log_expected_improvement
from torchstudy.search.cube import Cube
from torchstudy.search.gaussian import Data, Process, Scales, fitted
from torchstudy.search.several import Surrogates
from torchstudy.search.surrogate import MOST_SEEN, Surrogate
from torchstudy.search.tried import Tried
from torchstudy.search.warping import Warp
from torchstudy.space import Config, SearchSpace

SCALES = Scales(length=np.array([0.3, 0.8]), shared=1.3, own=0.6, noise=0.01, epochs=0.7, ratio=1.7)


def observations(size: int, *, dimensions: int = 2, seed: int = 0) -> Data:
    """Values of a smooth function of the first two axes, rising with time, and a little noise."""
    generator = np.random.default_rng(seed)
    features = generator.random((size, dimensions))
    times = generator.choice([0.3, 0.6, 1.0], size)
    values = np.sin(4 * features[:, 0]) + features[:, 1] * times
    values += 0.05 * generator.normal(size=size)
    return Data(
        features=features,
        axes=np.arange(dimensions),
        times=times,
        values=(values - values.mean()) / values.std(),
    )


def test_the_process_predicts_as_gpytorch_does() -> None:
    from gpytorch.distributions import MultivariateNormal
    from gpytorch.kernels import ConstantKernel, LinearKernel, MaternKernel, ScaleKernel
    from gpytorch.likelihoods import GaussianLikelihood
    from gpytorch.means import ZeroMean
    from gpytorch.models import ExactGP

    def matern(length: Any, *axes: int) -> Any:
        made = MaternKernel(nu=2.5, ard_num_dims=len(axes), active_dims=axes)
        made.lengthscale = torch.as_tensor(length)
        return made

    def scaled(kernel: Any, scale: float) -> Any:
        made = ScaleKernel(kernel)
        made.outputscale = torch.tensor(scale)
        return made

    class Model(ExactGP):
        def __init__(self, inputs: torch.Tensor, values: torch.Tensor, likelihood: Any) -> None:
            super().__init__(inputs, values, likelihood)
            own = matern(SCALES.length / SCALES.ratio**0.5, 0, 1) * matern([SCALES.epochs], 2)
            level, slope = ConstantKernel(), LinearKernel(active_dims=(3,))
            level.constant = torch.tensor(gaussian.LEVEL)
            slope.variance = torch.tensor(gaussian.SLOPE)
            self.mean_module = ZeroMean()
            self.kernel = scaled(matern(SCALES.length, 0, 1), SCALES.shared)
            self.kernel += scaled(own, SCALES.own) + level + slope

        def forward(self, inputs: torch.Tensor) -> Any:
            return MultivariateNormal(self.mean_module(inputs), self.kernel(inputs))

    def inputs(data: Data) -> torch.Tensor:
        columns = [data.features, data.times[:, None], 1 - data.times[:, None]]
        return torch.from_numpy(np.concatenate(columns, axis=1))

    data, asked = observations(30), observations(7, seed=1)
    likelihood = GaussianLikelihood().double()
    likelihood.noise = SCALES.noise + gaussian.JITTER
    model = Model(inputs(data), torch.from_numpy(data.values), likelihood).double().eval()
    with torch.no_grad():
        theirs = model(inputs(asked))
    mean, spread = Process.seeing(data, SCALES).predicted(asked.features, asked.times)
    # gpytorch is made in single precision before it is told to be double
    np.testing.assert_allclose(mean, theirs.mean.numpy(), atol=1e-5)
    np.testing.assert_allclose(spread, theirs.variance.sqrt().numpy(), atol=1e-5)


def test_the_gradient_of_the_fit_is_that_of_its_loss() -> None:
    data = observations(25)
    priors = np.array([gaussian.LENGTH, gaussian.LENGTH, *gaussian.REST.values()])
    lags = (data.times[:, None] - data.times[None]) ** 2

    def loss(logarithms: Any) -> Any:
        return gaussian._loss(logarithms, data, gaussian._gaps(data, 2), lags, priors)

    start = priors[:, gaussian.MEAN] + np.random.default_rng(0).normal(size=7) / 5
    numeric = approx_fprime(start, lambda logarithms: loss(logarithms)[0], 1e-7)
    np.testing.assert_allclose(loss(start)[1], numeric, atol=1e-4)


def test_the_fit_sees_which_axes_matter_and_how_noisy_values_are() -> None:
    scales = fitted(observations(80, dimensions=5))
    assert scales.length[:2].max() < scales.length[2:].min() / 2
    assert 0.01 < scales.noise**0.5 < 0.15  # 0.05 over a deviation of about 0.8


def test_values_that_are_all_the_same_can_be_fitted() -> None:
    data = observations(20)
    still = Data(features=data.features, axes=data.axes, times=data.times, values=np.zeros(20))
    mean, spread = Process.seeing(still, fitted(still)).predicted(data.features, data.times)
    assert np.abs(mean).max() < 1e-6
    assert (spread > 0).all()


def test_believing_leaves_the_mean_and_takes_away_the_doubt() -> None:
    process = Process.seeing(observations(10), SCALES)
    there, end = np.array([[0.9, 0.1]]), np.ones(1)
    before, after = (
        process.predicted(there, end),
        process.believing(there, end).predicted(there, end),
    )
    assert after[0] == pytest.approx(before[0], abs=1e-6)
    assert after[1] < 0.3 * before[1]


def test_a_held_out_error_is_that_of_a_process_without_the_group() -> None:
    data = observations(20)
    groups = np.arange(20) // 2
    (error,) = Process.seeing(data, SCALES).held_out(groups, np.array([7]))
    without = Process.seeing(data.chosen(np.flatnonzero(groups != 3)), SCALES)
    mean, spread = without.predicted(data.features[[7]], data.times[[7]])
    deviation = math.hypot(float(spread[0]), SCALES.noise**0.5)
    assert error == pytest.approx((data.values[7] - mean[0]) / deviation, rel=1e-6)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_values_keep_their_order_when_they_are_warped(values: list[float]) -> None:
    given_values = np.array(values)
    warped = Warp.of(given_values).warped(np.sort(given_values))
    assert np.isfinite(warped).all()
    assert (np.diff(warped) >= -1e-9).all()


def test_warping_can_be_undone_and_cuts_off_what_is_far_below() -> None:
    values = np.concatenate([np.linspace(0.8, 0.99, 30) ** 0.3, [-1e6]])
    warp = Warp.of(values)
    np.testing.assert_allclose(warp.unwarped(warp.warped(values[:30])), values[:30], rtol=1e-9)
    assert warp.warped(np.array([-1e6])) == warp.warped(np.array([-1e9]))
    assert abs(warp.warped(values[:30]).mean()) < 0.5  # the outlier has not pressed them together
    assert warp.warped(values[:30]).std() > 0.5


def test_the_expected_value_is_the_middle_of_what_unwarped_draws_would_give() -> None:
    generator = np.random.default_rng(0)
    warp = Warp.of(np.exp(generator.normal(size=200)))
    draws = warp.unwarped(0.3 + 0.2 * generator.normal(size=200_000))
    middle, spread = warp.middle(0.3, 0.2)
    low, median, high = np.quantile(draws, [0.1587, 0.5, 0.8413])
    assert middle == pytest.approx(median, rel=0.01)
    assert spread == pytest.approx((high - low) / 2, rel=0.02)


def test_where_the_transform_ends_nothing_infinite_is_expected() -> None:
    warp = Warp.of(1 - np.exp(-np.linspace(0.0, 9.0, 40)))
    for place in np.linspace(-60.0, 60.0, 13):
        middle, spread = warp.middle(float(place), 30.0)
        assert not math.isinf(middle)
        assert not math.isinf(spread)


def test_snapped_points_are_those_of_real_configurations() -> None:
    points = np.random.default_rng(0).random((200, len(SPACE.dimensions)))
    cube = Cube(SPACE)
    snapped = cube.snapped(points)
    configs = [SPACE.from_unit(point.tolist()) for point in snapped]
    np.testing.assert_allclose(cube.points(configs), snapped, atol=1e-12)
    nearest = cube.points([SPACE.from_unit(point.tolist()) for point in points])
    assert (np.abs(nearest - snapped).max(axis=1) < 0.03).all()  # an integer beside at most


def test_a_condition_of_a_condition_is_seen_in_every_point() -> None:
    space = SearchSpace(
        {
            "kind": Choice("a", "b", "c"),
            "mode": Choice("x", "y", "z", when={"kind": "c"}),
            "rate": Float(0, 1, when={"mode": "y"}),
        }
    )
    points = np.random.default_rng(0).random((300, 3))
    snapped = Cube(space).snapped(points)
    configs = [space.from_unit(point.tolist()) for point in snapped]
    np.testing.assert_allclose(Cube(space).points(configs), snapped, atol=1e-12)
    assert {len(config) for config in configs} == {1, 2, 3}


def test_choices_of_text_are_equally_far_apart_and_choices_of_numbers_in_their_order() -> None:
    space = SearchSpace({"kind": Choice("a", "b", "c"), "depth": Choice(4, 1, 2)})
    cube = Cube(space)
    assert cube.axes.tolist() == [0, 0, 0, 1]
    kinds = cube.features(cube.points([{"kind": kind, "depth": 1} for kind in "abc"]))
    gaps = [float(np.linalg.norm(kinds[i] - kinds[j])) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert gaps == pytest.approx([0.5, 0.5, 0.5])
    depths = cube.features(cube.points([{"kind": "a", "depth": depth} for depth in (1, 2, 4)]))
    assert (np.diff(depths[:, 3]) > 0).all()


def rising(config: Config) -> float:
    return float(config["learning_rate"])


def rates(count: int) -> list[Config]:
    """Configurations evenly over the learning rate."""
    places = (np.arange(count) + 0.5) / count
    return [SPACE.completed({"learning_rate": float(1e-4 * 10 ** (3 * p))}) for p in places]


def test_where_trials_fail_the_odds_are_lower_and_far_away_they_are_not() -> None:
    tried = [waiting(number, config, 0.5) for number, config in enumerate(rates(9))]
    tried = [replace(t, state="failed", values={}) if t.number > 6 else t for t in tried]
    surrogate = Surrogate.of(question(tried))
    low, high = surrogate.cube.points([rates(50)[2], rates(50)[-2]])
    odds = np.exp(surrogate.log_odds(np.array([low, high])))
    assert odds[0] > 0.85
    assert odds[1] < 0.3
    again = Surrogate.of(question(tried, rejected=(rates(50)[2], rates(50)[1])))
    assert again.log_odds(low[None]) < surrogate.log_odds(low[None]) - 0.3
    fine = Surrogate.of(question([trial for trial in tried if trial.values]))
    assert not fine.log_odds(np.array([low, high])).any()


def test_costs_are_learned_over_orders_of_magnitude_and_left_out_where_unknown() -> None:
    configs = rates(12)
    tried = [
        waiting(n, c, 0.5, cost=1e6 * float(c["learning_rate"])) for n, c in enumerate(configs)
    ]
    surrogate = Surrogate.of(question(tried))
    ratio = surrogate.cost(configs[10]) / surrogate.cost(configs[1])
    assert 10**1.5 < ratio < 10**2.5  # 178 in truth, drawn together by the ridge
    unknown = Surrogate.of(question([waiting(n, c, 0.5) for n, c in enumerate(configs)]))
    assert math.isnan(unknown.cost(configs[0]))
    assert not unknown.log_cost(unknown.cube.points(configs)).any()


def test_the_ends_of_curves_are_foreseen_from_their_beginnings() -> None:
    configs = rates(16)
    tried = [
        waiting(n, c, 0.4 + 0.03 * n)
        if n % 2
        else replace(
            waiting(n, c, 0.4 + 0.03 * n),
            state="completed",
            until=27,
            values={3: 0.4 + 0.03 * n, 9: 0.5 + 0.025 * n, 27: 0.6 + 0.02 * n},
        )
        for n, c in enumerate(configs)
    ]
    surrogate = Surrogate.of(question(tried))
    for number in (3, 7, 11):
        value, spread = surrogate.expected(configs[number], is_begun=True)
        assert value == pytest.approx(0.6 + 0.02 * number, abs=max(0.01, 2 * spread))
        assert spread < 0.03


def test_less_is_better_where_the_objective_is_a_loss() -> None:
    configs = rates(10)
    loss = Objective(metric="loss", direction="minimize")
    tried = [waiting(n, c, 1.0 + (n - 2) ** 2) for n, c in enumerate(configs)]
    asked = replace(question(tried), objective=loss)
    surrogate = Surrogate.of(asked)
    assert (
        surrogate.expected(configs[2], is_begun=True)[0]
        < (surrogate.expected(configs[8], is_begun=True)[0])
    )
    point = best_point(asked, Surrogates((surrogate,)))
    assert point is not None
    assert abs(point[SPACE.dimensions.index("learning_rate")] - 0.25) < 0.2


@pytest.mark.parametrize("score", [-40.0, -5.0, -1.01, -1.0, -0.5, 0.0, 2.0])
def test_the_logarithm_of_the_expected_improvement_is_exact_far_below_the_best(
    score: float,
) -> None:
    (found,) = log_expected_improvement(np.array([1 + 0.1 * score]), np.array([0.1]), 1.0)
    if score > -10:
        exact = math.log(0.1 * (norm.pdf(score) + score * norm.cdf(score)))
    else:  # the first two terms of the asymptotic series
        exact = math.log(0.1) + norm.logpdf(score) - 2 * math.log(-score) - 3 / score**2
    assert found == pytest.approx(exact, rel=1e-5)


def test_a_prior_draws_proposals_and_is_forgotten_as_trials_come_in() -> None:
    space = SearchSpace({"a": Float(0, 1, prior=(0.2, 0.15)), "b": Float(0, 1)})

    def proposed(count: int) -> float:
        places = np.random.default_rng(1).random((count, 2))
        configs = [space.from_unit(place.tolist()) for place in places]
        tried = [waiting(n, c, 1 - (float(c["a"]) - 0.8) ** 2) for n, c in enumerate(configs)]
        asked = replace(question(tried), space=space)
        point = best_point(asked, Surrogates.of(asked))
        assert point is not None
        return float(point[0])

    assert proposed(3) < 0.5
    assert proposed(60) > 0.6


def test_what_a_user_is_sure_of_can_be_wrong() -> None:
    """The best lies 40 standard deviations from where it is expected."""
    space = {"a": Float(0, 1, prior=(0.1, 0.02)), "b": Float(0, 1)}
    found = tune(lambda c: -((c["a"] - 0.9) ** 2) - (c["b"] - 0.4) ** 2, space, trials=30)
    assert found["config.a"].head(8).max() < 0.2  # there it looks first
    assert found["value"].max() > -0.01


def test_of_a_thousand_observations_no_more_are_learned_than_there_is_time_for() -> None:
    """Seconds are in benchmarks/proposal_time.json: what bounds them is how many are looked at."""
    domains = {f"x{axis}": Float(0, 1) for axis in range(9)} | {"n": Int(1, 9)}
    space = SearchSpace(domains)
    generator = np.random.default_rng(0)
    configs = [space.sample(generator) for _ in range(1000)]
    values = [float(config["x0"]) - float(config["x1"]) ** 2 for config in configs]
    tried = [
        Tried(number=n, config=config, state="completed", until=27, values={27: score})
        for n, (config, score) in enumerate(zip(configs, values, strict=True))
    ]
    asked = replace(question(tried), space=space)
    surrogate = Surrogate.of(asked)
    assert len(surrogate.process.data.values) == MOST_SEEN
    best, worst = ({**configs[0], "x0": x, "x1": 1 - x} for x in (1.0, 0.0))
    assert surrogate.expected(best, is_begun=False)[0] == pytest.approx(1.0, abs=0.05)
    assert surrogate.expected(worst, is_begun=False)[0] == pytest.approx(-1.0, abs=0.05)
