"""The images of a study, decoded and split: prepared once, opened by every worker."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from torchstudy.caching import Hold, hold
from torchstudy.data.images import SPLITS, Images
from torchstudy.data.spec import DataSpec

if TYPE_CHECKING:
    from torchstudy.data.decoding import Progress

REBUILT = "what the cache had of them was damaged, and has been made again"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataHandle:
    """Where prepared data lie: small, and all that a worker process needs."""

    folder: Path
    split_file: Path


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageData:
    """Images on disk, what is to be predicted, columns, and the items of each split.

    `pixels` is uint8 (N, C, H, W), with several views (N, V, C, H, W), or without images float32
    (N, 0): an array, or `StreamedPixels` where an array would be too large for memory. `targets`
    (N,) are class numbers (int64) or values (float32). `numbers` (N, n) are standardised by the
    training split, `categories` (N, k) are codes, 0 for values that it lacks. `splits` has the
    sorted item numbers of train, valid, select and test. `notes` are sentences on what was left
    out or kept together. While this lives, the files stay in the cache.
    """

    spec: DataSpec
    pixels: Any
    targets: NDArray[Any]
    splits: dict[str, NDArray[np.int64]]
    notes: tuple[str, ...]
    handle: DataHandle
    numbers: NDArray[np.float32] | None = None
    categories: NDArray[np.int64] | None = None
    hold: Hold | None = field(default=None, repr=False)

    @cached_property
    def names(self) -> Sequence[str]:
        """One name per item: its path relative to the source, `digits/17`, or `row 17`."""
        names: list[str] = json.loads(
            (self.handle.folder / "names.json").read_text(encoding="utf-8")
        )
        return names

    def entries(self, items: NDArray[np.int64]) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
        """The columns of the table, and what stands in them (items, columns): empty for missing."""
        folder = self.handle.folder
        given, words = (
            np.load(folder / f"{name}.npy", allow_pickle=False, mmap_mode="r")[items]
            for name in ("numbers", "words")
        )
        texts = [["" if np.isnan(value) else f"{value:.6g}" for value in row] for row in given]
        numbers = np.array(texts, dtype=np.str_).reshape(given.shape)
        names = np.array([*self.spec.numbers, *self.spec.categories], dtype=np.str_)
        return names, np.concatenate([numbers, words.astype(np.str_)], axis=1)

    @cached_property
    def has_fixed_test(self) -> bool:
        """Whether the source itself says which items are for the test, whatever the seed."""
        from torchstudy.data.listing import Part  # opening needs no Pillow

        parts = np.load(self.handle.folder / "parts.npy", allow_pickle=False)
        test = self.splits["test"]
        return len(test) > 0 and bool((parts[test] == Part.TEST).all())


def prepare(images: Images, *, seed: int, progress: "Progress | None" = None) -> ImageData:
    """Find, decode (or take from the cache), compare and split the images.

    `progress(what, done, total)` is called while `what` ("decode", "compare") goes on. DataError
    lists what is wrong with the images or the request.
    """
    from torchstudy.data.preparing import prepared  # opening needs no Pillow

    entry, split_file = prepared(images, seed=seed, progress=progress)
    data = open_data(DataHandle(folder=entry.folder, split_file=split_file))
    return replace(data, notes=(*data.notes, REBUILT)) if entry.was_damaged else data


def open_data(handle: DataHandle) -> ImageData:
    """The data that `prepare` left, without decoding or checking anything again."""
    holding = hold(handle.folder)
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
        hold=holding,
    )


def _pixels(folder: Path, spec: DataSpec) -> Any:
    if not spec.has_images:
        count = len(np.load(folder / "labels.npy", mmap_mode="r"))
        return np.zeros((count, 0), dtype=np.float32)
    item_shape = spec.shape if spec.views == 1 else (spec.views, *spec.shape)
    if not (folder / "images.npy").is_file():
        from torchstudy.data.streaming import StreamedPixels  # opening an array needs no Pillow

        return StreamedPixels.of(folder, item_shape)
    pixels: NDArray[np.uint8] = np.load(folder / "images.npy", mmap_mode="c")
    return pixels.reshape(-1, *item_shape)


def _targets(folder: Path, spec: DataSpec) -> NDArray[Any]:
    if spec.task == "classification":
        labels: NDArray[np.int64] = np.load(folder / "labels.npy")
        return labels
    values: NDArray[np.float64] = np.load(folder / "values.npy")
    return values.astype(np.float32)
