"""Decoded images kept on disk, keyed by what they were decoded from, checked before use."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchstudy.caching import Hold, hold
from torchstudy.data.cachefolder import building, cache_errors
from torchstudy.data.copies import copies_among, images_of
from torchstudy.data.decoding import Decoded, Pixels, Progress, decode, new_array
from torchstudy.data.listing import BadImage, Listing, Rows
from torchstudy.data.memory import are_too_large
from torchstudy.data.streaming import Files
from torchstudy.errors import DataError
from torchstudy.files import cache_folder, digest_of, discard

FORMAT = 2  # raised whenever decoding, hashing, grouping or the files below change
SKETCH_SIZE = 1024
COPY_ROWS = 1024
META = "meta.json"
ARRAYS = ("labels", "parts", "hashes", "groups", "moments")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A complete folder of the cache, kept there while this lives, and what its meta.json says.

    `was_damaged`: it was there, not as it had been written, and has been made again.
    """

    folder: Path
    bad: tuple[BadImage, ...]
    alike: int  # items that resemble too many others to tell copies
    fingerprint: str
    sketch: tuple[int, ...]
    hold: Hold | None = None
    was_damaged: bool = False

    def rows(self, listing: Listing) -> Rows | None:
        """The columns of a listing's table, without the items that were left out."""
        if listing.rows is None:
            return None
        return replace(
            listing.rows,
            numbers=self.array("numbers"),
            words=self.array("words"),
            values=self.array("values") if listing.is_regression else None,
        )

    def names(self) -> list[str]:
        """The name of every item."""
        names: list[str] = json.loads((self.folder / "names.json").read_text(encoding="utf-8"))
        return names

    def array(self, name: str) -> NDArray[Any]:
        """One of the arrays of an entry, in memory."""
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
    Where the pixels are too many for memory, the entry says which files they are read from.
    """
    # What has no files of its own (arrays, functions, idx) was in memory already, or nearly.
    is_streamed = bool(listing.paths) and are_too_large(listing.num_images, shape)
    kind = ("streamed",) if is_streamed else ()
    key = hashlib.sha256(repr((FORMAT, listing.stamp, shape, *kind)).encode()).hexdigest()[:32]
    folder = cache_folder() / "data" / key
    with cache_errors():
        entry = read_entry(folder)
        if entry is not None and (keep_bad or not entry.bad):
            return entry
        was_damaged = entry is None and folder.exists()
        discard(folder)
        with building(folder) as aside:
            _build(aside, listing, shape, progress, keep_pixels=not is_streamed)
        entry = read_entry(folder)
    if entry is None:
        raise DataError(f"data: the cache at {folder} was damaged while it was written; run again")
    return replace(entry, was_damaged=was_damaged)


def read_entry(folder: Path) -> Entry | None:
    """The entry in `folder`, or None when there is none or a file is not as it was written.

    That is found out here, once in a run, by digests of the files (`digest_of`).
    """
    holding = hold(folder)
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        sound = all(digest_of(folder / name) == given for name, given in meta["digests"].items())
        bad = tuple(BadImage(**item) for item in meta["bad"])
        entry = Entry(
            folder=folder,
            bad=bad,
            alike=int(meta["alike"]),
            fingerprint=str(meta["fingerprint"]),
            sketch=tuple(int(item) for item in meta["sketch"]),
            hold=holding,
        )
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return entry if sound else None


def fingerprint(
    hashes: NDArray[np.uint64], labels: NDArray[np.int64], names: Sequence[object]
) -> str:
    """A digest over the items with their labels in sorted order, and names of classes or so."""
    pairs = np.stack([hashes, labels.astype(np.uint64)], axis=1)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    digest = hashlib.sha256(json.dumps(list(names)).encode())
    digest.update(pairs.astype("<u8").tobytes())
    return digest.hexdigest()


def _build(
    folder: Path,
    listing: Listing,
    shape: tuple[int, int, int],
    progress: Progress | None,
    *,
    keep_pixels: bool,
) -> None:
    files = None if keep_pixels else Files.of(listing.paths)  # as they are before they are read
    decoded = decode(listing, shape, folder / "images.npy" if keep_pixels else None, progress)
    bad = {image // listing.views for image in decoded.bad}
    kept = np.array([item for item in range(len(listing)) if item not in bad], dtype=np.int64)
    if files is not None:
        files.take(images_of(kept, listing.views)).write(folder)
    elif bad:
        _keep_rows(folder / "images.npy", images_of(kept, listing.views))
    copies = copies_among(listing, decoded, kept, progress)
    labels = listing.labels[kept]
    arrays: tuple[NDArray[Any], ...] = (
        labels, listing.parts[kept], copies.hashes, copies.groups, _moments(listing, decoded, kept)
    )  # fmt: skip
    for name, array in zip(ARRAYS, arrays, strict=True):
        np.save(folder / f"{name}.npy", array)
    named: list[object] = list(listing.classes)
    if listing.rows is not None:
        rows = listing.rows.take(kept)
        _save_rows(folder, rows)
        named += [listing.target, rows.number_names, rows.category_names]
    names = [listing.names[item] for item in kept]
    (folder / "names.json").write_text(json.dumps(names), encoding="utf-8")
    stated = {
        "source": listing.title,
        "classes": listing.classes,
        "fingerprint": fingerprint(copies.hashes, labels, named),
        "sketch": np.unique(copies.pictures)[:SKETCH_SIZE].tolist(),
        "alike": copies.alike,
        "bad": [asdict(decoded.bad[item]) for item in sorted(decoded.bad)],
    }
    _write_meta(folder, stated)


def _moments(listing: Listing, decoded: Decoded, kept: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Sums over the pixels and their squares (items, channels, 2), over all views of an item."""
    if not listing.has_images:
        return np.zeros((len(kept), 0, 2), dtype=np.uint64)
    per_image = decoded.moments[images_of(kept, listing.views)]
    per_view = per_image.reshape(len(kept), listing.views, *per_image.shape[1:])
    sums: NDArray[np.uint64] = per_view.sum(axis=1, dtype=np.uint64)
    return sums


def _save_rows(folder: Path, rows: Rows) -> None:
    np.save(folder / "numbers.npy", rows.numbers)
    np.save(folder / "words.npy", rows.words)
    if rows.values is not None:
        np.save(folder / "values.npy", rows.values)


def _write_meta(folder: Path, stated: dict[str, object]) -> None:
    """Write meta.json, last of all, with a digest of every file."""
    for entry in os.scandir(folder):
        with open(entry.path, "rb+") as file:
            os.fsync(file.fileno())
    digests = {entry.name: digest_of(Path(entry.path)) for entry in os.scandir(folder)}
    meta = json.dumps({**stated, "digests": digests})
    with (folder / META).open("w", encoding="utf-8") as file:
        file.write(meta)
        file.flush()
        os.fsync(file.fileno())


def _keep_rows(path: Path, kept: NDArray[np.int64]) -> None:
    """Rewrite the images at `path` with only the rows in `kept`."""
    old: Pixels = np.load(path, mmap_mode="r")
    aside = path.with_suffix(".kept")
    new = new_array(aside, (len(kept), *old.shape[1:]))
    for start in range(0, len(kept), COPY_ROWS):
        new[start : start + COPY_ROWS] = old[kept[start : start + COPY_ROWS]]
    os.replace(aside, path)
