"""LinearModel and the solvers behind it: exactly scikit-learn's answers, from tensors."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.training_jobs import job_for, run_job
from torch import nn

from torchstudy.data.dataset import ImageData
from torchstudy.data.spec import DataSpec
from torchstudy.declaring import domains_of
from torchstudy.families.base import domains_with_training
from torchstudy.families.linear import LinearModel
from torchstudy.families.logistic import fit_logistic, fit_ridge
from torchstudy.families.phases import Fit
from torchstudy.records import Status
from torchstudy.training.batches import Split
from torchstudy.training.optim import TrainingConfig

FEATURES = np.random.default_rng(0).normal(3.0, 5.0, size=(90, 6)).astype(np.float32)
NUMBERS = torch.from_numpy(FEATURES)


@pytest.mark.parametrize(("num_classes", "num_outputs"), [(2, 1), (2, 2), (3, 3)])
@pytest.mark.parametrize("is_scaled", [False, True])
def test_logistic_regression_is_folded_into_one_layer_exactly(
    num_classes: int, num_outputs: int, is_scaled: bool
) -> None:
    targets = (FEATURES[:, 0] > 3).astype(int) + (num_classes == 3) * (FEATURES[:, 1] > 6)
    layer = nn.Linear(6, num_outputs)
    fit_logistic(
        layer,
        NUMBERS,
        torch.from_numpy(targets),
        regularisation=0.5,
        max_steps=500,
        is_scaled=is_scaled,
    )
    regression = LogisticRegression(C=2.0, max_iter=500)
    reference = regression if is_scaled else make_pipeline(StandardScaler(), regression)
    expected = reference.fit(FEATURES, targets).predict_proba(FEATURES)
    logits = layer(NUMBERS).detach()
    if num_outputs == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    assert logits.softmax(dim=1).numpy() == pytest.approx(expected, abs=1e-3)


def test_a_class_that_was_not_seen_is_never_predicted() -> None:
    layer = nn.Linear(6, 4)
    targets = torch.from_numpy(np.where(FEATURES[:, 0] > 3, 3, 1))
    fit_logistic(layer, NUMBERS, targets, regularisation=1.0, max_steps=500)
    probabilities = layer(NUMBERS).softmax(dim=1)
    assert probabilities[:, [0, 2]].max() == 0


@pytest.mark.parametrize("is_scaled", [False, True])
def test_ridge_regression_is_folded_into_one_layer_exactly(is_scaled: bool) -> None:
    targets = FEATURES @ np.arange(6) + np.random.default_rng(1).normal(size=90)
    layer = nn.Linear(6, 1)
    fit_ridge(layer, NUMBERS, torch.from_numpy(targets), regularisation=20.0, is_scaled=is_scaled)
    reference = Ridge(alpha=20.0) if is_scaled else make_pipeline(StandardScaler(), Ridge(alpha=20))
    expected = reference.fit(FEATURES.astype(float), targets).predict(FEATURES.astype(float))
    found = layer(NUMBERS).detach().numpy()[:, 0]
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_a_table_of_numbers_and_categories_is_fitted_without_gradient_steps() -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(200, 1, generator=generator)
    codes = torch.randint(1, 4, (200, 1), generator=generator)
    level = torch.tensor([0.0, -1.0, 0.5, 4.0])
    prices = 10 + 2 * numbers[:, 0] + level[codes[:, 0]]
    data = DataSpec(
        source="x",
        channels=0,
        height=0,
        width=0,
        classes=(),
        num_train=200,
        task="regression",
        target="price",
        target_mean=float(prices.mean()),
        target_std=float(prices.std()),
        numbers=("area",),
        categories=("town",),
        category_values=(("A", "B", "C"),),
    )
    split = Split(
        array=torch.zeros(200, 0),
        rows=torch.arange(200),
        targets=prices,
        numbers=numbers,
        categories=codes,
    )
    config = LinearModel(regularisation=1e-3)
    net = config.build(data).eval()
    (fit,) = config.phases(data, TrainingConfig())
    assert isinstance(fit, Fit)
    with torch.inference_mode():
        fit.function(net, split)
        metrics = config.score(net, data, split.in_order())
    assert metrics["r2"] == pytest.approx(1, abs=1e-4)
    (fit,) = LinearModel(regularisation=50.0).phases(data, TrainingConfig())
    assert isinstance(fit, Fit)
    fit.function(net, split)
    columns = np.hstack([numbers.numpy(), np.eye(4)[codes[:, 0]][:, 1:]])
    reference = Ridge(alpha=50.0).fit(columns, prices.double().numpy())
    found = config.predict(net, data, next(split.in_order()))
    assert found is not None
    assert found.detach().numpy() == pytest.approx(reference.predict(columns), abs=1e-4)
    unknown = replace(
        next(split.take(torch.arange(2)).in_order()), categories=torch.zeros(2, 1).long()
    )
    values = config.predict(net, data, unknown)
    assert values is not None
    assert values.isfinite().all()


def test_pixels_are_standardised_by_the_training_items(striped: ImageData, tmp_path: Path) -> None:
    outcome, rows = run_job(
        job_for(LinearModel, striped, tmp_path, {"regularisation": 1000.0}, epochs=9)
    )
    assert outcome.status is Status.COMPLETED, outcome.reason
    assert len(rows) == 1
    assert outcome.metrics["valid_accuracy"] > 0.9  # chance is a third
    train = striped.splits["train"]
    pixels = striped.pixels.reshape(len(striped.pixels), -1) / 255.0
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=1000))
    reference.fit(pixels[train], striped.targets[train])
    probabilities = reference.predict_proba(pixels[striped.splits["valid"]])
    saved = np.load(tmp_path / "valid.npz")
    assert saved["predicted"].tolist() == probabilities.argmax(axis=1).tolist()
    assert saved["confidence"] == pytest.approx(probabilities.max(axis=1), abs=2e-3)


def test_its_one_hyperparameter_is_the_regularisation() -> None:
    assert list(domains_of(LinearModel)) == ["regularisation"]
    assert not LinearModel.trains


def test_a_family_that_takes_no_steps_has_no_training_hyperparameters() -> None:
    assert list(domains_with_training(LinearModel)) == ["regularisation"]
