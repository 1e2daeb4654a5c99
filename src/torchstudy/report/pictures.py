"""From arrays to pictures in the page: rows of images as PNG, in the address of an `img`."""

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

MOST_ITEMS = 16
COLUMNS = 8  # in a line; more are put into a second one
MOST_SIDE = 64  # pixels of an image; larger ones are made smaller, the page has to carry them
SHOWN_SIDE = (72, 48)  # pixels that a small image takes on the screen, in one line and in two
GAP = 1  # pixel of the picture between two images


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A picture of several images side by side, and the size to show it at."""

    address: str
    width: int
    height: int
    items: int


def row(images: npt.NDArray[np.uint8]) -> Row:
    """Images (items, channels, height, width) side by side with clear gaps; the first 16 of them.

    One channel is grey, three are colours; of more (several views) the first three are shown, and
    two become their mean.
    """
    shown = np.stack([_reduced(colors(image)) for image in images[:MOST_ITEMS]])
    items, height, width, channels = shown.shape
    lines, columns = math.ceil(items / COLUMNS), min(items, COLUMNS)
    size = lines * (height + GAP) - GAP, columns * (width + GAP) - GAP
    canvas = np.zeros((*size, channels + 1), dtype=np.uint8)
    for place, image in enumerate(shown):
        top, left = place // COLUMNS * (height + GAP), place % COLUMNS * (width + GAP)
        area = canvas[top : top + height, left : left + width]
        area[..., :channels], area[..., channels] = image, 255
    times = max(1, SHOWN_SIDE[lines - 1] // max(height, width))
    return Row(
        address=f"data:image/png;base64,{base64.b64encode(_png(canvas)).decode('ascii')}",
        width=times * size[1],
        height=times * size[0],
        items=items,
    )


def colors(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(channels, height, width) as (height, width, 1 or 3)."""
    channels = len(image)
    if channels == 2:
        image = image.mean(axis=0, keepdims=True).round().astype(np.uint8)
    return np.moveaxis(image[: 3 if channels > 2 else 1], 0, -1)


def _reduced(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    factor = math.ceil(max(image.shape[:2]) / MOST_SIDE)
    if factor == 1:
        return image
    small = np.asarray(Image.fromarray(image.squeeze()).reduce(factor))
    return small.reshape(*small.shape[:2], image.shape[2])


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", optimize=True)
    return file.getvalue()
