"""Data that a user's function returns: images with labels, or a table."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchstudy.data.arrays import array_listing
from torchstudy.data.images import Images, source_title
from torchstudy.data.listing import Listing
from torchstudy.data.tables import frame_listing, quantile_bins
from torchstudy.errors import DataError
from torchstudy.visible import storable


def function_listing(function: Callable[[], Any], images: Images) -> Listing:
    """What `function` returns: images and labels, or with a target a table.

    DataError lists all that is wrong.
    """
    import pandas as pd

    title = source_title(function)
    try:
        made = function()
    except Exception as error:  # a user's code may raise anything; the cause stays attached
        raise DataError(f"data: {title}() failed with {type(error).__name__}: {error}") from error
    if isinstance(made, pd.DataFrame):
        if images.target is None:
            raise DataError(f"data: {title}() returns a table; name the target= column to predict")
        return frame_listing(made, f"{title}()", images)
    if images.target is not None:
        raise DataError(f"data: with target=, {title}() returns a DataFrame, not {_kind(made)}")
    return _image_listing(title, made)


def _image_listing(title: str, made: object) -> Listing:
    if not isinstance(made, tuple | list) or len(made) != 2:
        raise DataError(f"data: {title}() returns {_kind(made)}, not (images, labels)")
    try:
        pixels, labels = np.asarray(made[0]), np.asarray(made[1])
    except ValueError as error:  # rows of different lengths
        raise DataError(f"data: {title}() returns no arrays: {error}") from error
    problems = [*_pixel_problems(title, pixels), *_label_problems(title, pixels, labels)]
    if problems:
        raise DataError(problems)
    if labels.dtype.kind == "f":
        values = labels.astype(np.float64)
        return array_listing(title, pixels, quantile_bins(values), (), values=values)
    named, codes = np.unique(labels, return_inverse=True)
    classes = tuple(storable(str(value)) for value in named.tolist())
    return array_listing(title, pixels, codes.astype(np.int64), classes)


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
    elif labels.dtype.kind == "f":
        found += _value_problems(title, labels)
    elif labels.dtype.kind not in "iubUT":
        found.append(
            f"data: the labels of {title}() are whole numbers or strings for classes, or floating-"
            f"point numbers for quantities, not {labels.dtype}"
        )
    if pixels.ndim > 0 and len(labels) != len(pixels):
        found.append(f"data: {title}() returns {len(pixels)} images but {len(labels)} labels")
    return found


def _value_problems(title: str, values: NDArray[Any]) -> list[str]:
    where = f"data: the labels of {title}() are quantities"
    if not np.isfinite(values).all():
        at = int(np.flatnonzero(~np.isfinite(values))[0])
        return [f"{where}, but number {at} is {values[at]}"]
    if len(values) and (values == values[0]).all():
        return [f"{where} that are all {values[0]:g}"]
    return []


def _kind(made: object) -> str:
    kind = type(made).__name__
    return f"a {kind} of {len(made)}" if isinstance(made, tuple | list) else f"a {kind}"
