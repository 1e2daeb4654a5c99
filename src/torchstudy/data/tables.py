"""Rows of a table as items: a CSV file, a folder or archive with one, or a function's DataFrame."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from torchstudy.data.columns import Columns, columns_of, paths_of
from torchstudy.data.encoding import as_numbers
from torchstudy.data.folders import visible
from torchstudy.data.images import Images
from torchstudy.data.listing import BadImage, Listing, Part, Rows, printable
from torchstudy.data.pictures import is_grey_file, open_picture
from torchstudy.data.stamps import stamped
from torchstudy.data.words import in_words, word
from torchstudy.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

BINS = 10  # of a quantity, so that splits have alike targets
ITEMS_PER_BIN = 10


def csv_in(folder: Path, title: str) -> Path:
    """The only CSV file at the top of a folder, or of the only folder in it."""
    place = folder
    while True:
        entries = visible(place)
        found = [Path(entry.path) for entry in entries if entry.name.lower().endswith(".csv")]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(repr(path.name) for path in found[:5])
            raise DataError(f"data: {title!r} holds several CSV files ({names}); name one of them")
        if len(entries) != 1 or not entries[0].is_dir():
            raise DataError(f"data: target= is given, but {title!r} holds no CSV file")
        place = Path(entries[0].path)


def csv_listing(path: Path, title: str, images: Images) -> Listing:
    """The rows of a CSV file with a header, UTF-8; DataError lists all that is wrong."""
    import pandas as pd

    try:
        header = pd.read_csv(path, header=None, nrows=1, dtype=str, encoding="utf-8-sig")
        table = pd.read_csv(path, encoding="utf-8-sig", low_memory=False)
    except UnicodeDecodeError as error:
        raise DataError(f"data: {path} is not UTF-8 ({error.reason}); save it as UTF-8") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, ValueError) as error:
        raise DataError(f"data: {path} is no CSV table ({error})") from None
    except OSError as error:
        raise DataError(f"data: {path} cannot be read ({error.strerror})") from None
    # pandas renames a second "a" to "a.1"; the header says what is in the file.
    table.columns = [str(name).strip() for name in header.iloc[0]][: table.shape[1]]
    state = stamped(str(path.resolve()), os.stat(path))
    return _listing(table, title, images, folder=path.parent, state=state)


def frame_listing(table: "pd.DataFrame", title: str, images: Images) -> Listing:
    """The rows of a DataFrame; relative paths of images are below the current folder."""
    import pandas as pd

    hashed = pd.util.hash_pandas_object(table.astype(str), index=False).to_numpy()
    return _listing(table, title, images, folder=Path.cwd(), state=hashed.tobytes())


def _listing(
    table: "pd.DataFrame", title: str, images: Images, *, folder: Path, state: bytes
) -> Listing:
    assert images.target is not None
    if table.empty:
        raise DataError(f"data: {title} has no rows")
    columns = columns_of(
        table,
        title=title,
        target=images.target,
        kinds=images.columns or {},
        task=images.task,
        log_target=images.log_target,
    )
    paths = paths_of(table, columns, folder)
    views = max(1, len(columns.images))
    kept, bad = _usable_rows(paths, views if columns.images else 0, len(table))
    table = table.iloc[kept].reset_index(drop=True)
    paths = [path for row in kept for path in paths[row * views : (row + 1) * views]]
    rows, labels, classes = _rows(table, columns, log_target=images.log_target)
    digest = hashlib.sha256(repr((title, columns, images.log_target, bad)).encode() + state)
    for path in paths:
        digest.update(stamped(path, os.stat(path)))
    has_images = bool(columns.images)
    return Listing(
        title=title,
        classes=classes,
        names=[f"{title}/row {row + 1}" for row in kept],
        labels=labels,
        parts=np.full(len(table), Part.POOL, dtype=np.int8),
        shape=None if has_images else (0, 0, 0),
        stamp=digest.hexdigest(),
        reader=lambda: lambda item: open_picture(paths[item]),
        is_grey=lambda: all(map(is_grey_file, paths)),
        bad=bad,
        target=f"log {columns.target}" if images.log_target else columns.target,
        views=views,
        rows=rows,
        image_names=[printable(path) for path in paths],
    )


def _usable_rows(
    paths: Sequence[str], views: int, num_rows: int
) -> tuple[list[int], tuple[BadImage, ...]]:
    """The rows whose images are all there, and the images that are not."""
    if not views:
        return list(range(num_rows)), ()
    kept, bad = [], []
    for row in range(num_rows):
        own = paths[row * views : (row + 1) * views]
        missing = [path for path in own if not os.path.isfile(path)]
        if missing:
            reason = f"row {row + 1} names it, but there is no such file"
            bad += [BadImage(name=printable(path), reason=reason) for path in missing]
        else:
            kept.append(row)
    return kept, tuple(bad)


def _rows(
    table: "pd.DataFrame", columns: Columns, *, log_target: bool
) -> tuple[Rows, NDArray[np.int64], tuple[str, ...]]:
    """The columns as arrays, a class or bin per row, and the names of the classes."""
    import pandas as pd

    target = table[columns.target]
    values: NDArray[np.float64] | None = None
    classes: tuple[str, ...] = ()
    if columns.task == "regression":
        values = pd.to_numeric(target).to_numpy("float64")
        values = np.log(values) if log_target else values
        labels = quantile_bins(values)
    else:
        named = np.array([word(value) for value in target])
        found, codes = np.unique(named, return_inverse=True)
        labels, classes = codes.astype(np.int64), tuple(found.tolist())
    rows = Rows(
        number_names=columns.numbers,
        category_names=columns.categories,
        numbers=as_numbers(table, columns.numbers),
        words=in_words(table, columns.categories),
        values=values,
    )
    return rows, labels, classes


def quantile_bins(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The quantile bin of every value, with at least ten items in a bin."""
    count = max(1, min(BINS, len(values) // ITEMS_PER_BIN))
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return (ranks * count // len(values)).astype(np.int64)
