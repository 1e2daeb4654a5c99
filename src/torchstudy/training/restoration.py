"""How close restored images come to the originals: PSNR, SSIM, and what a median filter reaches."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

LEAST_ERROR = 1e-10  # a perfect copy has 100 dB instead of infinitely many
SSIM_REACH, SSIM_SPREAD = 5, 1.5  # pixels: half a window, and its Gaussian (Wang et al. 2004)
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # for values from 0 to 1 (same source)

Restored = tuple[Tensor, Tensor, Tensor]
"""A batch of images in [0, 1], (items, channels, height, width): clean, noisy and restored."""


def restoration_metrics(batches: Iterable[Restored]) -> dict[str, float]:
    """The metrics of a split, over all its pixels; they do not depend on how it is batched.

    `loss` is the squared error per pixel of what was restored and `psnr` the same in decibels,
    `psnr_gain` how much more that is than `noisy_psnr`, of the noisy images. `median_psnr` is that
    of a 3 x 3 median filter. `ssim` and `noisy_ssim` are means over images.
    """
    errors = {name: 0.0 for name in ("restored", "noisy", "median")}
    likeness = {name: 0.0 for name in ("restored", "noisy")}
    pixels = items = 0
    for clean, noisy, restored in batches:
        versions = {"restored": restored, "noisy": noisy, "median": median_filtered(noisy)}
        for name, images in versions.items():
            errors[name] += float((images.double() - clean.double()).square().sum())
        for name in likeness:
            likeness[name] += float(similarity(versions[name], clean).double().sum())
        pixels += clean.numel()
        items += len(clean)
    decibels = {name: psnr(error / pixels) for name, error in errors.items()}
    return {
        "psnr": decibels["restored"],
        "ssim": likeness["restored"] / items,
        "psnr_gain": decibels["restored"] - decibels["noisy"],
        "noisy_psnr": decibels["noisy"],
        "noisy_ssim": likeness["noisy"] / items,
        "median_psnr": decibels["median"],
        "loss": errors["restored"] / pixels,
    }


def psnr(error: float) -> float:
    """The peak signal-to-noise ratio, in decibels, of a mean squared error of values up to 1."""
    return -10 * math.log10(max(error, LEAST_ERROR))


def similarity(images: Tensor, originals: Tensor) -> Tensor:
    """The structural similarity (items,) of images in [0, 1] of at least 6 x 6 pixels; 1 is equal.

    Wang et al. 2004 with a Gaussian window of 11 x 11, channels apart, edges reflected: the numbers
    of `torchmetrics`, but by two matrix products instead of a convolution, which takes a
    seventeenth of the time (512 images of 28 x 28 on one core: 10 ms against 168).
    """
    height, width = images.shape[-2:]
    rows, columns = (_window(side).to(images.device) for side in (height, width))
    products = [images, originals, images.square(), originals.square(), images * originals]
    mean, other_mean, square, other_square, product = rows @ torch.stack(products) @ columns.T
    spread = (square - mean.square()).clamp_min(0)
    other_spread = (other_square - other_mean.square()).clamp_min(0)
    shared = product - mean * other_mean
    brightness = (2 * mean * other_mean + SSIM_C1) / (mean.square() + other_mean.square() + SSIM_C1)
    structure = (2 * shared + SSIM_C2) / (spread + other_spread + SSIM_C2)
    likeness: Tensor = (brightness * structure).mean(dim=(1, 2, 3))
    return likeness


def median_filtered(images: Tensor) -> Tensor:
    """Each pixel becomes the median of the 3 x 3 around it; edges are reflected.

    Columns of three are sorted, then the largest of the smallest, the middle of the middle and the
    smallest of the largest, and the middle of these (Smith 1996): a seventeenth of the time of
    `torch.median`.
    """
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="reflect")
    low, middle, high = _sorted(*(padded.narrow(2, at, images.shape[2]) for at in range(3)))
    _, _, low = _sorted(*_beside(low, images.shape[3]))
    _, middle, _ = _sorted(*_beside(middle, images.shape[3]))
    high, _, _ = _sorted(*_beside(high, images.shape[3]))
    return _sorted(low, middle, high)[1]


def _window(size: int) -> Tensor:
    """(size, size): what each pixel along a line takes from the others; rows add up to 1."""
    steps = torch.arange(-SSIM_REACH, SSIM_REACH + 1)
    weights = torch.exp(-(steps / SSIM_SPREAD).square() / 2)
    places = (torch.arange(size)[:, None] + steps).abs()
    places = torch.where(places >= size, 2 * (size - 1) - places, places)
    taken = (weights / weights.sum()).expand(size, -1)
    return torch.zeros(size, size).scatter_add_(1, places, taken)


def _beside(columns: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    return columns.narrow(3, 0, width), columns.narrow(3, 1, width), columns.narrow(3, 2, width)


def _sorted(one: Tensor, two: Tensor, three: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = torch.minimum(one, two), torch.maximum(one, two)
    middle = torch.maximum(low, torch.minimum(high, three))
    return torch.minimum(low, three), middle, torch.maximum(high, three)
