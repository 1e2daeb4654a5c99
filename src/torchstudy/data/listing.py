"""What every source offers before a pixel is decoded: items, classes, and splits it fixes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The items of a source, in an order that does not depend on the file system.

    `shape` is (channels, height, width) as stored, or None when it varies from image to image.
    `stamp` changes whenever a file or a pixel does. `reader()` does the work that is done once and
    returns a function from item to image that any thread may call.
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
    bad: tuple[BadImage, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


def printable(name: str) -> str:
    """`name` as valid Unicode: bytes of a file name that are not UTF-8 become `\\xff` escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
