"""Frozen encoders: their outputs, computed once per image and kept for every later trial."""

import fcntl
import hashlib
import json
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from torchstudy.caching import about_file, hold, title_of
from torchstudy.data.cachefolder import cache_errors
from torchstudy.eviction import make_room
from torchstudy.families.phases import FrozenEncoder
from torchstudy.files import cache_folder, digest_of, discard, write_json, written_aside
from torchstudy.training.batches import Split

if TYPE_CHECKING:
    from torchstudy.data.streaming import StreamedPixels

ENCODING_BATCH = 64  # items; larger ones gain nothing on one thread and cost memory
NOTE_EVERY = 5.0  # seconds between two notes on how far it is
LOOK_EVERY = 0.1  # seconds between two looks at whether another process is done


def cached_features(
    encoder: FrozenEncoder,
    pixels: "NDArray[np.uint8] | StreamedPixels",
    items: NDArray[np.int64],
    *,
    data_key: str,
    on_note: Callable[[str], None] = lambda text: None,
    check_stop: Callable[[], None] = lambda: None,
) -> NDArray[np.float32]:
    """Features (len(items), features) of the images `pixels[items]`, from the cache if they are.

    The file is named after the encoder with its weights and preprocessing, the data (`data_key`
    stands for `pixels`) and the items. Whoever comes first computes; others wait for its lock. A
    file that is cut off or of another shape is computed again. It stays in the cache at least as
    long as the array that is returned. `check_stop` is called between batches, and while waiting,
    and may raise. DataError where the cache cannot be written.

    They are computed in float32 and in batches of one size, whatever the training's own precision
    and batch are: a trial's features do not depend on who came first.
    """
    path = _path(encoder, items, data_key)
    holding = hold(path)
    if (found := _opened(path, len(items))) is None:
        with _locked(path.with_suffix(".lock"), check_stop):
            if (found := _opened(path, len(items))) is None:
                on_note(f"computing the features of {len(items):,} images, once for all trials")
                features = _encoded(encoder, pixels, items, on_note, check_stop)
                with cache_errors():
                    _write(path, features, encoder, data_key)
                found = _opened(path, len(items))
        make_room()
    assert found is not None
    if holding is not None:
        # Views of a mapped array refer to its map, which is what lives as long as any of them.
        weakref.finalize(found.base, holding.release)
    return found


def sift_features(data_key: str) -> int:
    """Remove features of the data that are not as they were written; how many files there were.

    That is found out here, once in a run, and not by every worker: they look at shapes only. What
    another process is computing, and what was kept before there were digests, is left as it is.
    """
    return sum(
        _is_removed(path)
        for path in (cache_folder() / "features").glob("*.npy")
        if _stated(path).get("data") == data_key
    )


def are_cached(encoder: FrozenEncoder, items: NDArray[np.int64], *, data_key: str) -> bool:
    """Whether `cached_features` would find these features without computing them."""
    return _opened(_path(encoder, items, data_key), len(items)) is not None


def _path(encoder: FrozenEncoder, items: NDArray[np.int64], data_key: str) -> Path:
    return cache_folder() / "features" / f"{_key(encoder, items, data_key)}.npy"


def _key(encoder: FrozenEncoder, items: NDArray[np.int64], data_key: str) -> str:
    rows = hashlib.sha256(items.tobytes()).hexdigest()
    steps = [encoder.preprocessing.mean, encoder.preprocessing.std]
    text = json.dumps([encoder.key, steps, data_key, rows, ENCODING_BATCH])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _opened(path: Path, num_items: int) -> NDArray[np.float32] | None:
    """The features at `path`, mapped into memory; None if absent, cut off or of another shape."""
    try:
        features: NDArray[np.float32] = np.load(path, mmap_mode="c")
    except (OSError, ValueError, EOFError):
        return None
    is_sound = features.ndim == 2 and features.dtype == np.float32 and len(features) == num_items
    return features if is_sound and features.shape[1] == _stated(path).get("features") else None


def _stated(path: Path) -> dict[str, Any]:
    """What was noted about a file of features; nothing if that is gone or damaged."""
    try:
        stated = json.loads(about_file(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stated if isinstance(stated, dict) else {}


def _is_removed(path: Path) -> bool:
    with suppress(OSError), path.with_suffix(".lock").open("w") as lock:
        digest = _stated(path).get("digest")
        if digest is not None and _is_ours(lock.fileno()) and digest_of(path) != digest:
            discard(path)
            return True
    return False


def _write(
    path: Path, features: NDArray[np.float32], encoder: FrozenEncoder, data_key: str
) -> None:
    """Keep features, and beside them what they are of."""
    stated = {
        "backbone": encoder.key,
        "source": title_of(data_key),
        "data": data_key,
        "items": len(features),
        "features": features.shape[1],
    }
    with written_aside(path) as aside:
        with aside.open("wb") as file:
            np.save(file, features)
        write_json(about_file(path), {**stated, "digest": digest_of(aside)})


@contextmanager
def _locked(path: Path, check_stop: Callable[[], None]) -> Iterator[None]:
    with cache_errors():
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    with file:
        while not _is_ours(file.fileno()):
            check_stop()
            time.sleep(LOOK_EVERY)
        yield


def _is_ours(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _encoded(
    encoder: FrozenEncoder,
    pixels: "NDArray[np.uint8] | StreamedPixels",
    items: NDArray[np.int64],
    on_note: Callable[[str], None],
    check_stop: Callable[[], None],
) -> NDArray[np.float32]:
    network = encoder.build().eval().to(memory_format=torch.channels_last)
    targets = np.zeros(len(items), dtype=np.int64)
    images = Split.of(pixels, items, targets, encoder.preprocessing)
    outputs: list[NDArray[np.float32]] = []
    done, noted = 0, time.monotonic()
    with torch.inference_mode():
        for batch in images.in_order(ENCODING_BATCH):
            check_stop()
            outputs.append(features_of(network, batch.inputs).float().numpy())
            done += len(batch)
            if time.monotonic() - noted >= NOTE_EVERY and done < len(items):
                on_note(f"features: {done:,} of {len(items):,} images")
                noted = time.monotonic()
    return np.concatenate(outputs)


def features_of(network: nn.Module, images: Tensor) -> Tensor:
    """Features (items, features) of images; those of several views of an item side by side."""
    if images.ndim == 5:
        features: Tensor = network(images.flatten(0, 1))
        return features.reshape(len(images), -1)
    features = network(images)
    return features
