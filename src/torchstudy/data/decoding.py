"""From a listing to arrays on disk: every image decoded once, by all cores, into a memory map."""

import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from torchstudy.data.listing import BadImage, Listing, Read
from torchstudy.data.pictures import THUMB_BYTES, fitted, plain, summaries, summary

CHUNK = 64  # images per task of the thread pool
BLOCK = 4_000_000  # bytes of an array that are looked at in one go
TINY = 64 * 64  # pixels; 70,000 arrays of 28 x 28 took 6.4 s in one thread and 9.7 s in two

Progress: TypeAlias = Callable[[str, int, int], None]
Pixels: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What decoding leaves beside the pixels, one row per image of the listing.

    `moments` holds, per channel, the sum of the pixels and the sum of their squares.
    """

    hashes: NDArray[np.uint64]
    thumbs: NDArray[np.uint8]
    moments: NDArray[np.uint64]
    bad: dict[int, BadImage]


def decode(
    listing: Listing,
    shape: tuple[int, int, int],
    path: Path | None,
    progress: Progress | None = None,
) -> Decoded:
    """Write all images as uint8 (N, C, H, W) to a .npy file at `path`; bad ones are left zero.

    Without a path, no pixels are kept. `progress("decode", done, total)` is called from this thread
    as images are finished.
    """
    total = listing.num_images
    pixels = None if path is None else new_array(path, (total, *shape))
    decoded = Decoded(
        hashes=np.zeros(total, dtype=np.uint64),
        thumbs=np.zeros((total, THUMB_BYTES), dtype=np.uint8),
        moments=np.zeros((total, shape[0], 2), dtype=np.uint64),
        bad={},
    )
    if listing.pixels is not None and _is_kept_as_it_is(listing.shape, shape):
        counts = _decode_array(listing.pixels(), shape, pixels, decoded)
    else:
        counts = _decode_each(listing, shape, pixels, decoded)
    done = 0
    for count in counts:
        done += count
        if progress is not None:
            progress("decode", done, total)
    return decoded


def new_array(path: Path, shape: tuple[int, ...]) -> Pixels:
    """A writable uint8 memory map at `path` whose disk space is taken now (OSError if full)."""
    pixels: Pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):  # a full disk under a memory map kills the process
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return pixels


def _is_kept_as_it_is(stored: tuple[int, int, int] | None, shape: tuple[int, int, int]) -> bool:
    """Whether images of this shape are stored without scaling, and are no higher than wide."""
    return stored is not None and stored[1:] == shape[1:] and shape[1] <= shape[2]


def _decode_array(
    array: Pixels, shape: tuple[int, int, int], pixels: Pixels | None, decoded: Decoded
) -> Iterator[int]:
    """Take over the images of an array, many at a time: the same bits as one by one."""
    channels, height, width = shape
    block = max(1, BLOCK // (height * width))
    for start in range(0, len(array), block):
        images = array[start : start + block]
        items = slice(start, start + len(images))
        tall = Image.fromarray(images.reshape(len(images) * height, width, *images.shape[3:]))
        decoded.hashes[items], decoded.thumbs[items] = summaries(tall, len(images))
        converted = np.asarray(tall.convert("L" if channels == 1 else "RGB"))
        values = np.moveaxis(converted.reshape(len(images), height, width, channels), 3, 1)
        decoded.moments[items] = _moments(values)
        if pixels is not None:
            pixels[items] = values
        yield len(images)


def _decode_each(
    listing: Listing, shape: tuple[int, int, int], pixels: Pixels | None, decoded: Decoded
) -> Iterator[int]:
    """Decode image by image in threads; counts come as chunks are finished."""
    read = listing.reader()
    names = listing.image_names or listing.names
    total = listing.num_images

    def work(items: range) -> int:
        for item in items:
            values = _decode_one(item, read, names[item], shape, decoded)
            if pixels is not None and values is not None:
                pixels[item] = values
        return len(items)

    chunks = (range(start, min(start + CHUNK, total)) for start in range(0, total, CHUNK))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on odd files; too many pixels is an error here
        yield from _in_threads(work, chunks, _workers(listing))


def _decode_one(
    item: int, read: Read, name: str, shape: tuple[int, int, int], decoded: Decoded
) -> Pixels | None:
    """The pixels of one image, whose summary is noted; None, and a note, if it is bad."""
    try:
        image = plain(read(item))
        values = fitted(image, *shape)
        seen = summary(image)
    except Exception as error:  # Pillow raises anything on damaged files, and the rest go on
        decoded.bad[item] = BadImage(name=name, reason=reason_of(error))
        return None
    decoded.hashes[item] = seen.item_hash
    decoded.thumbs[item] = seen.thumb
    decoded.moments[item] = _moments(values[None])[0]
    return values


def _moments(values: Pixels) -> NDArray[np.uint64]:
    """(images, channels, 2) sums of the pixels and their squares of (images, channels, H, W)."""
    flat = values.reshape(*values.shape[:2], -1)
    squares = np.square(flat, dtype=np.uint16)
    return np.stack(
        [flat.sum(axis=2, dtype=np.uint64), squares.sum(axis=2, dtype=np.uint64)], axis=2
    )


def reason_of(error: Exception) -> str:
    """Why an image cannot be used, in one line."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image in a known format"
    return str(error).split("\n")[0] or type(error).__name__


def _workers(listing: Listing) -> int:
    if listing.shape is not None and listing.shape[1] * listing.shape[2] <= TINY:
        return 1
    return os.cpu_count() or 1


def _in_threads(
    work: Callable[[range], int], chunks: Iterator[range], workers: int
) -> Iterator[int]:
    """The results of `work` as they come; few tasks wait at a time, and an error ends all."""
    waiting: set[Future[int]] = set()
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            for chunk in chunks:
                waiting.add(pool.submit(work, chunk))
                if len(waiting) >= 2 * workers:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            yield from (future.result() for future in waiting)
        finally:
            for future in waiting:
                future.cancel()
