"""Images that fit into no memory: read from their files again, batch by batch, ahead of use."""

import math
import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from torchstudy.data.decoding import Pixels
from torchstudy.data.pictures import fitted, open_picture, plain
from torchstudy.errors import DataError

AHEAD = 3  # batches that are being read or wait to be used
ITEMS_PER_TASK = 16
FILES, STATES = "files.bin", "states.npy"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Files:
    """Where images lie, one path per image, and by what a changed file is known.

    `states` (images, 2) are the bytes of each file and the nanoseconds of its last change.
    """

    paths: tuple[str, ...]
    states: NDArray[np.int64]

    @classmethod
    def of(cls, paths: Iterable[str]) -> "Files":
        """The files at these paths as they are now; one that is gone has a state like no other."""
        absolute = tuple(map(os.path.abspath, paths))
        states = [_state(path) if os.path.exists(path) else (-1, -1) for path in absolute]
        return cls(paths=absolute, states=np.array(states, dtype=np.int64).reshape(-1, 2))

    @classmethod
    def read(cls, folder: Path) -> "Files":
        """What `write` left in an entry of the cache."""
        paths = (folder / FILES).read_bytes().split(b"\0")
        return cls(paths=tuple(map(os.fsdecode, paths)), states=np.load(folder / STATES))

    def write(self, folder: Path) -> None:
        """Keep them in an entry of the cache."""
        (folder / FILES).write_bytes(b"\0".join(map(os.fsencode, self.paths)))
        np.save(folder / STATES, self.states)

    def take(self, images: NDArray[np.int64]) -> "Files":
        """The files of some of the images."""
        paths = tuple(self.paths[image] for image in images.tolist())
        return Files(paths=paths, states=self.states[images])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreamedPixels:
    """Indexed like the array that would not fit: numbers of items give their uint8 pixels.

    `shape` is (N, [V,] C, H, W). Each file has to be as it was when the data were prepared.
    DataError names the file that is gone, changed or unreadable.
    """

    shape: tuple[int, ...]
    files: Files  # the views of an item in a row

    @classmethod
    def of(cls, folder: Path, item_shape: tuple[int, ...]) -> "StreamedPixels":
        """The pixels of an entry of the cache without an array; an item has `item_shape`."""
        files = Files.read(folder)
        views = math.prod(item_shape[:-3])
        return cls(shape=(len(files.paths) // views, *item_shape), files=files)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, items: NDArray[np.int64]) -> Pixels:
        """The pixels (len(items), [V,] C, H, W) of some items."""
        pixels = np.empty((len(items), *self.shape[1:]), dtype=np.uint8)
        self._read(items, pixels)
        return pixels

    def ahead(self, batches: Iterable[NDArray[np.int64]], threads: int) -> Generator[Pixels]:
        """The pixels of one batch of items after the other, read by threads before they are due.

        At most AHEAD batches are in memory. The threads end with the iterator: closed, used up or
        after an error.
        """
        waiting: deque[tuple[Pixels, list[Future[None]]]] = deque()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="read")
        try:
            for items in batches:
                waiting.append(self._begun(pool, items))
                if len(waiting) == AHEAD:
                    yield _finished(*waiting.popleft())
            while waiting:
                yield _finished(*waiting.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _begun(
        self, pool: ThreadPoolExecutor, items: NDArray[np.int64]
    ) -> tuple[Pixels, list[Future[None]]]:
        pixels = np.empty((len(items), *self.shape[1:]), dtype=np.uint8)
        starts = range(0, len(items), ITEMS_PER_TASK)
        parts = [slice(start, start + ITEMS_PER_TASK) for start in starts]
        return pixels, [pool.submit(self._read, items[part], pixels[part]) for part in parts]

    def _read(self, items: NDArray[np.int64], pixels: Pixels) -> None:
        """Decode some items into `pixels`, exactly as the data were prepared."""
        views = math.prod(self.shape[1:-3])
        images = pixels.reshape(-1, *self.shape[-3:])
        numbers = (items[:, None] * views + np.arange(views)).ravel()
        for place, number in enumerate(numbers.tolist()):
            images[place] = self._image(number)

    def _image(self, number: int) -> Pixels:
        path = self.files.paths[number]
        try:
            is_same = _state(path) == tuple(self.files.states[number].tolist())
            if is_same:
                return fitted(plain(open_picture(path)), *self.shape[-3:])
        except FileNotFoundError:
            raise DataError(
                f"data: {path} is gone since the data were prepared; put it back, or run again "
                "without it"
            ) from None
        except Exception as error:  # Pillow raises anything, as on damaged files
            raise DataError(f"data: {path} cannot be read any more ({error})") from error
        raise DataError(
            f"data: {path} has changed since the data were prepared; run again, so that they are "
            "prepared anew"
        )


def _finished(pixels: Pixels, tasks: list[Future[None]]) -> Pixels:
    for task in tasks:
        task.result()
    return pixels


def _state(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns
