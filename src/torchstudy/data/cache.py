"""Decoded images kept on disk, keyed by what they were decoded from, checked before use."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchstudy.data.cachefolder import building, cache_errors, discard
from torchstudy.data.decoding import Pixels, Progress, decode, new_array
from torchstudy.data.duplicates import duplicate_groups
from torchstudy.data.listing import BadImage, Listing
from torchstudy.errors import DataError
from torchstudy.files import cache_folder

FORMAT = 1  # raised whenever decoding, hashing, grouping or the files below change
SKETCH_SIZE = 1024
COPY_ROWS = 1024
META = "meta.json"
ARRAYS = ("labels", "parts", "hashes", "groups", "moments")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A complete folder of the cache, and what its meta.json says."""

    folder: Path
    bad: tuple[BadImage, ...]
    alike: int  # images that resemble too many others to tell near copies
    fingerprint: str
    sketch: tuple[int, ...]

    def array(self, name: str) -> NDArray[Any]:
        """One of `ARRAYS`, in memory."""
        array: NDArray[Any] = np.load(self.folder / f"{name}.npy", allow_pickle=False)
        return array


def entry_for(
    listing: Listing,
    shape: tuple[int, int, int],
    *,
    keep_bad: bool,
    progress: Progress | None = None,
) -> Entry:
    """The cached entry for these images at this shape, decoded now if there is no sound one.

    An entry that left images out is used only with `keep_bad`; otherwise they are tried again.
    """
    key = hashlib.sha256(repr((FORMAT, listing.stamp, shape)).encode()).hexdigest()[:32]
    folder = cache_folder() / "data" / key
    with cache_errors():
        entry = read_entry(folder)
        if entry is not None and (keep_bad or not entry.bad):
            return entry
        discard_if_there(folder)
        with building(folder) as aside:
            _build(aside, listing, shape, progress)
        entry = read_entry(folder)
    if entry is None:
        raise DataError(f"data: the cache at {folder} was damaged while it was written; run again")
    return entry


def read_entry(folder: Path) -> Entry | None:
    """The entry in `folder`, or None when there is none or a file is not as it was written."""
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        sound = all((folder / name).stat().st_size == size for name, size in meta["files"].items())
        bad = tuple(BadImage(**item) for item in meta["bad"])
        entry = Entry(
            folder=folder,
            bad=bad,
            alike=int(meta["alike"]),
            fingerprint=str(meta["fingerprint"]),
            sketch=tuple(int(item) for item in meta["sketch"]),
        )
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return entry if sound else None


def read_names(folder: Path) -> list[str]:
    """The name of every image of an entry."""
    names: list[str] = json.loads((folder / "names.json").read_text(encoding="utf-8"))
    return names


def discard_if_there(folder: Path) -> None:
    """Remove a damaged entry, if any."""
    if folder.exists():
        discard(folder)


def fingerprint(
    hashes: NDArray[np.uint64], labels: NDArray[np.int64], classes: Sequence[str]
) -> str:
    """A digest over the images with their labels in sorted order, and the names of the classes."""
    pairs = np.stack([hashes, labels.astype(np.uint64)], axis=1)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    digest = hashlib.sha256(json.dumps(list(classes)).encode())
    digest.update(pairs.astype("<u8").tobytes())
    return digest.hexdigest()


def _build(
    folder: Path, listing: Listing, shape: tuple[int, int, int], progress: Progress | None
) -> None:
    decoded = decode(listing, shape, folder / "images.npy", progress)
    kept = np.array([item for item in range(len(listing)) if item not in decoded.bad], dtype=int)
    if decoded.bad:
        _keep_rows(folder / "images.npy", kept)
    if progress is not None:
        progress("compare", 0, len(kept))
    hashes = decoded.hashes[kept]
    groups, alike = duplicate_groups(hashes, decoded.thumbs[kept])
    if progress is not None:
        progress("compare", len(kept), len(kept))
    labels = listing.labels[kept]
    arrays = (labels, listing.parts[kept], hashes, groups, decoded.moments[kept])
    for name, array in zip(ARRAYS, arrays, strict=True):
        np.save(folder / f"{name}.npy", array)
    names = [listing.names[item] for item in kept]
    (folder / "names.json").write_text(json.dumps(names), encoding="utf-8")
    stated = {
        "source": listing.title,
        "classes": listing.classes,
        "fingerprint": fingerprint(hashes, labels, listing.classes),
        "sketch": np.unique(hashes)[:SKETCH_SIZE].tolist(),
        "alike": alike,
        "bad": [asdict(decoded.bad[item]) for item in sorted(decoded.bad)],
    }
    _write_meta(folder, stated)


def _write_meta(folder: Path, stated: dict[str, object]) -> None:
    """Write meta.json, last of all, with the size of every file."""
    for entry in os.scandir(folder):
        with open(entry.path, "rb+") as file:
            os.fsync(file.fileno())
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
    (folder / META).write_text(json.dumps({**stated, "files": sizes}), encoding="utf-8")


def _keep_rows(path: Path, kept: NDArray[np.int64]) -> None:
    """Rewrite the images at `path` with only the rows in `kept`."""
    old: Pixels = np.load(path, mmap_mode="r")
    aside = path.with_suffix(".kept")
    new = new_array(aside, (len(kept), *old.shape[1:]))
    for start in range(0, len(kept), COPY_ROWS):
        new[start : start + COPY_ROWS] = old[kept[start : start + COPY_ROWS]]
    os.replace(aside, path)
