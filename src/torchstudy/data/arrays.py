"""Images that arrive as arrays: from scikit-learn, from idx files, from a function."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from torchstudy.data.listing import Listing, Part, Read, Rows


def digits_listing() -> Listing:
    """The 1,797 handwritten digits of scikit-learn, 8x8, values 0..16 spread over 0..255."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    classes = tuple(str(name) for name in bunch.target_names)
    return array_listing("digits", pixels, bunch.target.astype(np.int64), classes)


def array_listing(
    title: str,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    *,
    values: NDArray[np.float64] | None = None,
) -> Listing:
    """A listing of images in memory, named `title/0`, `title/1`, ...

    With `values`, the quantities to predict, `labels` are bins.
    """
    pixels = np.ascontiguousarray(pixels)
    channels = pixels.shape[3] if pixels.ndim == 4 else 1
    plain = pixels[..., 0] if channels == 1 and pixels.ndim == 4 else pixels
    digest = hashlib.sha256(repr((title, pixels.shape, classes)).encode())
    digest.update(pixels.data)
    digest.update(labels.tobytes() + (b"" if values is None else values.tobytes()))
    return Listing(
        title=title,
        classes=classes,
        names=numbered(title, len(labels)),
        labels=labels,
        parts=np.full(len(labels), Part.POOL, dtype=np.int8),
        shape=(channels, pixels.shape[1], pixels.shape[2]),
        stamp=digest.hexdigest(),
        reader=lambda: array_reader(plain),
        pixels=lambda: plain,
        is_grey=lambda: channels == 1,
        target="class" if values is None else "value",
        rows=None if values is None else Rows.without_columns(values, len(values)),
    )


def array_reader(pixels: NDArray[np.uint8]) -> Read:
    """A function from item to image over (N, H, W) or (N, H, W, 3) pixels."""
    return lambda item: Image.fromarray(pixels[item])


def numbered(title: str, count: int) -> Sequence[str]:
    """The names of items that have none of their own."""
    return [f"{title}/{number}" for number in range(count)]
