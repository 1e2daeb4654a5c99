"""Ill trainings get the right diagnosis, healthy ones none: small real trainings, 20 seeds each."""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from tests.conftest import stripes
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from torchstudy.analysis.diagnosis import Diagnosis, diagnose, diagnoses
from torchstudy.training.health import Monitor

SEEDS = range(20)


def examined(rows: pd.DataFrame, **ending: str) -> Diagnosis | None:
    """What ails the training whose rows stand in a table."""
    return diagnose(rows.to_dict("records"), **ending)  # type: ignore[arg-type]


Build = Callable[[], nn.Sequential]
read_digits = functools.cache(load_digits)  # of a text file, which takes as long as a training


def digits(seed: int, *, items: int, noise: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, a share of them random, then 300 for validation."""
    generator = np.random.default_rng(seed)
    images, labels = read_digits(return_X_y=True)
    order = generator.permutation(len(images))
    inputs = torch.tensor((images[order] - 4.9) / 6.0, dtype=torch.float32).reshape(-1, 1, 8, 8)
    targets = torch.tensor(labels[order])
    wrong = torch.from_numpy(generator.random(items) < noise)
    train = targets[:items].clone()
    train[wrong] = torch.from_numpy(generator.integers(0, 10, size=int(wrong.sum())))
    return inputs[:items], train, inputs[items : items + 300], targets[items : items + 300]


def train(
    build: Build,
    seed: int,
    *,
    epochs: int = 4,
    rate: float = 3e-3,
    optimizer: type[torch.optim.Optimizer] = torch.optim.AdamW,
    items: int = 300,
    noise: float = 0.0,
) -> tuple[pd.DataFrame, str]:
    """The epoch rows of one training, and its status."""
    inputs, targets, valid, truth = digits(seed, items=items, noise=noise)
    torch.manual_seed(seed)
    net = build()
    steps, monitor, rows = optimizer(net.parameters(), lr=rate, fused=True), Monitor(net), []
    for epoch in range(1, epochs + 1):
        net.train()
        losses = []
        for chosen in torch.randperm(items).split(50):
            is_last = len(losses) == items // 50 - 1
            with monitor.step(list(net.parameters())) if is_last else nullcontext():
                loss = cross_entropy(net(inputs[chosen]), targets[chosen])
                steps.zero_grad()
                loss.backward()
                steps.step()
            losses.append(float(loss.detach()))
        net.eval()
        with torch.inference_mode():
            outputs = net(valid)
            valid_loss = float(cross_entropy(outputs, truth))
        if not math.isfinite(sum(losses) + valid_loss):
            return pd.DataFrame(rows), "diverged"
        rows.append(
            {
                "epoch": epoch,
                "train_loss": sum(losses) / len(losses),
                "valid_loss": valid_loss,
                "valid_accuracy": float((outputs.argmax(dim=1) == truth).float().mean()),
                "health_first_loss": losses[0],
                **{f"health_{name}": value for name, value in monitor.measures().items()},
            }
        )
    return pd.DataFrame(rows), "completed"


def mlp(
    activation: type[nn.Module], *, depth: int = 3, width: int = 64, norm: bool = False
) -> Build:
    def build() -> nn.Sequential:
        layers: list[nn.Module] = [nn.Flatten()]
        for number in range(depth):
            layers.append(nn.Linear(width if number else 64, width))
            layers += [nn.BatchNorm1d(width)] if norm else []
            layers.append(activation())
        return nn.Sequential(*layers, nn.Linear(width, 10))

    return build


def cnn(*, norm: bool = True) -> Build:
    def build() -> nn.Sequential:
        layers: list[nn.Module] = []
        for inside, outside in ((1, 8), (8, 16)):
            layers.append(nn.Conv2d(inside, outside, 3, padding=1))
            layers += [nn.BatchNorm2d(outside)] if norm else []
            layers += [nn.MaxPool2d(2), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 10))

    return build


def altered(build: Build, *, bias: float | None = None, scale: float = 1.0) -> Build:
    """The same network, its hidden layers beginning with that bias and so much larger weights."""

    def begin() -> nn.Sequential:
        net = build()
        with torch.no_grad():
            for layer in list(net)[:-1]:
                if isinstance(layer, nn.Linear | nn.Conv2d):
                    layer.weight.mul_(scale)
                    if bias is not None and layer.bias is not None:
                        layer.bias.fill_(bias)
        return net

    return begin


RANDOM = {"noise": 0.6, "items": 200, "epochs": 20, "rate": 1e-2}
ILL = {
    "12 sigmoid layers": (
        "vanishing_gradients",
        mlp(nn.Sigmoid, depth=12, width=32),
        {"epochs": 3},
    ),
    "ReLU layers with bias -10": ("dead_units", altered(mlp(nn.ReLU), bias=-10.0), {}),
    "ReLU maps with bias -10": ("dead_units", altered(cnn(norm=False), bias=-10.0), {}),
    "tanh layers with large weights": ("saturation", altered(mlp(nn.Tanh), scale=300.0), {}),
    "AdamW at 10": ("exploding", mlp(nn.ReLU), {"rate": 10.0}),
    "AdamW at 10, normalised": ("exploding", cnn(), {"rate": 10.0}),
    "SGD at 100": ("exploding", mlp(nn.ReLU), {"rate": 100.0, "optimizer": torch.optim.SGD}),
    "SGD at 10, tanh": ("exploding", mlp(nn.Tanh), {"rate": 10.0, "optimizer": torch.optim.SGD}),
    "a rate of 1e-6": ("no_learning", mlp(nn.ReLU), {"rate": 1e-6}),
    "random labels": ("overfitting", mlp(nn.ReLU, width=128), RANDOM),
}
HEALTHY = {
    "MLP": (mlp(nn.ReLU), {"epochs": 8}),
    "MLP, normalised": (mlp(nn.ReLU, norm=True), {}),
    "MLP, over-trained": (mlp(nn.ReLU), {"epochs": 12, "items": 400, "rate": 5e-3}),
    "CNN, normalised": (cnn(), {}),
    "CNN, over-trained": (cnn(), {"epochs": 8, "rate": 1e-2}),
    "tanh": (mlp(nn.Tanh), {}),
    "tanh, over-trained": (mlp(nn.Tanh), {"epochs": 12, "rate": 1e-2}),
    "GELU": (mlp(nn.GELU), {}),
    # After 4 epochs it depends on the processor's rounding whether it has begun to learn.
    "20 normalised layers": (mlp(nn.ReLU, depth=20, width=32, norm=True), {"epochs": 8}),
    "SGD": (cnn(), {"rate": 0.05, "optimizer": torch.optim.SGD}),
    "linear": (mlp(nn.ReLU, depth=0), {}),
}


@pytest.mark.slow  # 20 trainings
@pytest.mark.parametrize("case", ILL)
def test_a_training_built_to_be_ill_gets_its_diagnosis(case: str) -> None:
    name, build, options = ILL[case]
    for seed in SEEDS:
        rows, status = train(build, seed, **options)
        found = examined(rows, status=status)
        assert found is not None, f"seed {seed}:\n{rows}"
        assert found.name == name, f"seed {seed}: {found.sentence}"


@pytest.mark.slow  # 20 trainings
@pytest.mark.parametrize("case", HEALTHY)
def test_a_healthy_training_gets_none(case: str) -> None:
    build, options = HEALTHY[case]
    for seed in SEEDS:
        rows, status = train(build, seed, **options)
        assert examined(rows, status=status) is None, f"seed {seed}:\n{rows}"


class Adversaries(nn.Module):
    """A generator of 8 x 8 images from 8 numbers, and a discriminator."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            nn.Linear(8, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh()
        )
        self.discriminator = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))


def judged(outputs: Tensor, truth: float) -> Tensor:
    return binary_cross_entropy_with_logits(outputs, torch.full_like(outputs, truth))


def coverage(real: Tensor, made: Tensor) -> float:
    """Share of real images with a made one nearer than the third neighbour (Naeem et al. 2020)."""
    radius = torch.cdist(real, real).kthvalue(4, dim=1).values
    return float((torch.cdist(real, made).amin(dim=1) < radius).float().mean())


def train_adversaries(
    seed: int, *, epochs: int, generator_rate: float, discriminator_rate: float
) -> pd.DataFrame:
    """The epoch rows of a small GAN on striped images."""
    real = (torch.from_numpy(stripes()[0]).float() / 100 - 1).clamp(-1, 1).flatten(1)
    torch.manual_seed(seed)
    net = Adversaries()
    own, other = list(net.generator.parameters()), list(net.discriminator.parameters())
    make = torch.optim.Adam(own, lr=generator_rate, betas=(0.5, 0.999), fused=True)
    judge = torch.optim.Adam(other, lr=discriminator_rate, betas=(0.5, 0.999), fused=True)
    monitor = Monitor(net)

    def steps(batch: Tensor, is_last: bool) -> Iterator[float]:
        with monitor.step(other) if is_last else nullcontext():
            made = net.generator(torch.randn(len(batch), 8)).detach()
            loss = judged(net.discriminator(batch), 1.0) + judged(net.discriminator(made), 0.0)
            judge.zero_grad()
            loss.backward()
            judge.step()
        yield float(loss.detach())
        with monitor.step(own) if is_last else nullcontext():
            loss = judged(net.discriminator(net.generator(torch.randn(len(batch), 8))), 1.0)
            make.zero_grad()
            loss.backward()
            make.step()
        yield float(loss.detach())

    rows = []
    for epoch in range(1, epochs + 1):
        net.train()
        *batches, last = torch.randperm(len(real)).split(30)
        losses = [list(steps(real[chosen], chosen is last)) for chosen in (*batches, last)]
        net.eval()
        with torch.inference_mode():
            made = net.generator(torch.randn(len(real), 8))
            scores = [net.discriminator(images).sigmoid().mean() for images in (real, made)]
        discriminator, generator = np.mean(losses, axis=0)
        rows.append(
            {
                "epoch": epoch,
                "train_loss": (discriminator + generator) / 2,
                "train_loss_discriminator": discriminator,
                "train_loss_generator": generator,
                "valid_real_score": float(scores[0]),
                "valid_fake_score": float(scores[1]),
                "valid_coverage": coverage(real, made),
                **{f"health_{name}": value for name, value in monitor.measures().items()},
            }
        )
    return pd.DataFrame(rows)


@pytest.mark.slow  # 20 trainings
@pytest.mark.parametrize(
    ("name", "epochs", "generator_rate", "discriminator_rate"),
    [
        (None, 18, 3e-3, 3e-3),
        ("collapse", 5, 3e-2, 1e-3),
        ("discriminator_wins", 5, 1e-5, 3e-2),
    ],
)
def test_a_gan_out_of_balance_gets_its_diagnosis(
    name: str | None, epochs: int, generator_rate: float, discriminator_rate: float
) -> None:
    for seed in SEEDS:
        rows = train_adversaries(
            seed,
            epochs=epochs,
            generator_rate=generator_rate,
            discriminator_rate=discriminator_rate,
        )
        found = examined(rows)
        assert (found.name if found else None) == name, f"seed {seed}:\n{rows.tail(3)}"


def gan_rows(seed: int, *, coverage: float, distance: float, epochs: int = 5) -> pd.DataFrame:
    """Rows as a GAN writes them, made up: the figures of its last epochs with 10% noise."""
    noise = np.random.default_rng(seed).normal(1.0, 0.1, size=(4, epochs))
    return pd.DataFrame(
        {
            "train_loss_generator": 2.0 * noise[0] * np.linspace(0.3, 2.0, epochs),
            "train_loss": 1.3 * noise[0] * np.linspace(0.3, 2.0, epochs),
            "valid_real_score": 0.8 * noise[1],
            "valid_fake_score": 0.2 * noise[1],
            "valid_coverage": coverage * noise[2],
            "valid_kernel_distance": distance * noise[3],
        }
    )


@pytest.mark.parametrize(
    ("coverage", "distance", "name"),
    [(0.14, 0.29, None), (0.6, 0.05, None), (0.03, 0.31, "collapse"), (0.12, 4.2, "collapse")],
)
def test_ten_repeated_images_and_a_single_class_are_a_collapse(
    coverage: float, distance: float, name: str | None
) -> None:
    for seed in SEEDS:
        found = examined(gan_rows(seed, coverage=coverage, distance=distance))
        assert (found.name if found else None) == name


def test_a_young_gan_has_not_collapsed_yet() -> None:
    young = gan_rows(0, coverage=0.0, distance=3.0, epochs=2)
    assert examined(young) is None
    unfinished = gan_rows(0, coverage=0.0, distance=3.0)
    assert examined(unfinished, status="paused") is None
    assert examined(unfinished) is not None


def curve(**columns: list[float]) -> pd.DataFrame:
    return pd.DataFrame(columns)


def name_of(rows: pd.DataFrame) -> str | None:
    found = examined(rows)
    return found.name if found else None


def test_a_loss_that_came_back_has_done_no_harm() -> None:
    assert name_of(curve(train_loss=[2.3, 9.0, 2.0])) == "exploding"
    assert name_of(curve(train_loss=[2.3, 9.0, 0.9])) is None
    assert name_of(curve(train_loss=[2.3, 6.0, 6.5])) is None
    assert name_of(curve(train_loss=[2.3, 1.0, 7.0])) == "exploding"
    assert name_of(curve(train_loss=[0.001, 0.002, 0.0025])) is None


def test_the_first_loss_tells_an_explosion_within_the_first_epoch() -> None:
    assert name_of(curve(train_loss=[900.0, 2.4, 2.3])) is None
    rows = curve(train_loss=[900.0, 2.4, 2.3], health_first_loss=[2.3, 2.4, 2.3])
    found = examined(rows)
    assert found is not None
    assert found.sentence == (
        "the training loss was 2.3 at the start and 900 in epoch 1: "
        "try a smaller learning rate or gradient clipping"
    )


def test_a_network_that_gives_no_numbers_when_it_is_built_needs_no_smaller_learning_rate() -> None:
    reason = "training loss was not finite before any step, first seen in the output of 3 (Log)"
    found = examined(pd.DataFrame(), status="diverged", reason=reason)
    assert found is not None
    assert (found.name, found.sentence) == (
        "broken",
        f"{reason}: no learning rate did that: look at that part of the network, its initial "
        "weights and loss",
    )


def test_a_diverged_training_needs_no_rows() -> None:
    found = examined(
        pd.DataFrame(), status="diverged", reason="training loss was not finite in epoch 1"
    )
    assert found is not None
    assert (found.name, found.sentence) == (
        "exploding",
        "training loss was not finite in epoch 1: try a smaller learning rate or gradient clipping",
    )


def test_a_crash_is_told_by_its_last_line_with_the_way_on() -> None:
    found = diagnose([], status="crashed", reason="Traceback\n  line 1\nValueError: no\n")
    assert found == Diagnosis(
        name="crashed",
        sentence="ValueError: no: once the cause is mended, optimize run with --retry-crashed "
        "trains it again",
    )
    assert diagnose([], status="crashed").sentence.startswith("it crashed: once")  # type: ignore[union-attr]


def test_nothing_measured_is_nothing_wrong() -> None:
    assert examined(pd.DataFrame()) is None
    assert examined(pd.DataFrame({"epoch": [1, 2], "valid_mse": [0.5, 0.4]})) is None
    empty = ["train_loss", "valid_loss", "health_dead_share", "health_gradient_ratio"]
    assert examined(pd.DataFrame(np.nan, index=range(4), columns=empty)) is None
    assert diagnose([{}, {"train_loss": 1.0}, {"train_loss": 0.9}]) is None


def test_losses_of_different_phases_are_not_compared() -> None:
    rows = curve(
        train_loss=[0.1, 0.08, 2.3, 1.9],
        train_loss_reconstruct=[0.1, 0.08, math.nan, math.nan],
        train_loss_classify=[math.nan, math.nan, 2.3, 1.9],
        valid_loss=[2.3, 2.3, 2.2, 1.9],
    )
    assert examined(rows) is None
    rows["train_loss"] = rows["train_loss_classify"] = [math.nan, math.nan, 2.3, 9.0]
    found = examined(rows)
    assert found is not None
    assert "9 in epoch 4" in found.sentence


def test_a_probe_on_reconstructions_is_not_called_overfitted() -> None:
    rows = curve(
        train_loss=[0.10, 0.05, 0.03],
        valid_loss=[0.14, 0.13, 0.16],  # of the probe, a cross-entropy
        valid_reconstruction_error=[0.10, 0.05, 0.03],
    )
    assert examined(rows) is None
    del rows["valid_reconstruction_error"]
    assert name_of(rows) == "overfitting"


def test_a_finding_must_hold_for_three_epochs() -> None:
    assert name_of(curve(health_dead_share=[0.1, 0.99, 1.0])) is None
    assert name_of(curve(health_dead_share=[0.1, 0.99, 1.0, 1.0])) == "dead_units"
    assert name_of(curve(health_dead_share=[1.0])) == "dead_units"
    assert name_of(curve(health_gradient_ratio=[1e-9, 1e-9, 0.1])) is None


def test_the_cause_is_told_before_its_consequences() -> None:
    rows = curve(
        train_loss=[2.3, 50.0, 2.3],
        health_dead_share=[1.0, 1.0, 1.0],
        health_gradient_ratio=[0.0, 0.0, 0.0],
    )
    assert name_of(rows) == "exploding"
    del rows["train_loss"]
    assert name_of(rows) == "dead_units"
    del rows["health_dead_share"]
    assert name_of(rows) == "vanishing_gradients"


SENTENCES = {
    "100% of the units of a ReLU layer are 0 for every image of a batch: try a smaller learning "
    "rate, normalisation, or leaky-relu or gelu instead of relu": {"health_dead_share": [1.0]},
    "98% of the outputs of a sigmoid or tanh layer are at their bounds, where gradients vanish: "
    "try a smaller learning rate, normalisation or smaller initial weights": {
        "health_saturated_share": [0.98]
    },
    "the gradient of the first layer is 1e-10 times that of the last: try normalisation, relu or "
    "gelu, or fewer layers": {"health_gradient_ratio": [1e-10]},
    "the training loss began at 2.30 and was never below 2.29 in 3 epochs: try a larger learning "
    "rate": {
        "train_loss": [2.3, 2.29, 2.29],
        "health_first_loss": [2.3, 2.3, 2.3],
        "health_update_ratio": [1e-6, 1e-6, 1e-6],
    },
    "the training loss began at 2.30 and was never below 2.29 in 3 epochs: try a smaller learning "
    "rate, or more capacity": {
        "train_loss": [2.3, 2.29, 2.29],
        "health_first_loss": [2.3, 2.3, 2.3],
        "health_update_ratio": [0.1, 0.1, 0.1],
    },
    "since epoch 2 the validation loss rose from 1.3 to 2.5 while the training loss fell to 0.1: "
    "try augmentation, more weight decay, a smaller network or fewer epochs": {
        "train_loss": [2.2, 1.0, 0.1],
        "valid_loss": [2.0, 1.3, 2.5],
    },
    "the discriminator is sure of itself (0.999 for real images, 0.001 for generated ones) and "
    "teaches the generator nothing: try a smaller learning rate or fewer channels for the "
    "discriminator, or label smoothing": {
        "valid_real_score": [0.999],
        "valid_fake_score": [0.001],
    },
    "generated images cover 1% of the real ones after 3 epochs, so they repeat each other, are of "
    "few kinds or like nothing real: try a smaller learning rate, less momentum (beta1 0.5) or "
    "more epochs": {"valid_coverage": [0.0, 0.0, 0.01]},
    "generated images cover 21% of the real ones after 3 epochs, so they repeat each other, are of "
    "few kinds or like nothing real: try a smaller learning rate, less momentum (beta1 0.5) or "
    "more epochs": {"valid_coverage": [0.2, 0.2, 0.21], "valid_flagged": [1.0, 1.0, 1.0]},
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_one_sentence_says_what_was_seen_and_what_would_help(sentence: str) -> None:
    found = examined(pd.DataFrame(SENTENCES[sentence]))
    assert found is not None
    assert found.sentence == sentence


def test_every_training_of_a_study_with_something_to_say_has_a_row() -> None:
    trials = pd.DataFrame(
        {
            "family": ["CNN", "CNN", "Net"],
            "trial": pd.array([0, 1, 0], dtype="Int64"),
            "seed": pd.array([5, 6, 7], dtype="Int64"),
            "status": ["completed", "diverged", "completed"],
            "reason": ["", "training loss was not finite in epoch 1", None],
        }
    )
    epochs = pd.DataFrame(
        {
            "family": ["CNN", "CNN", "Net", "Net", "Net"],
            "trial": pd.array([0, 0, 0, 0, 0], dtype="Int64"),
            "seed": pd.array([5, 5, 7, 7, 8], dtype="Int64"),
            "epoch": pd.array([1, 2, 2, 1, 1], dtype="Int64"),
            "train_loss": [2.3, 1.0, 30.0, 2.0, 2.0],
            "health_dead_share": [0.0, 0.1, 0.0, 0.0, 1.0],
        }
    )
    found = diagnoses(trials, epochs)
    assert list(found.columns) == ["family", "trial", "seed", "name", "sentence"]
    assert found.drop(columns="sentence").values.tolist() == [
        ["CNN", 1, 6, "exploding"],
        ["Net", 0, 7, "exploding"],
        ["Net", 0, 8, "dead_units"],
    ]
    assert found["sentence"].iloc[1].startswith("the training loss was 2 at the start and 30 in")
    assert diagnoses(trials.iloc[:1], epochs.iloc[:0]).empty


def test_a_gan_in_the_table_hides_nothing_of_other_families() -> None:
    epochs = pd.DataFrame(
        {
            "family": ["GAN", "GAN", "CNN", "CNN"],
            "trial": pd.array([0, 0, 0, 0], dtype="Int64"),
            "seed": pd.array([1, 1, 2, 2], dtype="Int64"),
            "epoch": pd.array([1, 2, 1, 2], dtype="Int64"),
            "train_loss": pd.array([2.0, 30.0, 2.0, 30.0], dtype="Float64"),
            "valid_fake_score": pd.array([0.5, 0.5, None, None], dtype="Float64"),
        }
    )
    trials = epochs[epochs["epoch"] == 1].assign(status="completed", reason="")
    found = diagnoses(trials, epochs)
    assert found[["family", "name"]].values.tolist() == [["CNN", "exploding"]]
