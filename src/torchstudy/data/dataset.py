"""The images of a study, decoded and split: prepared once, opened by every worker."""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchstudy.data.cache import Entry, entry_for, read_names
from torchstudy.data.cachefolder import cache_errors
from torchstudy.data.decoding import Progress
from torchstudy.data.images import SPLITS, Images
from torchstudy.data.planning import class_counts, planned
from torchstudy.data.sources import Scan, bad_images, scan
from torchstudy.data.spec import DataSpec
from torchstudy.data.splits import Items, Split, random_ranks, split_items
from torchstudy.errors import DataError
from torchstudy.files import written_aside
from torchstudy.seeds import derive

MIN_STD = 1 / 255  # one grey level: a constant channel must not be divided by zero


@dataclass(frozen=True, slots=True, kw_only=True)
class DataHandle:
    """Where prepared data lie: small, and all that a worker process needs."""

    folder: Path
    split_file: Path


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageData:
    """Images as uint8 (N, C, H, W) on disk, their labels, and the items of each split.

    `splits` has the sorted item numbers of train, valid, select and test. `notes` are sentences
    on what was left out or kept together.
    """

    spec: DataSpec
    pixels: NDArray[np.uint8]
    targets: NDArray[np.int64]
    splits: dict[str, NDArray[np.int64]]
    notes: tuple[str, ...]
    handle: DataHandle
    numbers: NDArray[np.float32] | None = None
    categories: NDArray[np.int64] | None = None

    @cached_property
    def names(self) -> Sequence[str]:
        """One name per item: its path relative to the source, or `digits/17`."""
        return read_names(self.handle.folder)


def prepare(images: Images, *, seed: int, progress: Progress | None = None) -> ImageData:
    """Find, decode (or take from the cache), compare and split the images.

    `progress(what, done, total)` is called while `what` ("decode", "compare") goes on. DataError
    lists what is wrong with the images or the request.
    """
    scanned = scan(images)
    skip = images.on_bad_image == "skip"
    entry = entry_for(scanned.listing, scanned.shape, keep_bad=skip, progress=progress)
    if entry.bad and not skip:
        raise DataError(bad_images(entry.bad))
    split, notes = _split(scanned, entry, seed)
    spec = _spec(scanned, entry, split)
    handle = _write_split(entry, spec, split, notes)
    return open_data(handle)


def open_data(handle: DataHandle) -> ImageData:
    """The data that `prepare` left, without decoding or checking anything again."""
    with np.load(handle.split_file, allow_pickle=False) as saved:
        splits = {name: saved[name] for name in SPLITS}
        stated = json.loads(saved["meta"].tobytes().decode())
    spec: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in stated["spec"].items()
    }
    return ImageData(
        spec=DataSpec(**spec),
        pixels=np.load(handle.folder / "images.npy", mmap_mode="c"),
        targets=np.load(handle.folder / "labels.npy"),
        splits=splits,
        notes=tuple(stated["notes"]),
        handle=handle,
    )


def _split(scanned: Scan, entry: Entry, seed: int) -> tuple[Split, tuple[str, ...]]:
    classes = scanned.listing.classes
    items = Items(
        labels=entry.array("labels"),
        parts=entry.array("parts"),
        groups=entry.array("groups"),
        ranks=random_ranks(entry.array("hashes"), derive(seed, "data", "split")),
        classes=classes,
    )
    plan = scanned.plan
    if entry.bad:
        counts = class_counts(items.labels, items.parts, len(classes))
        plan = planned(scanned.images, counts, classes)
        if plan.problems:
            raise DataError([*plan.problems, bad_images(entry.bad)])
    split = split_items(items, plan)
    return split, tuple(_notes(scanned, entry, items, split))


def _notes(scanned: Scan, entry: Entry, items: Items, split: Split) -> Iterator[str]:
    """What was left out or kept together, one sentence each."""
    if bad := (*scanned.listing.bad, *entry.bad):
        first = f"{bad[0].name!r}: {bad[0].reason}"
        yield _counted(len(bad), "unreadable image was", "unreadable images were") + (
            f" left out, the first {first}" if len(bad) > 1 else f" left out, {first}"
        )
    if entry.alike:
        yield (
            f"{entry.alike} images look so much alike that near copies cannot be told apart; only "
            "exact copies of them are kept together"
        )
    _, sizes = np.unique(items.groups, return_counts=True)
    if (shared := sizes > 1).any():
        yield (
            f"{sizes[shared].sum()} images are copies or near copies of each other, in "
            f"{_counted(int(shared.sum()), 'group', 'groups')} (the largest of {sizes.max()}); no "
            "group straddles two splits"
        )
        names = read_names(entry.folder)
        yield from _dropped_notes(split.dropped, names)
        yield from _torn_notes(items, names)


def _dropped_notes(dropped: NDArray[np.int64], names: Sequence[str]) -> Iterator[str]:
    if len(dropped) == 1:
        yield (
            "1 image was left out because it repeats an image of a split that the data fix: "
            f"{names[dropped[0]]!r}"
        )
    elif len(dropped):
        yield (
            f"{len(dropped)} images were left out because they repeat images of a split that the "
            f"data fix, the first {names[dropped[0]]!r}"
        )


def _torn_notes(items: Items, names: Sequence[str]) -> Iterator[str]:
    """Groups of copies with more than one class: somebody labelled them wrong."""
    other = items.labels != items.labels[items.groups]
    torn = np.unique(items.groups[other])
    if len(torn):
        first = int(torn[0])
        second = int(np.flatnonzero(other & (items.groups == first))[0])
        shown = f"{names[first]!r} and {names[second]!r}"
        yield _counted(len(torn), "group of copies carries", "groups of copies carry") + (
            f" different classes: {shown}" if len(torn) == 1 else f" different classes, as {shown}"
        )


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _spec(scanned: Scan, entry: Entry, split: Split) -> DataSpec:
    train = split.splits["train"]
    moments = entry.array("moments")[train].sum(axis=0, dtype=np.uint64).astype(np.float64)
    channels, height, width = scanned.shape
    count = len(train) * height * width
    mean = moments[:, 0] / count / 255
    variance = np.maximum(moments[:, 1] / count / 255**2 - mean**2, 0)
    return DataSpec(
        source=scanned.listing.title,
        channels=channels,
        height=height,
        width=width,
        classes=scanned.listing.classes,
        num_train=len(train),
        mean=tuple(mean.tolist()),
        std=tuple(np.maximum(np.sqrt(variance), MIN_STD).tolist()),
        fingerprint=entry.fingerprint,
        sketch=entry.sketch,
    )


def _write_split(entry: Entry, spec: DataSpec, split: Split, notes: tuple[str, ...]) -> DataHandle:
    stated = json.dumps({"spec": asdict(spec), "notes": notes}).encode()
    digest = hashlib.sha256(stated)
    for name in SPLITS:
        digest.update(split.splits[name].tobytes())
    path = entry.folder / "splits" / f"{digest.hexdigest()[:24]}.npz"
    arrays: dict[str, Any] = {**split.splits, "meta": np.frombuffer(stated, dtype=np.uint8)}
    file = io.BytesIO()
    np.savez(file, **arrays)
    with cache_errors():
        if not path.is_file() or path.read_bytes() != file.getvalue():
            with written_aside(path) as aside:
                aside.write_bytes(file.getvalue())
    return DataHandle(folder=entry.folder, split_file=path)
