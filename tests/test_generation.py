"""Distances between generated and real images, and the two kinds of collapse that are flagged."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from sklearn.datasets import load_digits
from torch import Tensor

from torchstudy.errors import StudyError
from torchstudy.families.image_features import _feature_network, image_features
from torchstudy.training.generation import (
    METRICS,
    coverage,
    evenly_chosen,
    frechet_distance,
    generation_metrics,
    kernel_distance,
    largest_distance,
    least_coverage,
    standardised,
    variety,
)

NUM_REAL = 400


def points(count: int, size: int, *, seed: int, shift: float = 0.0) -> Tensor:
    """Normally distributed features."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator) + shift


# -- distances ---------------------------------------------------------------------------------


def test_the_kernel_distance_is_the_mean_over_pairs_of_different_items() -> None:
    one, other = points(5, 3, seed=0), points(7, 3, seed=1)

    def mean(first: Tensor, second: Tensor) -> float:
        values = [
            (float(x @ y) / 3 + 1) ** 3
            for i, x in enumerate(first)
            for j, y in enumerate(second)
            if first is not second or i != j
        ]
        return float(np.mean(values))

    expected = mean(one, one) + mean(other, other) - 2 * mean(one, other)
    assert kernel_distance(one, other) == pytest.approx(expected, rel=1e-4)
    assert kernel_distance(other, one) == pytest.approx(expected, rel=1e-4)


def test_the_kernel_distance_of_the_same_source_is_zero_on_average() -> None:
    """Unbiased: the mean of 40 is within 5 standard errors of 0, and some are negative."""
    found = [
        kernel_distance(points(60, 8, seed=seed), points(60, 8, seed=seed + 1000))
        for seed in range(40)
    ]
    assert abs(np.mean(found)) < 5 * np.std(found, ddof=1) / np.sqrt(40)
    assert min(found) < 0
    assert kernel_distance(points(60, 8, seed=0), points(60, 8, seed=1, shift=1.0)) > max(found)


def test_the_frechet_distance_is_that_of_the_formula() -> None:
    one, other = points(50, 4, seed=0), 2 * points(70, 4, seed=1, shift=0.5)
    first, second = np.cov(one.double().numpy().T), np.cov(other.double().numpy().T)
    shift = one.double().mean(0) - other.double().mean(0)
    root = np.real(linalg.sqrtm(first @ second))
    expected = float(shift @ shift) + np.trace(first + second - 2 * root)
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6)


def test_the_frechet_distance_is_defined_for_fewer_items_than_features() -> None:
    few = points(5, 40, seed=0)
    assert frechet_distance(few, few + 1) == pytest.approx(40, rel=1e-5)


def test_coverage_counts_real_images_with_a_made_one_within_their_fifth_neighbour() -> None:
    line = torch.arange(20.0)[:, None]
    assert coverage(line, line) == 1
    assert coverage(line, line + 1000) == 0
    # 10 lies nearer than the fifth neighbour (3 away; at the ends 5) to 8, ..., 12 and no other.
    assert coverage(line, torch.full((20, 1), 10.0)) == 5 / 20


def test_variety_compares_distances_to_the_nearest_other_image() -> None:
    line = torch.arange(20.0)[:, None]
    assert variety(line, line / 4) == pytest.approx(0.25)
    assert variety(line, torch.cat([line[:10], line[:10]])) == 0
    one, other = points(300, 8, seed=0), points(300, 8, seed=1)
    assert variety(one, other) == pytest.approx(1, abs=0.1)


def test_least_coverage_is_what_so_many_images_of_the_same_source_cover() -> None:
    real, made = points(400, 6, seed=0), points(20 * 50, 6, seed=1)
    found = np.mean([coverage(real, part) for part in torch.split(made, 20)])
    assert least_coverage(400) == pytest.approx(0.223, abs=1e-3)
    assert found == pytest.approx(least_coverage(400), abs=0.03)  # hubs cover the same ones twice
    assert least_coverage(2000) == pytest.approx(0.049, abs=1e-3)
    assert least_coverage(36) == pytest.approx(1 - (1 - 5 / 36) ** 3.6)


def test_the_largest_distance_is_that_of_a_generator_of_one_half() -> None:
    """The halves differ in three of five features, so that these vary together most."""
    apart = 3 * torch.tensor([1.0, 1, 1, 0, 0])
    sides = torch.where(torch.arange(800) % 2 == 0, 1.0, -1.0)[:, None]
    real = points(800, 5, seed=0) + sides * apart
    half = standardised(points(400, 5, seed=1) + apart, real)
    real = standardised(real, real)
    assert largest_distance(real) == pytest.approx(kernel_distance(real, half), rel=0.05)
    assert largest_distance(torch.zeros(20, 5)) == 0


def test_features_that_hardly_vary_do_not_decide_everything() -> None:
    real = points(50, 3, seed=0) * torch.tensor([1.0, 1e-6, 0.0])
    found = standardised(real + 0.1, real)
    assert found[:, 1:].mean().item() == pytest.approx(2.0, abs=1e-3)  # 0.1 over a floor of 0.05
    assert found[:, 0].std().item() == pytest.approx(1.0)


# -- features ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 13, 17), (1, 28, 28), (3, 40, 32)])
def test_images_of_any_size_and_colour_become_as_many_features(shape: tuple[int, ...]) -> None:
    features = image_features(torch.rand(130, *shape))
    assert features.shape == (130, 512)
    assert (features < 0).any()  # taken before the ReLU


def test_features_do_not_depend_on_batches_and_nothing_is_drawn() -> None:
    images = torch.rand(5, 1, 28, 28)
    state = torch.get_rng_state()
    whole = image_features(images)
    each = torch.cat([image_features(image[None]) for image in images])
    assert each.numpy() == pytest.approx(whole.numpy(), abs=1e-4)
    assert torch.equal(torch.get_rng_state(), state)


def test_making_the_feature_network_draws_nothing() -> None:
    _feature_network.cache_clear()
    state = torch.get_rng_state()
    image_features(torch.rand(1, 1, 28, 28, generator=torch.Generator()))
    assert torch.equal(torch.get_rng_state(), state)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=12))
def test_items_are_chosen_evenly_over_the_whole_split_however_it_is_divided(
    sizes: list[int],
) -> None:
    count = sum(sizes)
    items = torch.arange(count)
    chosen = evenly_chosen(torch.split(items, sizes))
    assert torch.equal(chosen, evenly_chosen([items]))
    assert len(chosen) == min(count, 2000)
    assert chosen[0] == 0
    step = max(count / 2000, 1)
    assert count - 1 - chosen[-1] < 2 * step
    gaps = chosen.diff()
    assert not len(gaps) or (gaps.min() >= 1 and gaps.max() <= 2 * step)


# -- collapse, on real images of digits ----------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """The features of all digits in random order, and what each shows."""
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    images = torch.from_numpy(found.images[order]).float()[:, None] / 16
    return image_features(images), torch.from_numpy(found.target[order])


def metrics_of(made: Tensor, digits: tuple[Tensor, Tensor]) -> dict[str, float]:
    """The metrics of made features, repeated until they are as many as the real ones."""
    times = -(-NUM_REAL // len(made))
    return generation_metrics(digits[0][:NUM_REAL], made.repeat(times, 1)[:NUM_REAL])


def mean_of(*epochs: Mapping[str, float]) -> float:
    """The objective of a training with these last epochs."""
    assert len(epochs) == 3
    return float(np.mean([epoch["guarded_distance"] for epoch in epochs]))


def test_real_images_are_at_no_distance_and_cover_nearly_all(
    digits: tuple[Tensor, Tensor],
) -> None:
    found = metrics_of(digits[0][NUM_REAL:], digits)
    assert tuple(found) == METRICS
    assert abs(found["kernel_distance"]) < 0.01
    assert found["coverage"] > 0.93
    assert found["flagged"] == 0
    assert found["guarded_distance"] == max(found["kernel_distance"], 0)


def test_ten_repeated_images_are_flagged_for_their_coverage(
    digits: tuple[Tensor, Tensor],
) -> None:
    real, others = digits[0][:NUM_REAL], digits[0][NUM_REAL:]
    covered = [
        coverage(standardised(real, real), standardised(ten, real))
        for ten in torch.split(others, 10)[:20]
    ]
    assert max(covered) <= least_coverage(NUM_REAL)
    found = metrics_of(others[:10], digits)
    assert found["coverage"] == pytest.approx(covered[0])
    assert found["flagged"] == 1


def test_repeated_images_are_flagged_where_the_distance_misses_them() -> None:
    """Three images of each of four kinds, which differ little within themselves."""
    kinds = 3 * points(4, 16, seed=0)
    real, others = (kinds.repeat(150, 1) + 0.1 * points(600, 16, seed=seed) for seed in (1, 2))
    found = generation_metrics(real, others[:12].repeat(50, 1))
    spaced = standardised(real, real)
    assert found["kernel_distance"] < 0.01 * largest_distance(spaced)
    assert found["coverage"] <= least_coverage(600)
    assert found["flagged"] == 1
    assert found["guarded_distance"] > 2 * largest_distance(spaced)
    assert generation_metrics(real, others)["flagged"] == 0


def test_ten_images_chosen_to_cover_most_are_flagged_for_their_variety(
    digits: tuple[Tensor, Tensor],
) -> None:
    """Greedily, the real image that comes near to most of those not yet covered."""
    real = standardised(digits[0][:NUM_REAL], digits[0][:NUM_REAL])
    apart = torch.cdist(real, real)
    is_near = apart < apart.kthvalue(6, dim=1).values[:, None]
    chosen: list[int] = []
    for _ in range(10):
        is_open = ~is_near[:, chosen].any(dim=1)
        chosen.append(int(is_near[is_open].sum(dim=0).argmax()))
    found = metrics_of(digits[0][chosen], digits)
    assert found["coverage"] > least_coverage(NUM_REAL)
    assert found["variety"] < 0.01
    assert found["flagged"] == 1


def test_a_single_class_is_flagged_for_its_distance_though_its_coverage_may_pass(
    digits: tuple[Tensor, Tensor],
) -> None:
    real = digits[0][:NUM_REAL]
    spaced, others = standardised(real, real), standardised(digits[0][NUM_REAL:], real)
    of_class = [others[digits[1][NUM_REAL:] == number] for number in range(10)]
    nearest = min(of_class, key=lambda made: kernel_distance(spaced, made))
    assert kernel_distance(spaced, nearest) > 1.5 * largest_distance(spaced)
    assert max(coverage(spaced, made) for made in of_class) > least_coverage(NUM_REAL)
    found = generation_metrics(spaced, nearest)  # standardising again changes nothing
    assert found["coverage"] > least_coverage(NUM_REAL)
    assert found["flagged"] == 1


def test_a_training_with_a_flagged_epoch_never_ranks_before_one_without(
    digits: tuple[Tensor, Tensor],
) -> None:
    features, classes = (part[NUM_REAL:] for part in digits)
    real = digits[0][:NUM_REAL]
    worst_of_others = largest_distance(standardised(real, real))
    perfect = metrics_of(features, digits)
    for collapse in (features[:10], features[classes == 8]):
        flagged = metrics_of(collapse, digits)
        assert mean_of(perfect, flagged, perfect) > worst_of_others


def test_too_few_real_images_are_an_error_that_says_how_many_are_needed() -> None:
    with pytest.raises(
        StudyError,
        match="can be compared with 12 real ones or more, but a split has 11: give valid, select",
    ):
        generation_metrics(points(11, 512, seed=0), points(11, 512, seed=1))
    assert generation_metrics(points(12, 512, seed=0), points(12, 512, seed=1)).keys() == {*METRICS}


def test_images_that_are_all_the_same_have_finite_metrics() -> None:
    found = generation_metrics(torch.zeros(20, 512), torch.zeros(20, 512))
    assert all(np.isfinite(value) for value in found.values())
    assert found["flagged"] == 1
