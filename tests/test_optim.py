import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim

from torchstudy.declaring import domains_of
from torchstudy.errors import SpaceError
from torchstudy.training.optim import (
    TrainingConfig,
    learning_rate_at,
    make_optimizer,
    set_learning_rate,
)


@pytest.fixture(scope="module", autouse=True)
def first_optimizer() -> None:
    """Pay once, outside the tests, for what torch imports with the first optimizer (seconds)."""
    make_optimizer(nn.Linear(1, 1).parameters(), TrainingConfig())


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def rates(schedule: str, num_steps: int, learning_rate: float = 0.1) -> list[float]:
    config = TrainingConfig(schedule=schedule, learning_rate=learning_rate)
    return [learning_rate_at(config, step, num_steps) for step in range(num_steps)]


# The hyperparameters


def test_the_defaults_are_the_recipe() -> None:
    defaults = {
        name: domain.with_default().default for name, domain in domains_of(TrainingConfig).items()
    }
    assert TrainingConfig(**defaults) == TrainingConfig()


def test_every_bound_of_every_hyperparameter_is_accepted() -> None:
    for name, domain in domains_of(TrainingConfig).items():
        for value in domain.extremes:
            assert getattr(TrainingConfig(**{name: value}), name) == value


def test_six_hyperparameters_vary_unless_a_study_says_otherwise() -> None:
    open_ones = [name for name, domain in domains_of(TrainingConfig).items() if domain.size > 1]
    assert open_ones == [
        "optimizer",
        "learning_rate",
        "momentum",
        "weight_decay",
        "batch_size",
        "schedule",
    ]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("optimizer", "adma", "optimizer must be one of adamw, adam, sgd, not 'adma'"),
        ("schedule", "linear", "schedule must be one of constant, cosine, one-cycle, not 'linear'"),
        ("learning_rate", -1, "learning_rate must be above 0"),
        ("learning_rate", 0.0, "learning_rate must be above 0"),
        ("learning_rate", math.nan, "learning_rate must be above 0"),
        ("momentum", 1.0, "momentum must be in [0, 1)"),
        ("momentum", -0.1, "momentum must be in [0, 1)"),
        ("weight_decay", -1e-9, "weight_decay must be 0 or more"),
        ("batch_size", 1, "batch_size must be at least 2"),
        ("gradient_clipping", -1.0, "gradient_clipping must be 0 (off) or more"),
        ("label_smoothing", 1.0, "label_smoothing must be in [0, 1)"),
        ("patience", 0, "patience must be at least 1"),
    ],
)
def test_a_value_that_cannot_train_is_refused(name: str, value: object, problem: str) -> None:
    with pytest.raises(SpaceError) as caught:
        TrainingConfig(**{name: value})
    assert caught.value.problems == (problem,)


def test_every_value_that_cannot_train_is_listed_at_once() -> None:
    with pytest.raises(SpaceError) as caught:
        TrainingConfig(learning_rate=-1, patience=0, batch_size=1)
    assert caught.value.problems == (
        "learning_rate must be above 0",
        "batch_size must be at least 2",
        "patience must be at least 1",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("momentum", 0.0), ("weight_decay", 0.0), ("batch_size", 2), ("patience", 1)],
)
def test_the_least_value_that_can_train_is_accepted(name: str, value: object) -> None:
    TrainingConfig(**{name: value})


# The optimizer


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", optim.SGD), ("adam", optim.Adam), ("adamw", optim.AdamW)]
)
def test_the_optimizer_is_the_one_asked_for(name: str, kind: type[optim.Optimizer]) -> None:
    config = TrainingConfig(optimizer=name, learning_rate=0.02)
    optimizer = make_optimizer(network().parameters(), config)
    assert type(optimizer) is kind
    assert {group["lr"] for group in optimizer.param_groups} == {0.02}


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_weight_decay_spares_biases_and_normalisation(name: str) -> None:
    model = network()
    optimizer = make_optimizer(
        model.parameters(), TrainingConfig(optimizer=name, weight_decay=0.03)
    )
    decayed, spared = optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.03, 0.0)
    assert [id(p) for p in decayed["params"]] == [id(model[0].weight), id(model[3].weight)]
    assert len(spared["params"]) == 4  # two biases, the scale and the shift of the BatchNorm


def test_weight_decay_shrinks_weights_and_nothing_else() -> None:
    model = network()
    config = TrainingConfig(optimizer="sgd", weight_decay=0.1, momentum=0.0, learning_rate=0.5)
    optimizer = make_optimizer(model.parameters(), config)
    before = [p.detach().clone() for p in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for old, new in zip(before, model.parameters(), strict=True):
        expected = old * (1 - 0.5 * 0.1) if old.ndim >= 2 else old
        torch.testing.assert_close(new.detach(), expected)


def test_momentum_of_sgd_is_nesterov_and_may_be_off() -> None:
    groups = [
        make_optimizer(
            network().parameters(), TrainingConfig(optimizer="sgd", momentum=momentum)
        ).param_groups[0]
        for momentum in (0.9, 0.0)
    ]
    assert [(group["momentum"], group["nesterov"]) for group in groups] == [
        (0.9, True),
        (0.0, False),
    ]


def test_frozen_parameters_are_left_out() -> None:
    model = network()
    model[0].requires_grad_(False)
    optimizer = make_optimizer(model.parameters(), TrainingConfig())
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in trained} == {id(p) for p in model.parameters() if p.requires_grad}


def test_a_network_without_biases_has_one_group() -> None:
    optimizer = make_optimizer(nn.Linear(2, 2, bias=False).parameters(), TrainingConfig())
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_every_optimizer_learns_a_line(name: str) -> None:
    model = nn.Linear(1, 1)
    inputs = torch.linspace(-1, 1, 32).unsqueeze(1)
    targets = 2 * inputs + 1
    config = TrainingConfig(optimizer=name, learning_rate=0.05, weight_decay=1e-6)
    optimizer = make_optimizer(model.parameters(), config)
    for _ in range(300):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3


def test_setting_the_rate_reaches_every_group_and_the_next_step() -> None:
    model = network()
    config = TrainingConfig(optimizer="sgd", momentum=0.0, weight_decay=0.0)
    optimizer = make_optimizer(model.parameters(), config)
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]
    before = model[0].bias.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    torch.testing.assert_close(model[0].bias.detach(), before - 0.25)


# The schedule


def test_a_constant_rate_stays() -> None:
    assert rates("constant", 10) == [0.1] * 10


def test_cosine_falls_from_the_peak_by_half_in_the_middle() -> None:
    found = rates("cosine", 100)
    assert found[0] == 0.1
    assert found[50] == pytest.approx(0.05)
    assert found[-1] < 1e-4
    assert found == sorted(found, reverse=True)


def test_one_cycle_rises_linearly_from_a_twenty_fifth_and_falls_along_a_cosine() -> None:
    found = rates("one-cycle", 100)
    assert found[0] == pytest.approx(0.1 / 25)
    assert found[15] == pytest.approx(0.1 * (1 + 1 / 25) / 2)
    assert found[30] == pytest.approx(0.1)
    assert found[65] == pytest.approx(0.05)
    assert found[:31] == sorted(found[:31])
    assert found[30:] == sorted(found[30:], reverse=True)
    assert found[-1] < 1e-3


@given(
    st.sampled_from(["constant", "cosine", "one-cycle"]),
    st.integers(1, 500),
    st.floats(1e-6, 10.0),
    st.data(),
)
@settings(max_examples=60, deadline=None)
def test_every_rate_is_positive_and_at_most_the_peak(
    schedule: str, num_steps: int, peak: float, data: st.DataObject
) -> None:
    config = TrainingConfig(schedule=schedule, learning_rate=peak)
    step = data.draw(st.integers(0, num_steps - 1))
    assert 0 < learning_rate_at(config, step, num_steps) <= peak * (1 + 1e-12)  # rounding


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
def test_the_end_of_a_schedule_and_an_empty_one_are_defined(schedule: str) -> None:
    config = TrainingConfig(schedule=schedule, learning_rate=0.1)
    last = 0.1 if schedule == "constant" else 0.0
    assert learning_rate_at(config, 10, 10) == pytest.approx(last)
    assert 0 <= learning_rate_at(config, 0, 0) <= 0.1
