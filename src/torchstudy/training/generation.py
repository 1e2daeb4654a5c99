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
LEAST_VARIETY = 0.25  # a GAN after four epochs has 1.0, one class 0.67 to 1.1, repeated images 0
AVERAGED_EPOCHS = 3  # whose guarded distances are averaged

METRICS = (
    "kernel_distance",
    "frechet_distance",
    "coverage",
    "variety",
    "flagged",
    "guarded_distance",
)


def generation_metrics(real: Tensor, made: Tensor) -> dict[str, float]:
    """The `METRICS` of the features of generated images, given those of real ones, as many.

    Distances are between features standardised by the real images; all are 0 or so for images
    from the same source, coverage is near 0.97.

    - kernel_distance: `kernel_distance`; may be slightly negative
    - frechet_distance: `frechet_distance`; the fewer images, the larger it is
    - coverage: share of the real images that have a generated one near, see `coverage`
    - variety: how different generated images are from each other, see `variety`
    - flagged: 1 for images no better than those of a generator that has collapsed: their coverage
      is at most `least_coverage`, their variety below 0.25, or their kernel distance at least
      `largest_distance`; else 0
    - guarded_distance: the kernel distance, at least 0; three times `largest_distance` more where
      flagged. So a mean over three epochs with a flagged one among them is never better than a
      mean without.

    All guards are needed: distance hardly notices a few images repeated, coverage hardly that all
    images are of one class, and a few well chosen images cover many.

    Raises StudyError for fewer than 12 real images.
    """
    if len(real) < FEWEST_SCORED:
        raise StudyError(
            f"generated images can be compared with {FEWEST_SCORED} real ones or more, but a split "
            f"has {len(real)}: give valid, select and test more"
        )
    real, made = real.cpu(), made.cpu()
    real, made = standardised(real, real), standardised(made, real)
    distance, largest = kernel_distance(real, made), largest_distance(real)
    covered, varied = coverage(real, made), variety(real, made)
    is_few = covered <= least_coverage(len(real)) or varied < LEAST_VARIETY
    is_flagged = is_few or distance >= largest
    return {
        "kernel_distance": distance,
        "frechet_distance": frechet_distance(real, made),
        "coverage": covered,
        "variety": varied,
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
    shift = (one.double().mean(dim=0) - other.double().mean(dim=0)).square().sum()
    first, second = _covariance_root(one), _covariance_root(other)
    shared = torch.linalg.svdvals(first @ second.T).sum()  # the trace of the root of S1 S2
    spread = first.square().sum() + second.square().sum()
    return max(float(shift + spread - 2 * shared), 0.0)


def coverage(real: Tensor, made: Tensor) -> float:
    """The share of real images that have a generated one near: Naeem et al. 2020, equation 4.

    Near is what is nearer than the fifth neighbour among the real images.
    """
    nearest = torch.cdist(real, made).amin(dim=1)
    return float((nearest < _to_neighbour(real, NEIGHBOURS)).double().mean())


def variety(real: Tensor, made: Tensor) -> float:
    """The median distance of generated images to the nearest other one, over that of real images.

    About 1 for images from the same source, as many; 0 where most are repeated.
    """
    apart, needed = (float(_to_neighbour(each, 1).median()) for each in (made, real))
    return apart / max(needed, LEAST_SPREAD)


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
    """At most 2,000 items at nearly even distances of all that the parts hold together.

    How the items are divided into parts makes no difference, and never more than twice as many are
    held besides one part.
    """
    kept: list[Tensor] = []
    seen, step = 0, 1
    for part in parts:
        kept.append(part[-seen % step :: step])
        seen += len(part)
        while sum(map(len, kept)) > 2 * MOST_SCORED:
            kept, step = [torch.cat(kept)[::2]], 2 * step
    items = torch.cat(kept)
    count = min(len(items), MOST_SCORED)
    return items[torch.linspace(0, len(items) - 1, count).round().long()]


def _to_neighbour(features: Tensor, number: int) -> Tensor:
    """The distance (items,) of each item to its nearest, or `number`-th nearest, other one."""
    return torch.cdist(features, features).kthvalue(number + 1, dim=1).values


def _mean_kernel_within(features: Tensor) -> float:
    """The mean over all pairs of different items."""
    kernel = (features @ features.T / features.shape[1] + 1) ** 3
    count = len(features)
    return float((kernel.sum() - kernel.trace()) / (count * (count - 1)))


def _covariance_root(features: Tensor) -> Tensor:
    """The matrix R for which R^T R is the covariance, in double precision."""
    centred = features.double() - features.double().mean(dim=0)
    root: Tensor = torch.linalg.qr(centred / math.sqrt(len(features) - 1), mode="r").R
    return root
