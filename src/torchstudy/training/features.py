"""Frozen encoders: their outputs, computed once per image and kept for every later trial."""

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from torchstudy.families.phases import FrozenEncoder
from torchstudy.files import cache_folder, written_aside
from torchstudy.training.batches import Split

ENCODING_BATCH = 64  # items; larger ones gain nothing on one thread and cost memory


def cached_features(
    encoder: FrozenEncoder,
    pixels: NDArray[np.uint8],
    items: NDArray[np.int64],
    *,
    data_key: str,
    on_note: Callable[[str], None] = lambda text: None,
    check_stop: Callable[[], None] = lambda: None,
) -> NDArray[np.float32]:
    """Features (len(items), features) of the images `pixels[items]`, from the cache if they are.

    The file is named after the encoder with its weights and preprocessing, the data (`data_key`
    stands for `pixels`) and the items. Whoever comes first computes; others wait for its lock.
    `check_stop` is called between batches and may raise.
    """
    path = _path(encoder, items, data_key)
    if (found := _opened(path, len(items))) is not None:
        return found
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.with_suffix(".lock")):
        if (found := _opened(path, len(items))) is not None:
            return found
        on_note(f"computing the features of {len(items)} images, once for all trials")
        features = _encoded(encoder, pixels, items, check_stop)
        with written_aside(path) as aside, aside.open("wb") as file:
            np.save(file, features)
    found = _opened(path, len(items))
    assert found is not None
    return found


def are_cached(encoder: FrozenEncoder, items: NDArray[np.int64], *, data_key: str) -> bool:
    """Whether `cached_features` would find these features without computing them."""
    return _opened(_path(encoder, items, data_key), len(items)) is not None


def _path(encoder: FrozenEncoder, items: NDArray[np.int64], data_key: str) -> Path:
    return cache_folder() / "features" / f"{_key(encoder, items, data_key)}.npy"


def _key(encoder: FrozenEncoder, items: NDArray[np.int64], data_key: str) -> str:
    rows = hashlib.sha256(items.tobytes()).hexdigest()
    steps = [encoder.preprocessing.mean, encoder.preprocessing.std]
    text = json.dumps([encoder.key, steps, data_key, rows])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _opened(path: Path, num_items: int) -> NDArray[np.float32] | None:
    """The features at `path`, mapped into memory; None if absent, cut off or of another length."""
    try:
        features: NDArray[np.float32] = np.load(path, mmap_mode="c")
    except (OSError, ValueError):
        return None
    return features if len(features) == num_items else None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _encoded(
    encoder: FrozenEncoder,
    pixels: NDArray[np.uint8],
    items: NDArray[np.int64],
    check_stop: Callable[[], None],
) -> NDArray[np.float32]:
    network = encoder.build().eval().to(memory_format=torch.channels_last)
    targets = np.zeros(len(items), dtype=np.int64)
    images = Split.of(pixels, items, targets, encoder.preprocessing)
    outputs = []
    with torch.inference_mode():
        for batch in images.in_order(ENCODING_BATCH):
            check_stop()
            outputs.append(features_of(network, batch.inputs).float().numpy())
    return np.concatenate(outputs)


def features_of(network: nn.Module, images: Tensor) -> Tensor:
    """Features (items, features) of images; those of several views of an item side by side."""
    if images.ndim == 5:
        features: Tensor = network(images.flatten(0, 1))
        return features.reshape(len(images), -1)
    features = network(images)
    return features
