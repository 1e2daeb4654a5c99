"""Image files decoded in batches, a batch ahead of its use, as training decodes them."""

import os
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from torchstudy.data.decoding import Pixels, reason_of
from torchstudy.data.listing import BadImage
from torchstudy.data.pictures import fitted, open_picture, plain
from torchstudy.visible import storable


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """One image as a network takes it, (channels, height, width), and whether its file is grey."""

    pixels: Pixels
    is_grey: bool


def pictures_ahead(
    paths: Sequence[str], shape: tuple[int, int, int], batch_size: int
) -> Iterator[list[Picture | BadImage]]:
    """The images at the paths, a batch at a time, in order; what cannot be read says why."""

    def read(path: str) -> Picture | BadImage:
        return read_picture(path, shape)

    waiting: deque[list[Future[Picture | BadImage]]] = deque()
    workers = os.cpu_count() or 1
    with warnings.catch_warnings(), ThreadPoolExecutor(workers, "decode") as pool:
        warnings.simplefilter("ignore")  # Pillow's, on odd files; too many pixels is an error here
        try:
            for start in range(0, len(paths), batch_size):
                waiting.append([pool.submit(read, path) for path in paths[start:][:batch_size]])
                if len(waiting) > 1:
                    yield [future.result() for future in waiting.popleft()]
            while waiting:
                yield [future.result() for future in waiting.popleft()]
        finally:
            pool.shutdown(cancel_futures=True)


def read_picture(path: str, shape: tuple[int, int, int]) -> Picture | BadImage:
    """The image in a file as a data set with images of this shape would have it."""
    try:
        if not os.path.isfile(path):  # a pipe would be waited for
            there = os.path.exists(path)
            return _bad(path, "not a regular file" if there else "a link to nothing")
        image = plain(open_picture(path))
        return Picture(pixels=fitted(image, *shape), is_grey=image.mode == "L")
    except Exception as error:  # Pillow raises anything on damaged files, and the rest go on
        return _bad(path, reason_of(error))


def _bad(path: str, reason: str) -> BadImage:
    return BadImage(name=storable(path), reason=reason)
