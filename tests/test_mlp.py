"""MLP: its size, what it sees of tables and images, and functions it can come close to."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training_jobs import job_for, run_job, space_of

from torchstudy.data.dataset import ImageData, prepare
from torchstudy.data.images import Images
from torchstudy.data.spec import DataSpec
from torchstudy.families.linear import LinearModel
from torchstudy.families.mlp import MLP
from torchstudy.records import Objective, Status
from torchstudy.training.batches import Batch

DIGITS = DataSpec(source="x", channels=1, height=8, width=8, classes=tuple("abc"), num_train=1)
TABLE = replace(
    DIGITS,
    channels=0,
    classes=("no", "yes"),
    numbers=("age", "size"),
    categories=("town", "kind"),
    category_values=(("Ulm", "Wien"), ("x", "y", "z")),
)


def sine() -> pd.DataFrame:
    """400 points of a sine with noise of standard deviation 0.1."""
    generator = np.random.default_rng(0)
    x = generator.uniform(-np.pi, np.pi, size=400)
    return pd.DataFrame({"x": x, "y": np.sin(x) + 0.1 * generator.normal(size=400)})


@settings(max_examples=60, deadline=None)
@given(
    depth=st.integers(1, 4),
    width=st.integers(1, 40),
    norm=st.sampled_from(["none", "batch"]),
    act=st.sampled_from(["relu", "leaky-relu", "gelu", "silu", "tanh", "sigmoid"]),
    data=st.sampled_from([DIGITS, TABLE, replace(DIGITS, views=3, channels=3)]),
)
def test_parameters_are_those_of_the_closed_form(
    depth: int, width: int, norm: str, act: str, data: DataSpec
) -> None:
    net = MLP(depth=depth, width=width, normalisation=norm, activation=act).build(data)
    narrow = 2 + 2 + 3 if data.has_table else data.views * data.channels * 64
    expected = 0
    for _ in range(depth):
        expected += (narrow + 1) * width + (2 * width if norm == "batch" else 0)
        narrow = width
    expected += (narrow + 1) * data.num_outputs
    assert sum(parameter.numel() for parameter in net.parameters()) == expected


def test_a_table_goes_before_images() -> None:
    data = replace(TABLE, channels=3, views=4, classes=tuple("abc"))
    numbers = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    codes = torch.tensor([[1, 1], [2, 2], [0, 3], [1, 0], [2, 1]])
    config = MLP()
    net = config.build(data).eval()
    dark = Batch(torch.zeros(5, 4, 3, 8, 8), torch.zeros(5).long(), numbers, codes)
    bright = replace(dark, inputs=torch.ones(5, 4, 3, 8, 8))
    assert torch.equal(config.outputs(net, dark), config.outputs(net, bright))
    assert not config.uses_images(data)
    assert config.uses_images(DIGITS)


def test_categories_enter_one_hot_and_unknown_ones_as_zeros() -> None:
    columns = MLP().build(TABLE).columns
    assert columns is not None
    numbers = torch.tensor([[0.5, -1.0], [2.0, 0.0]])
    found = columns(numbers, torch.tensor([[2, 3], [0, 1]]))
    assert found.tolist() == [[0.5, -1.0, 0, 1, 0, 0, 1], [2.0, 0.0, 0, 0, 1, 0, 0]]


@pytest.mark.parametrize("missing", ["numbers", "categories"])
def test_a_table_may_have_numbers_only_or_categories_only(missing: str) -> None:
    data = replace(TABLE, **{missing: ()})
    if missing == "categories":
        data = replace(data, category_values=())
    batch = Batch(
        torch.zeros(2, 0),
        torch.zeros(2).long(),
        None if missing == "numbers" else torch.zeros(2, 2),
        None if missing == "categories" else torch.ones(2, 2).long(),
    )
    for config in (MLP(), LinearModel()):
        assert config.outputs(config.build(data), batch).shape == (2, 1)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (MLP(depth=0), "depth must be at least 1, not 0"),
        (MLP(width=0), "width must be at least 1, not 0"),
        (
            MLP(activation="elu"),
            "activation must be one of relu, leaky-relu, gelu, silu, tanh, sigmoid, not 'elu'",
        ),
    ],
)
def test_what_cannot_be_built_is_a_problem(config: MLP, problem: str) -> None:
    assert config.problems(DIGITS) == (problem,)


# Slow: 100 epochs twice, about two seconds each.
@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_one_hidden_layer_comes_close_to_a_sine(activation: str, tmp_path: Path) -> None:
    data = prepare(Images(sine, target="y"), seed=0)
    config = {
        **space_of(MLP).recipe,
        "depth": 1,
        "width": 64,
        "activation": activation,
        "dropout": 0.0,
        "weight_decay": 0.0,
        "learning_rate": 0.05,
        "batch_size": 32,
        "patience": 100,
    }
    job = replace(
        job_for(MLP, data, tmp_path, config, epochs=100),
        objective=Objective(metric="mse", direction="minimize"),
    )
    outcome, _ = run_job(job)
    assert outcome.status is Status.COMPLETED, outcome.reason
    assert outcome.metrics["valid_mse"] < 2 * 0.1**2  # a constant has 0.5, the best line 0.2
    linear, _ = run_job(
        replace(
            job_for(LinearModel, data, tmp_path / "linear", epochs=1),
            objective=Objective(metric="mse", direction="minimize"),
        )
    )
    assert linear.metrics["valid_mse"] > 0.1


# Slow: scikit-learn's digits, 20 epochs.
@pytest.mark.slow
def test_the_recipe_reads_digits_as_well_as_logistic_regression_does(tmp_path: Path) -> None:
    data = prepare(Images("digits"), seed=0)
    deep, _ = run_job(job_for(MLP, data, tmp_path / "mlp", epochs=20))
    linear, _ = run_job(job_for(LinearModel, data, tmp_path / "linear"))
    for outcome in (deep, linear):
        assert outcome.status is Status.COMPLETED, outcome.reason
    assert deep.metrics["valid_accuracy"] >= 0.95
    assert deep.metrics["valid_accuracy"] >= linear.metrics["valid_accuracy"] - 0.015


def test_the_recipe_learns_stripes(striped: ImageData, tmp_path: Path) -> None:
    config = {**space_of(MLP).recipe, "batch_size": 16}
    outcome, _ = run_job(job_for(MLP, striped, tmp_path, config, epochs=8))
    assert outcome.status is Status.COMPLETED, outcome.reason
    assert outcome.metrics["valid_accuracy"] > 0.9  # chance is a third
