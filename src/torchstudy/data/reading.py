"""How a CSV file becomes a table: found in a folder, read as UTF-8, its header as it is written."""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchstudy.data.folders import visible
from torchstudy.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def csv_in(folder: Path, title: str) -> Path:
    """The only CSV file at the top of a folder, or of the only folder in it."""
    place = folder
    while True:
        entries = _entries(place, title)
        inner = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
        folders = {entry.name for entry in inner}
        files = [entry for entry in entries if entry.name not in folders]
        found = [Path(entry.path) for entry in files if entry.name.lower().endswith(".csv")]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(repr(path.name) for path in found[:5])
            raise DataError(f"data: {title!r} holds several CSV files ({names}); name one of them")
        if len(inner) != 1:
            raise DataError(
                f"data: target= is given, but {title!r} holds no CSV file; add one, or leave "
                "target= out for folders of images"
            )
        place = Path(inner[0].path)


def _entries(folder: Path, title: str) -> list[os.DirEntry[str]]:
    try:
        return visible(folder)
    except OSError as error:
        raise DataError(f"data: {title!r} cannot be read ({error.strerror})") from None


def csv_table(path: Path, title: str) -> tuple["pd.DataFrame", tuple[str, ...]]:
    """The table of a CSV file with a header, UTF-8 with or without mark, and notes on it.

    Columns without a name are left out: they are the row numbers that pandas and R write.
    """
    if not path.is_file():
        raise DataError(f"data: {title} is no regular file, so it is no CSV table")
    header, table = _read(path, title)
    if len(header) == 1 and (used := [mark for mark in OTHER_SEPARATORS if mark in header[0]]):
        raise DataError(
            f"data: {title} separates its columns by {OTHER_SEPARATORS[used[0]]}; save it with "
            "commas"
        )
    named = [at for at, name in enumerate(header) if name]
    table = table.iloc[:, named].set_axis([header[at] for at in named], axis=1)
    unnamed = len(header) - len(named)
    if not unnamed:
        return table, ()
    what = (
        "1 column without a name was" if unnamed == 1 else f"{unnamed} columns without names were"
    )
    return table, (f"{what} left out",)


def _read(path: Path, title: str) -> tuple[list[str], "pd.DataFrame"]:
    import pandas as pd

    options: dict[str, Any] = {
        "encoding": "utf-8-sig",
        "skipinitialspace": True,
        "index_col": False,
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            first = pd.read_csv(path, header=None, nrows=1, dtype=str, **options)
            header = ["" if name != name else str(name).strip() for name in first.iloc[0]]
            # Numbers as names: pandas would make "a.1" of a second "a".
            names = list(range(len(header)))
            table: pd.DataFrame = pd.read_csv(
                path, header=0, names=names, low_memory=False, **options
            )
    except UnicodeDecodeError as error:
        raise DataError(f"data: {title} is not UTF-8 ({error.reason}); save it as UTF-8") from None
    except pd.errors.ParserWarning:
        raise DataError(
            f"data: {title} has rows with more entries than its header; quote entries that hold a "
            "comma, and name every column"
        ) from None
    except pd.errors.EmptyDataError:
        raise DataError(f"data: {title} is empty") from None
    except (pd.errors.ParserError, ValueError) as error:
        reason = str(error).removeprefix("Error tokenizing data. C error: ").strip()
        raise DataError(f"data: {title} is no CSV table ({reason})") from None
    except OSError as error:
        raise DataError(f"data: {title} cannot be read ({error.strerror})") from None
    return header, table
