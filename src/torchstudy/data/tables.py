"""Rows of a table as items: what is in the columns, the images they name, what is predicted."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from torchstudy.data.columnimages import Pictures, pictures_of
from torchstudy.data.columns import Columns, columns_of
from torchstudy.data.images import Images
from torchstudy.data.listing import Listing, Part, Rows, bad_images
from torchstudy.data.pictures import all_grey, open_picture
from torchstudy.data.reading import csv_table
from torchstudy.data.stamps import stamped
from torchstudy.data.words import in_numbers, in_words, numbers_of, text_names, words_of
from torchstudy.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 2  # raised whenever rows are read, binned or compared in another way
BINS = 10  # of a quantity, so that splits have alike targets
ITEMS_PER_BIN = 10


def csv_listing(path: Path, title: str, images: Images) -> Listing:
    """The rows of a CSV file; paths of images are below its folder. DataError lists problems."""
    table, notes = csv_table(path, title)
    return _listing(table, title, images, folder=path.parent, notes=notes, must_be_below=True)


def frame_listing(table: "pd.DataFrame", title: str, images: Images) -> Listing:
    """The rows of a DataFrame; relative paths of images are below the current folder."""
    return _listing(text_names(table), title, images, folder=Path.cwd())


def _listing(
    table: "pd.DataFrame",
    title: str,
    images: Images,
    *,
    folder: Path,
    notes: tuple[str, ...] = (),
    must_be_below: bool = False,
) -> Listing:
    assert images.target is not None
    if table.empty:
        raise DataError(f"data: {title} has no rows")
    columns, problems = columns_of(
        table,
        title=title,
        target=images.target,
        kinds=images.columns or {},
        task=images.task,
        log_target=images.log_target,
    )
    pictures = pictures_of(table, columns.images, folder, must_be_below=must_be_below)
    if pictures.bad and images.on_bad_image == "error":
        problems.append(bad_images(pictures.bad))
    if problems:
        raise DataError(problems)
    table = table.iloc[pictures.kept].reset_index(drop=True)
    rows, labels, classes = _rows(table, columns, log_target=images.log_target)
    return Listing(
        title=title,
        classes=classes,
        names=[f"row {row + 1}" for row in pictures.kept],
        labels=labels,
        parts=np.full(len(table), Part.POOL, dtype=np.int8),
        shape=None if columns.images else (0, 0, 0),
        stamp=_stamp((FORMAT, title, columns, classes), rows, labels, pictures),
        reader=lambda: lambda image: open_picture(pictures.paths[image]),
        is_grey=lambda: all_grey(pictures.paths),
        bad=pictures.bad,
        target=f"log {columns.target}" if images.log_target else columns.target,
        log_target=images.log_target,
        views=max(1, len(columns.images)),
        image_columns=columns.images,
        rows=rows,
        image_names=pictures.names,
        paths=pictures.paths,
        noun="rows",
        notes=notes,
    )


def _rows(
    table: "pd.DataFrame", columns: Columns, *, log_target: bool
) -> tuple[Rows, NDArray[np.int64], tuple[str, ...]]:
    """The columns as arrays, a class or bin per row, and the names of the classes."""
    target = table[columns.target]
    values: NDArray[np.float64] | None = None
    classes: tuple[str, ...] = ()
    if columns.task == "regression":
        values = np.log(numbers_of(target)) if log_target else numbers_of(target)
        labels = quantile_bins(values)
    else:
        labels, classes = _classes(target)
    rows = Rows(
        number_names=columns.numbers,
        category_names=columns.categories,
        numbers=in_numbers(table, columns.numbers),
        words=in_words(table, columns.categories),
        values=values,
    )
    return rows, labels, classes


def _classes(target: "pd.Series[Any]") -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """A class number per row, and the names: as text, but numbers in their own order."""
    words, numbers = words_of(target), numbers_of(target)
    places = dict(zip(words, numbers.tolist(), strict=True))
    names = sorted(places) if np.isnan(numbers).any() else sorted(places, key=places.__getitem__)
    code = {name: number for number, name in enumerate(names)}
    return np.array([code[name] for name in words], dtype=np.int64), tuple(names)


def quantile_bins(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The quantile bin of every value: about ten items or more in each, equal values together."""
    count = max(1, min(BINS, len(values) // ITEMS_PER_BIN))
    cuts = np.sort(values)[np.arange(1, count) * len(values) // count]
    bins = np.searchsorted(np.unique(cuts), values, side="right")
    numbered: NDArray[np.int64] = np.unique(bins, return_inverse=True)[1].astype(np.int64)
    return numbered


def _stamp(
    context: Sequence[object], rows: Rows, labels: NDArray[np.int64], pictures: Pictures
) -> str:
    """What identifies the rows, their target, and the state of every image."""
    digest = hashlib.sha256(repr((*context, pictures.names, pictures.bad)).encode())
    values = labels if rows.values is None else rows.values
    for array in (rows.numbers, rows.words, values):
        digest.update(repr((array.shape, array.dtype)).encode() + array.tobytes())
    for path in pictures.paths:
        digest.update(stamped(path, os.stat(path)))
    return digest.hexdigest()
