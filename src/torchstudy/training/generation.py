"""How close generated images come to real ones, and whether they are few or of one kind."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from torchstudy.errors import StudyError

MOST_SCORED = 2000  # images of a split that are compared with as many generated ones
FEWEST_SCORED = 12  # below it a half of the images has no six to tell distances by
NEIGHBOURS = 5  # of a real image, whose farthest is still near (Naeem et al. 2020)
LEAST_SPREAD = 0.05  # of a feature; Fashion-MNIST has 0.36 to 1.2, digits 0.17 to 0.58
FEW_IMAGES, FEW_SHARE = 20, 0.1  # so many, or this share of a small split, would be a collapse
AVERAGED_EPOCHS = 3  # whose guarded distances are averaged

METRICS = ("kernel_distance", "frechet_distance", "coverage", "flagged", "guarded_distance")


def generation_metrics(real: Tensor, made: Tensor) -> dict[str, float]:
    """The `METRICS` of the features of generated images, given those of real ones, as many.

    Distances are between features standardised by the real images; all are 0 or so for images
    from the same source, coverage is near 0.97.

    - kernel_distance: `kernel_distance`; may be slightly negative
    - frechet_distance: `frechet_distance`; the fewer images, the larger it is
    - coverage: share of the real images that have a generated one near, see `coverage`
    - flagged: 1 for images no better than those of a generator that has collapsed: their coverage
      is at most `least_coverage`, or their kernel distance at least `largest_distance`; else 0
    - guarded_distance: the kernel distance, at least 0; three times `largest_distance` more where
      flagged. So a mean over three epochs with a flagged one among them is never better than a
      mean without.

    Both guards are needed: distance hardly notices a few images repeated, and coverage hardly that
    all images are of one class.

    Raises StudyError for fewer than 12 real images.
    """
    if len(real) < FEWEST_SCORED:
        raise StudyError(
            f"generated images can be compared with {FEWEST_SCORED} real ones or more, but a split "
            f"has {len(real)}: give valid, select and test more"
        )
    real, made = standardised(real, real), standardised(made, real)
    distance, covered = kernel_distance(real, made), coverage(real, made)
    largest = largest_distance(real)
    is_flagged = covered <= least_coverage(len(real)) or distance >= largest
    return {
        "kernel_distance": distance,
        "frechet_distance": frechet_distance(real, made),
        "coverage": covered,
        "flagged": float(is_flagged),
        "guarded_distance": max(distance, 0.0) + AVERAGED_EPOCHS * largest * is_flagged,
    }


def standardised(features: Tensor, real: Tensor) -> Tensor:
    """Features minus the mean of the real ones, over their spread."""
    return (features - real.mean(dim=0)) / real.std(dim=0).clamp_min(LEAST_SPREAD)


def kernel_distance(one: Tensor, other: Tensor) -> float:
    """The unbiased squared maximum mean discrepancy of two sets of features (items, features).

    With the kernel (x y / features + 1)^3: Binkowski et al. 2018, equation 4.
    """
    between = (one @ other.T / one.shape[1] + 1) ** 3
    return _mean_kernel_within(one) + _mean_kernel_within(other) - 2 * float(between.mean())


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """The squared Frechet distance of the normal distributions with their means and covariances.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)): Heusel et al. 2017, equation 6.
    """
    one, other = one.double(), other.double()
    shift = float((one.mean(dim=0) - other.mean(dim=0)).square().sum())
    first, second = torch.cov(one.T), torch.cov(other.T)
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    shared = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    return max(shift + float(first.trace() + second.trace() - 2 * shared), 0.0)


def coverage(real: Tensor, made: Tensor) -> float:
    """The share of real images that have a generated one near: Naeem et al. 2020, equation 4.

    Near is what is nearer than the fifth neighbour among the real images.
    """
    radius = torch.cdist(real, real).kthvalue(NEIGHBOURS + 1, dim=1).values
    nearest = torch.cdist(real, made).amin(dim=1)
    return float((nearest < radius).double().mean())


def least_coverage(num_real: int) -> float:
    """What 20 images from the same source would cover, repeated as often as one likes.

    Of fewer than 200 real images, a tenth instead of 20. A real image has 5 others near, so that
    each repeated one misses it with probability 1 - 5 / `num_real`.
    """
    few = min(FEW_IMAGES, FEW_SHARE * num_real)
    return 1 - math.pow(1 - NEIGHBOURS / num_real, few)


def largest_distance(real: Tensor) -> float:
    """The kernel distance of a generator that draws one half of the images and never the other.

    The halves lie on both sides of the median along the direction in which the images differ most.
    The whole is the mean of its halves, so that the distance to it is a quarter of theirs.
    """
    centred = real - real.mean(dim=0)
    direction = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1]
    order = (centred @ direction).argsort()
    half = len(real) // 2
    return max(kernel_distance(real[order[:half]], real[order[half:]]) / 4, 0.0)


def evenly_chosen(parts: Iterable[Tensor]) -> Tensor:
    """At most 2,000 items at even distances of all that the parts hold together."""
    items = torch.cat(list(parts))
    count = min(len(items), MOST_SCORED)
    return items[torch.linspace(0, len(items) - 1, count).round().long()]


def _mean_kernel_within(features: Tensor) -> float:
    """The mean over all pairs of different items."""
    kernel = (features @ features.T / features.shape[1] + 1) ** 3
    count = len(features)
    return float((kernel.sum() - kernel.trace()) / (count * (count - 1)))
