"""What every source offers before a pixel is decoded: items, classes, and splits it fixes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Read: TypeAlias = Callable[[int], Image.Image]


class Part(IntEnum):
    """Which split a source fixes for an item; the pool is what remains to be cut."""

    POOL = 0
    VALID = 1
    TEST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BadImage:
    """An item that cannot be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """The columns of a table, a row per item.

    `numbers` (items, columns) is NaN where an entry is missing, `words` (items, columns) empty;
    `values` (items,) is the quantity to predict, None where classes are.
    """

    number_names: tuple[str, ...] = ()
    category_names: tuple[str, ...] = ()
    numbers: NDArray[np.float64]
    words: NDArray[np.str_]
    values: NDArray[np.float64] | None

    @classmethod
    def without_columns(cls, values: NDArray[np.float64] | None, count: int) -> "Rows":
        """Items that have nothing but a target."""
        return cls(
            numbers=np.zeros((count, 0)), words=np.zeros((count, 0), dtype=np.str_), values=values
        )

    def take(self, kept: NDArray[np.int64]) -> "Rows":
        """The columns of some of the items."""
        values = None if self.values is None else self.values[kept]
        return replace(self, numbers=self.numbers[kept], words=self.words[kept], values=values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The items of a source, in an order that does not depend on the file system.

    `shape` is (channels, height, width) as stored, None when it varies from image to image, and
    (0, 0, 0) without images. `stamp` changes whenever a file, a pixel or an entry does. `reader()`
    does the work that is done once and returns a function from image number to image that any
    thread may call; where all images lie in one array, `pixels()` returns it as (images, height,
    width) or (images, height, width, 3). An item has `views` images in a row. `labels` are
    classes, or for a quantity the bins over which splits are balanced.
    """

    title: str
    classes: tuple[str, ...]
    names: Sequence[str]
    labels: NDArray[np.int64]
    parts: NDArray[np.int8]
    shape: tuple[int, int, int] | None
    stamp: str
    reader: Callable[[], Read]
    is_grey: Callable[[], bool]
    pixels: Callable[[], NDArray[np.uint8]] | None = None
    bad: tuple[BadImage, ...] = ()
    target: str = "class"
    log_target: bool = False
    views: int = 1
    image_columns: tuple[str, ...] = ()  # of a table, one per view
    rows: Rows | None = None  # None: there is nothing but images and classes
    image_names: Sequence[str] = ()  # one per image; the items' own names if left out
    paths: Sequence[str] = ()  # one per image, where each is a file of its own
    noun: str = "images"  # what items are called in sentences
    notes: tuple[str, ...] = ()

    @property
    def has_images(self) -> bool:
        """Whether items have images."""
        return self.shape is None or self.shape[0] > 0

    @property
    def num_images(self) -> int:
        """How many images there are to decode."""
        return len(self) * self.views if self.has_images else 0

    @property
    def is_regression(self) -> bool:
        """Whether a quantity is predicted."""
        return self.rows is not None and self.rows.values is not None

    @property
    def strata(self) -> tuple[str, ...]:
        """What splits are balanced over: the classes, or the bins of a quantity."""
        if not self.is_regression:
            return self.classes
        return tuple(f"bin {number + 1}" for number in range(int(self.labels.max(initial=0)) + 1))

    def __len__(self) -> int:
        return len(self.labels)


def bad_images(bad: tuple[BadImage, ...], limit: int = 5) -> str:
    """One sentence naming the first `limit` images that cannot be used."""
    shown = "; ".join(f"{image.name!r}: {image.reason}" for image in bad[:limit])
    more = f"; and {len(bad) - limit} more" if len(bad) > limit else ""
    noun = "image" if len(bad) == 1 else "images"
    return (
        f"data: {len(bad)} {noun} cannot be read ({shown}{more}); repair or remove them, or pass "
        "on_bad_image='skip'"
    )
