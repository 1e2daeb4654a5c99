"""How images are changed at random for training: crop, rotation, flips and colour, per image."""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from torchstudy.declaring import hyperparameters
from torchstudy.errors import SpaceError

Recolour: TypeAlias = Callable[[Tensor, Tensor], Tensor]

PIXELS_AT_ONCE = 2**17  # as floats: 96 px rotate 3 times faster than a whole batch at once
LUMA = (0.299, 0.587, 0.114)  # grey of red, green and blue (ITU-R BT.601, as Pillow has it)
SHARES = ("horizontal_flip", "vertical_flip", "brightness", "contrast", "saturation")


@hyperparameters
class Augmentation:
    """Random changes of training images; everything is off unless a study opens it.

    Every image has draws of its own, also the views of one item. Ranges mean what they mean in
    torchvision, in this order: `RandomCrop` with zero padding, `RandomHorizontalFlip`,
    `RandomVerticalFlip`, `RandomRotation` (bilinear, about the centre, zero outside),
    `ColorJitter`. Two things are simpler: with rotation, one warp of the whole image does crop,
    flips and rotation, so that a corner the crop has moved out can be turned in again; and the
    order of the colour changes is drawn once per batch. Saturation and hue leave grey images be.
    """

    crop: float = 0.0  # largest shift, as a share of the image's side, in whole pixels
    rotation: float = 0.0  # largest angle, in degrees, either way
    horizontal_flip: float = 0.0  # probability of exchanging left and right
    vertical_flip: float = 0.0  # probability of exchanging top and bottom
    brightness: float = 0.0  # factor in [1 - brightness, 1 + brightness], as the next two
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0  # largest turn either way, as a share of the colour circle

    def __post_init__(self) -> None:
        limits = {
            "crop must be in [0, 0.5]": 0 <= self.crop <= 0.5,
            "rotation must be in [0, 180]": 0 <= self.rotation <= 180,
            **{f"{name} must be in [0, 1]": 0 <= getattr(self, name) <= 1 for name in SHARES},
            "hue must be in [0, 0.5]": 0 <= self.hue <= 0.5,
        }
        if problems := [problem for problem, holds in limits.items() if not holds]:
            raise SpaceError(problems)

    @property
    def is_on(self) -> bool:
        """Whether anything is changed at all."""
        return self._moves_pixels or any(getattr(self, name) > 0 for name in RECOLOURS)

    @property
    def _moves_pixels(self) -> bool:
        return max(self.crop, self.rotation, self.horizontal_flip, self.vertical_flip) > 0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Changed uint8 images, of the shape given: (batch, [views,] channels, height, width).

        `images` are never written to; they come back themselves where everything is off. Every
        draw is from `generator`, in a fixed order, and what is off draws nothing.
        """
        if images.ndim == 5:
            return self(images.flatten(0, 1), generator).reshape(images.shape)
        if self._moves_pixels:
            moves = self._draw_moves(images, generator)
            images = warped(images, moves) if self.rotation > 0 else shifted(images, moves)
        names = [name for name in _recolours_of(images) if getattr(self, name) > 0]
        if not names:
            return images
        order = torch.randperm(len(names), generator=generator).tolist()
        factors = {name: self._draw_factors(name, len(images), generator) for name in names}
        return recoloured(images, {names[place]: factors[names[place]] for place in order})

    def _draw_moves(self, images: Tensor, generator: torch.Generator) -> "Moves":
        """A draw per image for each move that is on: shifts and flips at once, then the angles."""
        count, _, height, width = images.shape
        margins = (round(self.crop * height), round(self.crop * width))
        rates = (self.horizontal_flip, self.vertical_flip)
        num_on = sum(most > 0 for most in (*margins, *rates))
        draws = iter(torch.rand(num_on, count, generator=generator).numpy())

        def shifts(margin: int) -> Tensor:
            shifts = (
                whole_shifts(next(draws), margin) if margin else np.zeros(count, dtype=np.int64)
            )
            return torch.from_numpy(shifts)

        def flips(rate: float) -> Tensor:
            return torch.from_numpy(next(draws) < rate if rate else np.zeros(count, dtype=np.bool_))

        return Moves(
            down=shifts(margins[0]),
            right=shifts(margins[1]),
            is_mirrored=flips(rates[0]),
            is_upside_down=flips(rates[1]),
            angle=_uniform(0.0, self.rotation, count, generator),
        )

    def _draw_factors(self, name: str, num_images: int, generator: torch.Generator) -> Tensor:
        centre = 0.0 if name == "hue" else 1.0
        return _uniform(centre, getattr(self, name), num_images, generator)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """Where the pixels of each image go: cropped first, then flipped, then turned.

    All are (images,). The window that is cut out lies `down` rows below and `right` columns right
    of the image (int64, negative for above and left); `angle` is in degrees, counter-clockwise.
    """

    down: Tensor
    right: Tensor
    is_mirrored: Tensor
    is_upside_down: Tensor
    angle: Tensor


def whole_shifts(shares: NDArray[np.float32], margin: int) -> NDArray[np.int64]:
    """Shares in [0, 1) as whole numbers in [-margin, margin], all equally likely.

    The product stays below its odd bound: the largest share is 1 - 2**-24, and rounds down there.
    """
    return (shares * np.float32(2 * margin + 1)).astype(np.int64) - margin


def _uniform(centre: float, spread: float, count: int, generator: torch.Generator) -> Tensor:
    """Draws from [centre - spread, centre + spread]; without spread, none."""
    if spread == 0:
        return torch.from_numpy(np.full(count, centre, dtype=np.float32))
    return torch.rand(count, generator=generator).mul_(2).sub_(1).mul_(spread).add_(centre)


def shifted(images: Tensor, moves: Moves) -> Tensor:
    """Images (images, channels, height, width) cropped and flipped, not turned; zero outside.

    Pixels are copied, not computed.
    """
    if images.device.type != "cpu":
        return shifted_anywhere(images, moves)
    cut = _cut_out(images.numpy(), moves.down.numpy(), moves.right.numpy())
    for is_flipped, axis in ((moves.is_mirrored, -1), (moves.is_upside_down, -2)):
        places = np.flatnonzero(is_flipped.numpy())
        if len(places):
            cut[places] = torch.from_numpy(cut[places]).flip(axis).numpy()  # NumPy's takes 3 times
    return torch.from_numpy(cut)


def shifted_anywhere(images: Tensor, moves: Moves) -> Tensor:
    """What `shifted` returns, on any device, by one index per pixel: slow on a CPU."""
    num_images, _, height, width = images.shape
    device = images.device
    down, right = moves.down.to(device), moves.right.to(device)
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    rows = torch.where(moves.is_upside_down.to(device)[:, None], rows.flip(0), rows)
    columns = torch.where(moves.is_mirrored.to(device)[:, None], columns.flip(0), columns)
    up, aside = (int(shift.abs().max()) for shift in (moves.down, moves.right))
    padded = functional.pad(images, (aside, aside, up, up)).movedim(1, -1)
    items = torch.arange(num_images, device=device)[:, None, None]
    rows, columns = rows + (down + up)[:, None], columns + (right + aside)[:, None]
    return padded[items, rows[:, :, None], columns[:, None]].movedim(-1, 1).contiguous()


def _cut_out(
    images: NDArray[np.uint8], down: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """The shifted windows: all of an image lies as far ahead in memory as its window is moved.

    So one stretch of bytes is the window, but where it leaves the image: there it holds pixels of
    the next row, channel or image, and is cleared.
    """
    num_images, channels, height, width = images.shape
    up, aside = max(map(abs, down.tolist())), max(map(abs, right.tolist()))
    size, edge = channels * height * width, up * width + aside
    line = np.empty(num_images * size + 2 * edge, dtype=np.uint8)
    line[edge : edge + num_images * size] = images.reshape(-1)
    ahead = down * width + right
    starts = np.arange(edge, edge + num_images * size, size)
    cut = _stretches(line, starts + ahead, size).reshape(num_images, channels, height * width)
    insides = _insides(height, width, up, aside)
    starts = (right + aside) * ((height + 2 * up) * width) + (down + up) * width
    cut &= _stretches(insides, starts, height * width)[:, None]
    return cut.reshape(images.shape)


def _stretches(line: NDArray[np.uint8], starts: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """(starts, size): the bytes of `line` from each start, copied as one element of that size."""
    places = len(line) - size + 1
    stretches: NDArray[Any] = np.ndarray((places,), f"V{size}", line, strides=(1,))
    return stretches[starts].view(np.uint8).reshape(len(starts), size)


@functools.lru_cache(maxsize=32)
def _insides(height: int, width: int, up: int, aside: int) -> NDArray[np.uint8]:
    """255 within the image and 0 outside, flat: for each shift to the right, `up` rows around."""
    insides = np.zeros((2 * aside + 1, height + 2 * up, width), dtype=np.uint8)
    columns = np.arange(width) + np.arange(-aside, aside + 1)[:, None]
    insides[:, up : up + height] = np.where((columns >= 0) & (columns < width), 255, 0)[:, None]
    return insides.reshape(-1)


def warped(images: Tensor, moves: Moves) -> Tensor:
    """Images (images, channels, height, width) cropped, flipped and turned in one resampling.

    Bilinear; what lies outside an image is zero.
    """
    result = torch.empty_like(images)
    for part in _parts(images):
        places = _places(moves, part, *images.shape[2:]).to(images.device)
        pixels = functional.grid_sample(images[part].float(), places, align_corners=False)
        result[part] = pixels.round_()
    return result


def _places(moves: Moves, part: slice, height: int, width: int) -> Tensor:
    """Where each pixel of the result is read from, (part, height, width, 2), as grid_sample has it.

    Each pixel, counted from the centre, is led back through turn, flips and crop.
    """
    across = torch.arange(width) - (width - 1) / 2
    along = (torch.arange(height) - (height - 1) / 2)[:, None]
    down, right = moves.down[part, None, None], moves.right[part, None, None]
    flip = torch.where(moves.is_upside_down[part, None, None], -1.0, 1.0)
    mirror = torch.where(moves.is_mirrored[part, None, None], -1.0, 1.0)
    angle = moves.angle[part, None, None].deg2rad()
    x = right + mirror * (angle.cos() * across) - mirror * (angle.sin() * along)
    y = down + flip * (angle.sin() * across) + flip * (angle.cos() * along)
    return torch.stack([x * (2 / width), y * (2 / height)], dim=1).movedim(1, -1)


def recoloured(images: Tensor, factors: Mapping[str, Tensor]) -> Tensor:
    """Images (images, channels, height, width) after the colour changes in `factors`, in order.

    Each name of `RECOLOURS` comes with one factor per image. Rounded to whole levels once, at the
    end.
    """
    result = torch.empty_like(images)
    for part in _parts(images):
        pixels = images[part].float()
        for name, factor in factors.items():
            own = factor[part, None, None, None].to(images.device)
            pixels = RECOLOURS[name](pixels, own)
        result[part] = pixels.round_()
    return result


def _parts(images: Tensor) -> Iterator[slice]:
    num_images, _, height, width = images.shape
    size = max(1, PIXELS_AT_ONCE // (height * width))
    return (slice(start, start + size) for start in range(0, num_images, size))


def _recolours_of(images: Tensor) -> list[str]:
    return [name for name in RECOLOURS if images.shape[1] == 3 or name not in ("saturation", "hue")]


def _brightened(pixels: Tensor, factor: Tensor) -> Tensor:
    return pixels.mul_(factor).clamp_(0, 255)


def _contrasted(pixels: Tensor, factor: Tensor) -> Tensor:
    """Distances from the image's mean grey, times `factor`."""
    means = pixels.mean(dim=(2, 3), keepdim=True)
    grey = _grey(means) if pixels.shape[1] == 3 else means
    return pixels.mul_(factor).add_((1 - factor) * grey).clamp_(0, 255)


def _saturated(pixels: Tensor, factor: Tensor) -> Tensor:
    """Distances from each pixel's own grey, times `factor`."""
    grey = _grey(pixels).mul_(1 - factor)
    return pixels.mul_(factor).add_(grey).clamp_(0, 255)


def _grey(pixels: Tensor) -> Tensor:
    red, green, blue = LUMA
    return red * pixels[:, 0:1] + green * pixels[:, 1:2] + blue * pixels[:, 2:3]


def _turned_hue(pixels: Tensor, factor: Tensor) -> Tensor:
    """Colours moved on by `factor` turns of the colour circle; brightest and darkest stay.

    A channel is darkest where its hue is opposite (`away` below 1, in sixths of the circle) and
    brightest two sixths from there: https://en.wikipedia.org/wiki/HSL_and_HSV, "HSV to RGB
    alternative".
    """
    red, green, blue = pixels[:, 0:1], pixels[:, 1:2], pixels[:, 2:3]
    highest = torch.maximum(torch.maximum(red, green), blue)
    span = highest - torch.minimum(torch.minimum(red, green), blue)
    scale = span.clamp(min=1e-6).reciprocal_()  # greys have no hue: anything finite times 0
    sixths = torch.where(highest == green, (blue - red) * scale + 2, (red - green) * scale + 4)
    sixths = torch.where(highest == red, (green - blue) * scale, sixths).add_(6 * factor)
    away = sixths + sixths.new_tensor([3.0, 1.0, -1.0])[:, None, None]
    away.sub_((away / 6).round_().mul_(6)).abs_()
    return highest - (2 - away).clamp_(0, 1).mul_(span)


RECOLOURS: Final = MappingProxyType[str, Recolour](
    {
        "brightness": _brightened,
        "contrast": _contrasted,
        "saturation": _saturated,
        "hue": _turned_hue,
    }
)
