"""Images that arrive as arrays: from a user's function, from scikit-learn, from idx files."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from torchstudy.data.images import source_title
from torchstudy.data.listing import Listing, Part, Read
from torchstudy.errors import DataError


def digits_listing() -> Listing:
    """The 1,797 handwritten digits of scikit-learn, 8x8, values 0..16 spread over 0..255."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    classes = tuple(str(name) for name in bunch.target_names)
    return array_listing("digits", pixels, bunch.target.astype(np.int64), classes)


def function_listing(function: Callable[[], Any]) -> Listing:
    """The images and labels that `function` returns; DataError lists all that is wrong."""
    title = source_title(function)
    try:
        made = function()
        if not isinstance(made, tuple | list) or len(made) != 2:
            raise TypeError(f"it returns {_shape_of(made)}, not (images, labels)")
        pixels, labels = np.asarray(made[0]), np.asarray(made[1])
    except Exception as error:  # a user's code may raise anything; the cause stays attached
        raise DataError(f"data: {title}() failed with {type(error).__name__}: {error}") from error
    problems = [*_pixel_problems(title, pixels), *_label_problems(title, pixels, labels)]
    if problems:
        raise DataError(problems)
    values, codes = np.unique(labels, return_inverse=True)
    classes = tuple(str(value) for value in values.tolist())
    return array_listing(title, pixels, codes.astype(np.int64), classes)


def array_listing(
    title: str, pixels: NDArray[np.uint8], labels: NDArray[np.int64], classes: tuple[str, ...]
) -> Listing:
    """A listing of images in memory, named `title/0`, `title/1`, ..."""
    pixels = np.ascontiguousarray(pixels)
    channels = pixels.shape[3] if pixels.ndim == 4 else 1
    digest = hashlib.sha256(repr((title, pixels.shape, classes)).encode())
    digest.update(pixels.data)
    digest.update(labels.tobytes())
    return Listing(
        title=title,
        classes=classes,
        names=numbered(title, len(labels)),
        labels=labels,
        parts=np.full(len(labels), Part.POOL, dtype=np.int8),
        shape=(channels, pixels.shape[1], pixels.shape[2]),
        stamp=digest.hexdigest(),
        reader=lambda: array_reader(pixels),
        is_grey=lambda: channels == 1,
    )


def array_reader(pixels: NDArray[np.uint8]) -> Read:
    """A function from item to image over (N, H, W) or (N, H, W, C) pixels."""
    flat = pixels[..., 0] if pixels.ndim == 4 and pixels.shape[3] == 1 else pixels
    return lambda item: Image.fromarray(flat[item])


def numbered(title: str, count: int) -> Sequence[str]:
    """The names of items that have none of their own."""
    return [f"{title}/{number}" for number in range(count)]


def _pixel_problems(title: str, pixels: NDArray[Any]) -> list[str]:
    if pixels.ndim not in (3, 4):
        wanted = "(N, H, W) or (N, H, W, C)"
        return [f"data: the images of {title}() have shape {wanted}, not {pixels.shape}"]
    found = []
    if pixels.dtype != np.uint8:
        found.append(f"data: the images of {title}() are uint8 in 0..255, not {pixels.dtype}")
    if pixels.ndim == 4 and pixels.shape[3] not in (1, 3):
        hint = "; move the channels last" if pixels.shape[1] in (1, 3) else ""
        found.append(
            f"data: the images of {title}() have 1 or 3 channels, not {pixels.shape[3]}{hint}"
        )
    if len(pixels) == 0 or min(pixels.shape[1:3]) == 0:
        found.append(f"data: {title}() returns no pixels (shape {pixels.shape})")
    return found


def _label_problems(title: str, pixels: NDArray[Any], labels: NDArray[Any]) -> list[str]:
    if labels.ndim != 1:
        return [f"data: the labels of {title}() are one per image, not of shape {labels.shape}"]
    found = []
    if labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels.tolist()):
        pass
    elif labels.dtype.kind not in "iubUT":
        found.append(
            f"data: the labels of {title}() are whole numbers or strings, not {labels.dtype}"
        )
    if pixels.ndim > 0 and len(labels) != len(pixels):
        found.append(f"data: {title}() returns {len(pixels)} images but {len(labels)} labels")
    return found


def _shape_of(made: object) -> str:
    kind = type(made).__name__
    return f"a {kind} of {len(made)}" if isinstance(made, tuple | list) else f"a {kind}"
