"""From a declaration to prepared files: scanned, decoded or cached, split, described."""

import hashlib
import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchstudy.data.cache import Entry, entry_for
from torchstudy.data.cachefolder import cache_errors
from torchstudy.data.decoding import Progress
from torchstudy.data.encoding import Encoding, column_notes
from torchstudy.data.images import SPLITS, Images
from torchstudy.data.listing import Rows, bad_images
from torchstudy.data.notes import item_notes
from torchstudy.data.planning import Plan, class_counts, planned
from torchstudy.data.sources import Scan, scan
from torchstudy.data.spec import DataSpec
from torchstudy.data.splits import Items, Split, random_ranks, split_items
from torchstudy.errors import DataError
from torchstudy.files import written_aside
from torchstudy.seeds import derive

MIN_STD = 1 / 255  # one grey level: a constant channel must not be divided by zero


def prepared(images: Images, *, seed: int, progress: Progress | None) -> tuple[Entry, Path]:
    """The data in the cache, and the file with spec, splits and columns."""
    scanned = scan(images)
    skip = images.on_bad_image == "skip"
    entry = entry_for(scanned.listing, scanned.shape, keep_bad=skip, progress=progress)
    if entry.bad and not skip:
        raise DataError(bad_images(entry.bad))
    items = _items(scanned, entry, seed)
    split = split_items(items, _plan(scanned, entry, items))
    notes = [*item_notes(scanned.listing, entry, items, split)]
    rows = entry.rows(scanned.listing)
    encoding = None if rows is None else Encoding.of(rows, split.splits["train"])
    columns: dict[str, NDArray[Any]] = {}
    if rows is not None and encoding is not None:
        notes += column_notes(rows, encoding)
        columns = _columns(rows, encoding)
    spec = _spec(scanned, entry, split, rows, encoding)
    return entry, _written_split(entry, spec, split, tuple(notes), columns)


def _items(scanned: Scan, entry: Entry, seed: int) -> Items:
    return Items(
        labels=entry.array("labels"),
        parts=entry.array("parts"),
        groups=entry.array("groups"),
        ranks=random_ranks(entry.array("hashes"), derive(seed, "data", "split")),
        classes=scanned.listing.strata,
        are_bins=scanned.listing.is_regression,
    )


def _plan(scanned: Scan, entry: Entry, items: Items) -> Plan:
    """What the scan planned, or where images were left out, what can still be had."""
    if not entry.bad:
        return scanned.plan
    counts = class_counts(items.labels, items.parts, len(items.classes))
    listing = scanned.listing
    plan = planned(scanned.images, counts, listing.classes, noun=listing.noun)
    if plan.problems:
        raise DataError([*plan.problems, bad_images(entry.bad)])
    return plan


def _columns(rows: Rows, encoding: Encoding) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {}
    if rows.number_names:
        columns["numbers"] = encoding.numbers(rows.numbers)
    if rows.category_names:
        columns["categories"] = encoding.codes(rows.words)
    return columns


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


def _written_split(
    entry: Entry,
    spec: DataSpec,
    split: Split,
    notes: tuple[str, ...],
    columns: dict[str, NDArray[Any]],
) -> Path:
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
    return path
