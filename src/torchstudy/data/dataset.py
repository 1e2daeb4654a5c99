"""The images of a study, decoded and split: prepared once, opened by every worker."""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchstudy.data.cache import Entry, entry_for, read_names
from torchstudy.data.cachefolder import cache_errors
from torchstudy.data.decoding import Progress
from torchstudy.data.encoding import Encoding, column_notes
from torchstudy.data.images import SPLITS, Images
from torchstudy.data.listing import Rows
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
    """Images on disk, what is to be predicted, columns, and the items of each split.

    `pixels` is uint8 (N, C, H, W), with several views (N, V, C, H, W), or without images float32
    (N, 0). `targets` (N,) are class numbers (int64) or values (float32). `numbers` (N, n) are
    standardised by the training split, `categories` (N, k) are codes, 0 for values that it lacks.
    `splits` has the sorted item numbers of train, valid, select and test. `notes` are sentences
    on what was left out or kept together.
    """

    spec: DataSpec
    pixels: NDArray[Any]
    targets: NDArray[Any]
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
    rows = entry.rows(scanned.listing)
    encoding = None if rows is None else Encoding.of(rows, split.splits["train"])
    spec = _spec(scanned, entry, split, rows, encoding)
    columns: dict[str, NDArray[Any]] = {}
    if rows is not None and encoding is not None:
        notes = (*notes, *column_notes(rows, encoding))
        columns = {"numbers": encoding.numbers(rows.numbers)} if rows.number_names else {}
        if rows.category_names:
            columns["categories"] = encoding.codes(rows.words)
    handle = _write_split(entry, spec, split, notes, columns)
    return open_data(handle)


def open_data(handle: DataHandle) -> ImageData:
    """The data that `prepare` left, without decoding or checking anything again."""
    with np.load(handle.split_file, allow_pickle=False) as saved:
        splits = {name: saved[name] for name in SPLITS}
        stated = json.loads(saved["meta"].tobytes().decode())
        numbers, categories = (saved.get(name) for name in ("numbers", "categories"))
    spec = DataSpec.of(stated["spec"])
    return ImageData(
        spec=spec,
        pixels=_pixels(handle.folder, spec),
        targets=_targets(handle.folder, spec),
        splits=splits,
        notes=tuple(stated["notes"]),
        handle=handle,
        numbers=numbers,
        categories=categories,
    )


def _pixels(folder: Path, spec: DataSpec) -> NDArray[Any]:
    if not spec.has_images:
        count = len(np.load(folder / "labels.npy", mmap_mode="r"))
        return np.zeros((count, 0), dtype=np.float32)
    pixels: NDArray[np.uint8] = np.load(folder / "images.npy", mmap_mode="c")
    return pixels if spec.views == 1 else pixels.reshape(-1, spec.views, *spec.shape)


def _targets(folder: Path, spec: DataSpec) -> NDArray[Any]:
    if spec.task == "classification":
        labels: NDArray[np.int64] = np.load(folder / "labels.npy")
        return labels
    values: NDArray[np.float64] = np.load(folder / "values.npy")
    return values.astype(np.float32)


def _split(scanned: Scan, entry: Entry, seed: int) -> tuple[Split, tuple[str, ...]]:
    strata = scanned.listing.strata
    items = Items(
        labels=entry.array("labels"),
        parts=entry.array("parts"),
        groups=entry.array("groups"),
        ranks=random_ranks(entry.array("hashes"), derive(seed, "data", "split")),
        classes=strata,
    )
    plan = scanned.plan
    if entry.bad:
        counts = class_counts(items.labels, items.parts, len(strata))
        are_classes = not scanned.listing.is_regression
        plan = planned(scanned.images, counts, strata, are_classes=are_classes)
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
        if not scanned.listing.is_regression:
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


def _spec(
    scanned: Scan, entry: Entry, split: Split, rows: Rows | None, encoding: Encoding | None
) -> DataSpec:
    """What the scan knew, with the statistics of the training split."""
    train = split.splits["train"]
    spec = replace(
        scanned.spec(),
        num_train=len(train),
        fingerprint=entry.fingerprint,
        sketch=entry.sketch,
        **({} if encoding is None else asdict(encoding)),
        **_pixel_statistics(scanned, entry.array("moments")[train]),
    )
    if rows is not None and rows.values is not None:
        values = rows.values[train]
        spread = float(values.std()) or 1.0
        return replace(spec, target_mean=float(values.mean()), target_std=spread)
    counts = np.bincount(entry.array("labels")[train], minlength=spec.num_classes)
    return replace(spec, class_counts=tuple(counts.tolist()))


def _pixel_statistics(scanned: Scan, moments: NDArray[np.uint64]) -> dict[str, Any]:
    """Mean and spread per channel of pixels in [0, 1], from sums over each item's pixels."""
    _, height, width = scanned.shape
    if not scanned.listing.has_images:
        return {"mean": (), "std": ()}
    sums = moments.sum(axis=0, dtype=np.uint64).astype(np.float64)
    count = len(moments) * scanned.listing.views * height * width
    mean = sums[:, 0] / count / 255
    variance = np.maximum(sums[:, 1] / count / 255**2 - mean**2, 0)
    std = np.maximum(np.sqrt(variance), MIN_STD)
    return {"mean": tuple(mean.tolist()), "std": tuple(std.tolist())}


def _write_split(
    entry: Entry,
    spec: DataSpec,
    split: Split,
    notes: tuple[str, ...],
    columns: dict[str, NDArray[Any]],
) -> DataHandle:
    stated = json.dumps({"spec": asdict(spec), "notes": notes}).encode()
    digest = hashlib.sha256(stated)
    for name in SPLITS:
        digest.update(split.splits[name].tobytes())
    path = entry.folder / "splits" / f"{digest.hexdigest()[:24]}.npz"
    arrays: dict[str, Any] = {
        **split.splits,
        **columns,
        "meta": np.frombuffer(stated, dtype=np.uint8),
    }
    file = io.BytesIO()
    np.savez(file, **arrays)
    with cache_errors():
        if not path.is_file() or path.read_bytes() != file.getvalue():
            with written_aside(path) as aside:
                aside.write_bytes(file.getvalue())
    return DataHandle(folder=entry.folder, split_file=path)
