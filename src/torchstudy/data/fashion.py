"""Fashion-MNIST from its four idx files: where they lie, what they say, and how they are read."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from torchstudy.data.arrays import array_reader, numbered
from torchstudy.data.listing import Listing, Part
from torchstudy.data.stamps import stamp_of
from torchstudy.errors import DataError
from torchstudy.files import cache_folder, data_folders

NAME = "fashion-mnist"
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FOLDERS = ("fashion-mnist", "FashionMNIST/raw")
IMAGES = ("train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz")
LABELS = ("train-labels-idx1-ubyte.gz", "t10k-labels-idx1-ubyte.gz")


def fashion_listing() -> Listing:
    """The 60,000 images as the pool, then the 10,000 of t10k as the fixed test split."""
    folder = _folder()
    train, test = (read_idx(folder / name, dimensions=1) for name in LABELS)
    labels = np.concatenate([train, test]).astype(np.int64)
    if labels.max(initial=0) >= len(CLASSES):
        raise DataError(f"data: {folder} has labels above {len(CLASSES) - 1}")
    shapes = [read_idx_shape(folder / name, dimensions=3) for name in IMAGES]
    if [shape[0] for shape in shapes] != [len(train), len(test)] or shapes[0][1:] != shapes[1][1:]:
        raise DataError(f"data: the images and labels of {folder} do not belong together {shapes}")
    parts = np.repeat(np.array([Part.POOL, Part.TEST], dtype=np.int8), [len(train), len(test)])
    return Listing(
        title=NAME,
        classes=CLASSES,
        names=numbered(NAME, len(labels)),
        labels=labels,
        parts=parts,
        shape=(1, shapes[0][1], shapes[0][2]),
        stamp=stamp_of([(name, folder / name) for name in (*IMAGES, *LABELS)], NAME),
        reader=lambda: array_reader(_pixels(folder)),
        pixels=lambda: _pixels(folder),
        is_grey=lambda: True,
    )


def read_idx(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """The bytes of a gzipped idx file as an array; DataError when it is damaged."""
    shape = read_idx_shape(path, dimensions=dimensions)
    count = int(np.prod(shape))
    try:
        with gzip.open(path) as file:
            file.read(_header_size(dimensions))
            data = file.read(count + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"data: {path} is damaged ({error})") from error
    if len(data) != count:
        raise DataError(f"data: {path} is damaged: {shape} needs {count} bytes, not {len(data)}")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def read_idx_shape(path: Path, *, dimensions: int) -> tuple[int, ...]:
    """The shape in the header of a gzipped idx file of bytes."""
    try:
        with gzip.open(path) as file:
            header = file.read(_header_size(dimensions))
        magic, *shape = struct.unpack(f">{dimensions + 1}I", header)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DataError(f"data: {path} is damaged ({error})") from error
    if magic != 0x0800 + dimensions:
        raise DataError(f"data: {path} is no idx file of bytes in {dimensions} dimensions")
    return tuple(shape)


def _header_size(dimensions: int) -> int:
    return 4 * (dimensions + 1)


def _pixels(folder: Path) -> NDArray[np.uint8]:
    return np.concatenate([read_idx(folder / name, dimensions=3) for name in IMAGES])


def _folder() -> Path:
    places = [folder / inner for folder in data_folders() for inner in FOLDERS]
    for place in places:
        if all((place / name).is_file() for name in (*IMAGES, *LABELS)):
            return place
    return _downloaded(places)


def _downloaded(places: list[Path]) -> Path:
    from torchvision.datasets import FashionMNIST

    downloads = cache_folder() / "downloads"
    try:
        FashionMNIST(str(downloads), download=True)
    except Exception as error:  # torchvision raises URLError, OSError, RuntimeError and others
        reason = " ".join(str(error).split())
        searched = ", ".join(str(place) for place in places)
        raise DataError(
            f"data: {NAME} is in none of {searched}, and the download failed ({reason}); put its "
            "four .gz files in one of these folders or name their parent in TORCHSTUDY_DATA"
        ) from error
    return downloads / "FashionMNIST" / "raw"
