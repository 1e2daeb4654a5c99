"""The GAN: images of any shape, phases that leave each other alone, scores, and collapse."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training_jobs import job_for, run_job, space_of, steady
from torch import Tensor, nn

from torchstudy.data.dataset import ImageData, prepare
from torchstudy.data.images import Images
from torchstudy.data.spec import DataSpec
from torchstudy.execution import job as jobs
from torchstudy.execution.exhibits import gallery_path
from torchstudy.families.gan import GAN, Adversaries, depth_of
from torchstudy.families.image_features import image_features
from torchstudy.families.phases import Phase
from torchstudy.records import Status
from torchstudy.training.batches import Batch, Split
from torchstudy.training.generation import (
    NEIGHBOURS,
    generation_metrics,
    least_coverage,
    standardised,
)
from torchstudy.training.optim import TrainingConfig

FASHION = Path("/usr/share/datasets/fashion-mnist")
SMALL = {"width": 8, "discriminator_width": 8, "latent": 8}
QUICK = {**SMALL, "batch_size": 32}


def spec_of(height: int, width: int, channels: int = 1) -> DataSpec:
    """Data with images of this shape and two classes."""
    return DataSpec(
        source="x", channels=channels, height=height, width=width, classes=("a", "b"), num_train=9
    )


def small_net(data: DataSpec, seed: int = 0) -> Adversaries:
    torch.manual_seed(seed)
    return GAN(width=8, discriminator_width=8, latent=8).build(data)


def two_phases(family: GAN, data: DataSpec, **training: float) -> tuple[Phase, Phase]:
    first, second = family.phases(data, TrainingConfig(**training))
    return first, second


# -- networks ----------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    size=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    channels=st.sampled_from([1, 3]),
    norm=st.sampled_from(["none", "batch"]),
)
def test_images_of_any_size_and_colour_are_made_and_judged(
    size: tuple[int, int], channels: int, norm: str
) -> None:
    data = spec_of(*size, channels)
    family = GAN(width=8, discriminator_width=8, latent=8, discriminator_normalisation=norm)
    assert list(family.problems(data)) == []
    net = family.build(data)
    made = net(net.noise(3))
    assert made.shape == (3, channels, *size)
    assert -1 <= made.min().item() <= made.max().item() <= 1
    assert net.discriminator(made).shape == (3, 1)


@pytest.mark.parametrize(
    ("size", "depth"), [(8, 1), (13, 1), (15, 1), (16, 2), (28, 2), (32, 3), (224, 5)]
)
def test_images_are_halved_down_to_no_less_than_four_pixels(size: int, depth: int) -> None:
    assert depth_of(spec_of(size, size + 9)) == depth


def test_channels_double_up_to_eight_times_the_width() -> None:
    net = GAN(width=8, discriminator_width=16).build(spec_of(224, 224))
    made = [layer for layer in net.generator if isinstance(layer, nn.ConvTranspose2d)]
    judged = [layer for layer in net.discriminator if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in made] == [64, 64, 32, 16, 8, 1]
    assert [layer.out_channels for layer in judged] == [16, 32, 64, 128, 128]


@pytest.mark.parametrize(("size", "channels"), [((28, 28), 1), ((32, 32), 3), ((64, 48), 3)])
def test_weights_begin_normal_with_a_spread_of_two_hundredths(
    size: tuple[int, int], channels: int
) -> None:
    torch.manual_seed(0)
    net = GAN(width=16, discriminator_normalisation="batch").build(spec_of(*size, channels))
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            # 256 weights or more: a spread off by a fifth is over 4 standard errors away.
            assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.2)
            assert layer.bias is None or not layer.bias.any()
        if isinstance(layer, nn.BatchNorm2d):
            assert float(layer.weight.detach().mean()) == pytest.approx(1.0, abs=0.03)


def test_pixels_are_mapped_to_the_range_of_generated_images() -> None:
    for channels in (1, 3):
        pixels = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)
        mapped = GAN().preprocessing(spec_of(8, 8, channels))(pixels.expand(-1, channels, -1, -1))
        assert mapped[0].unique().tolist() == [-1.0]
        assert mapped[1].unique().tolist() == [1.0]


def test_problems_name_what_would_do() -> None:
    (small,) = GAN().problems(spec_of(6, 9))
    assert small == "needs images of at least 8 px, but these have 6 x 9: raise the image size"
    (views,) = GAN().problems(replace(spec_of(8, 8), views=2))
    assert views.startswith("takes one image an item, but the data have 2")


def test_its_training_space_is_adam_with_an_open_first_moment() -> None:
    domains = space_of(GAN).domains
    assert domains["optimizer"].default == "adam"
    assert "momentum" not in domains
    assert domains["beta1"].default == 0.5
    assert domains["beta1"].size > 1
    assert (domains["weight_decay"].default, domains["weight_decay"].size) == (0.0, 1)
    assert domains["schedule"].default == "constant"


# -- phases ------------------------------------------------------------------------------------


def test_each_phase_moves_its_own_side_alone() -> None:
    data = spec_of(8, 8)
    net = small_net(data).train()
    first, second = two_phases(GAN(width=8, discriminator_width=8, latent=8), data)
    sides = {"discriminator": net.discriminator, "generator": net.generator}
    batch = Batch(torch.rand(6, 1, 8, 8) * 2 - 1, torch.zeros(6))
    for phase, other in ((first, "generator"), (second, "discriminator")):
        own = {id(parameter) for parameter in sides[phase.name].parameters()}
        assert {id(parameter) for parameter in phase.parameters(net)} == own
        net.zero_grad(set_to_none=True)
        phase.loss(net, batch).backward()
        assert all(p.grad is not None and p.grad.any() for p in phase.parameters(net))
        assert all(p.grad is None for p in sides[other].parameters())
        assert all(p.requires_grad for p in net.parameters())


def test_losses_are_those_of_a_discriminator_that_answers_a_constant() -> None:
    """With the logit 2: real costs log(1 + e^-2), fake log(1 + e^2); the discriminator halves."""
    data = spec_of(8, 8)
    net = small_net(data).train()
    last = net.discriminator[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(2.0)
    batch = Batch(torch.zeros(4, 1, 8, 8), torch.zeros(4))
    low, high = np.log1p(np.exp(-2.0)), np.log1p(np.exp(2.0))
    for smoothing in (0.0, 0.1):
        first, second = two_phases(GAN(), data, label_smoothing=smoothing)
        real = (1 - smoothing) * low + smoothing * high  # fake ones keep their target
        assert first.loss(net, batch).item() == pytest.approx((real + high) / 2, rel=1e-5)
        assert second.loss(net, batch).item() == pytest.approx(low, rel=1e-5)


def test_targets_are_never_looked_at() -> None:
    data = spec_of(8, 8)
    images = torch.rand(6, 1, 8, 8) * 2 - 1

    def losses(targets: Tensor) -> list[float]:
        net = small_net(data).train()
        torch.manual_seed(1)
        return [phase.loss(net, Batch(images, targets)).item() for phase in two_phases(GAN(), data)]

    assert losses(torch.zeros(6)) == losses(torch.full((6,), float("nan")))


def test_noise_is_drawn_from_torchs_generator_every_time() -> None:
    net = small_net(spec_of(8, 8))
    torch.manual_seed(7)
    one, two = net.noise(4), net.noise(4)
    torch.manual_seed(7)
    assert torch.equal(net.noise(4), one)
    assert not torch.equal(one, two)


# -- scores and pictures -----------------------------------------------------------------------


def split_from(data: ImageData, name: str = "valid") -> Split:
    rows = data.splits[name]
    preprocessing = GAN().preprocessing(data.spec)
    return Split.of(data.pixels, rows, data.targets[rows], preprocessing)


def test_scores_are_all_metrics_and_follow_from_the_seed_alone(striped: ImageData) -> None:
    net, split = small_net(striped.spec).eval(), split_from(striped)

    def scores(seed: int, batch_size: int = 512) -> dict[str, float]:
        torch.manual_seed(seed)
        with torch.inference_mode():
            return GAN().score(net, striped.spec, split.in_order(batch_size))

    first = scores(0)
    assert {*first, "generation_distance"} == {*GAN.metrics} == {*GAN.reports("regression")}
    assert "loss" not in first
    assert all(np.isfinite(value) for value in first.values())
    assert scores(0) == first
    assert scores(0, batch_size=7) == pytest.approx(first, rel=1e-4)
    assert scores(1)["kernel_distance"] != first["kernel_distance"]


def test_nothing_is_predicted_and_pictures_are_of_the_same_noise_every_time() -> None:
    data = spec_of(8, 8, channels=3)
    net = small_net(data).eval()
    with torch.inference_mode():
        batch = Batch(torch.zeros(2, 3, 8, 8), torch.zeros(2))
        assert GAN().predict(net, data, batch) is None
        one = GAN().pictures(net, batch)["samples"]
        two = GAN().pictures(net, Batch(batch.inputs + 1, batch.targets))["samples"]
    assert one.shape == (8, 3, 8, 8)
    assert torch.equal(one, two)
    assert 0 <= one.min().item() < one.max().item() <= 1
    assert "fixed_noise" in net.state_dict()
    assert not torch.equal(net.fixed_noise, small_net(data, seed=1).fixed_noise)


# -- trained -----------------------------------------------------------------------------------


@pytest.mark.slow  # the distances of four scorings: over a second
def test_an_epoch_reports_scores_and_both_losses_and_leaves_samples(
    striped: ImageData, tmp_path: Path
) -> None:
    config = {**space_of(GAN).recipe, **QUICK}
    outcome, rows = run_job(job_for(GAN, striped, tmp_path, config, epochs=2))
    assert outcome.status is Status.COMPLETED, outcome.reason
    for row in rows:
        assert {"train_loss_discriminator", "train_loss_generator"} <= row.measured.keys()
        assert 0 < row.metrics["real_score"] < 1
        assert 0 < row.metrics["fake_score"] < 1
    guarded = [row.metrics["guarded_distance"] for row in rows]
    assert rows[1].metrics["generation_distance"] == pytest.approx(np.mean(guarded))
    assert {f"select_{name}" for name in GAN.metrics} <= outcome.metrics.keys()
    with np.load(gallery_path(tmp_path)) as saved:
        shown = {name: saved[name] for name in saved.files}
    assert list(shown) == ["0/samples", "1/samples", "2/samples"]
    assert all(images.shape == (8, 1, 8, 8) for images in shown.values())
    assert (shown["0/samples"] != shown["2/samples"]).any()


@pytest.mark.slow  # three trainings of four epochs, each epoch scored: some seconds
def test_a_stopped_training_goes_on_to_the_same_numbers(striped: ImageData, tmp_path: Path) -> None:
    config = {**space_of(GAN).recipe, **QUICK}
    whole, rows = run_job(job_for(GAN, striped, tmp_path / "whole", config, epochs=4))
    job = job_for(GAN, striped, tmp_path / "stopped", config, epochs=4)
    seen: list[object] = []
    paused = jobs.run(job, seen.append, lambda: len(seen) >= 2)
    assert paused.status is Status.PAUSED
    again, rows_again = run_job(job)
    assert steady(again) == steady(whole)
    assert [row.metrics for row in rows_again] == [row.metrics for row in rows]


@pytest.mark.slow  # thirty epochs of five batches, each scored
def test_training_brings_generated_images_nearer_to_real_ones(
    striped: ImageData, tmp_path: Path
) -> None:
    config = {**space_of(GAN).recipe, **QUICK, "width": 16, "learning_rate": 2e-3}
    outcome, rows = run_job(job_for(GAN, striped, tmp_path, config, epochs=30))
    assert outcome.status is Status.COMPLETED, outcome.reason
    first, best = rows[0].metrics, rows[outcome.best_epoch - 1].metrics
    assert best["kernel_distance"] < 0.5 * first["kernel_distance"]


# -- collapse, on real images ------------------------------------------------------------------


class Copying(Adversaries):
    """A generator that gives the same images, in [-1, 1], in turn, whatever the noise."""

    def __init__(self, data: DataSpec, images: Tensor) -> None:
        super().__init__(GAN(width=8, discriminator_width=8, latent=8), data)
        self.images, self.given = images, 0

    def forward(self, noise: Tensor) -> Tensor:
        places = torch.arange(self.given, self.given + len(noise)) % len(self.images)
        self.given += len(noise)
        return self.images[places]


Scores = dict[str, dict[str, float]]


def scores_of(data: ImageData, images: Tensor) -> dict[str, float]:
    """The metrics, on the valid split, of a generator of these images alone."""
    net = Copying(data.spec, images).eval()
    with torch.inference_mode():
        return GAN().score(net, data.spec, split_from(data).in_order())


def test_the_two_scores_are_mean_probabilities_of_being_real(striped: ImageData) -> None:
    """Judged by its mean pixel alone: white images, 1, against the striped ones."""
    net = Copying(striped.spec, torch.ones(1, 1, 8, 8)).eval()
    brightness = nn.Linear(64, 1)
    nn.init.constant_(brightness.weight, 1 / 64)
    nn.init.zeros_(brightness.bias)
    net.discriminator = nn.Sequential(nn.Flatten(), brightness)
    split = split_from(striped)
    means = torch.cat([batch.inputs.mean(dim=(1, 2, 3)) for batch in split.in_order()])
    with torch.inference_mode():
        found = GAN().score(net, striped.spec, split.in_order())
    assert found["fake_score"] == pytest.approx(1 / (1 + np.exp(-1)), rel=1e-6)
    assert found["real_score"] == pytest.approx(float(means.sigmoid().mean()), rel=1e-6)


def test_distances_are_between_features_of_images_from_zero_to_one(striped: ImageData) -> None:
    images = split_from(striped, "train").spread(len(striped.splits["valid"])).inputs
    valid = torch.from_numpy(np.array(striped.pixels[striped.splits["valid"]])) / 255
    expected = generation_metrics(image_features(valid), image_features(images / 2 + 0.5))
    found = scores_of(striped, images)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_a_generator_of_the_very_images_has_no_distance_and_covers_all(striped: ImageData) -> None:
    found = scores_of(striped, split_from(striped).spread(1000).inputs)
    assert found["coverage"] == 1
    assert found["frechet_distance"] == pytest.approx(0, abs=1e-3)
    assert found["kernel_distance"] <= 0  # unbiased: an image is never compared with itself
    assert found["guarded_distance"] == found["flagged"] == 0
    assert found["real_score"] == pytest.approx(found["fake_score"], rel=1e-6)


@pytest.fixture(scope="module")
def real_images() -> ImageData:
    if FASHION.is_dir():
        return prepare(Images("fashion-mnist", train=8000, valid=600, select=100), seed=0)
    return prepare(Images("digits", valid=120, select=100, test=100), seed=0)


def most_covering(real: Tensor, other: Tensor) -> list[int]:
    """The places of ten images, each adding the most to what those before it cover."""
    others, reals = (image_features(images / 2 + 0.5) for images in (other, real))
    others, reals = standardised(others, reals), standardised(reals, reals)
    radius = torch.cdist(reals, reals).kthvalue(NEIGHBOURS + 1, dim=1).values
    is_near = torch.cdist(others, reals) < radius
    picked: list[int] = []
    for _ in range(10):
        picked.append(int(is_near.sum(dim=1).argmax()))
        is_near = is_near & ~is_near[picked[-1]]
    return picked


@pytest.fixture(scope="module")
def scores(real_images: ImageData) -> Scores:
    """Of generators of real images: fair ones, ten repeated images, and a single class."""
    train = split_from(real_images, "train")
    images = train.spread(1200).inputs
    ones = [train.take((train.targets == label).nonzero()[:, 0]) for label in range(0, 10, 2)]
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    made = {
        "fair": images,
        "fair, faded": (images + 1) * 0.85 - 1,
        "fair, noisy": (images + 0.06 * noise).clamp(-1, 1),
    }
    made |= {f"ten from {start}": images[start : start + 10] for start in range(100, 200, 10)}
    valid = split_from(real_images)
    made["picked ten"] = images[most_covering(valid.spread(len(valid)).inputs, images)]
    made |= {f"class {2 * at} only": one.spread(600).inputs for at, one in enumerate(ones)}
    return {name: scores_of(real_images, part) for name, part in made.items()}


@pytest.mark.slow  # nineteen sets of 600 images go through the feature network
def test_ten_repeated_images_and_one_class_only_never_rank_first(scores: Scores) -> None:
    ranked = sorted(scores, key=lambda name: scores[name]["guarded_distance"])
    assert {name for name in ranked[:3]} == {"fair", "fair, faded", "fair, noisy"}
    assert [scores[name]["flagged"] for name in ranked] == [0.0] * 3 + [1.0] * 16


@pytest.mark.slow  # the same scores
def test_distance_would_miss_repeated_images_and_coverage_a_single_class(
    scores: Scores, real_images: ImageData
) -> None:
    def of(kind: str, metric: str) -> list[float]:
        return [found[metric] for name, found in scores.items() if name.startswith(kind)]

    assert min(of("ten", "kernel_distance")) < min(of("class", "kernel_distance"))
    assert max(of("class", "coverage")) > least_coverage(len(real_images.splits["valid"]))
    assert min(of("class", "variety")) > 0.5  # images of one class are far from equal


@pytest.mark.slow  # the same scores
def test_ten_images_picked_to_cover_many_are_flagged_for_repeating(
    scores: Scores, real_images: ImageData
) -> None:
    found = scores["picked ten"]
    assert found["coverage"] > least_coverage(len(real_images.splits["valid"]))
    assert (found["variety"], found["flagged"]) == (pytest.approx(0, abs=0.01), 1)
