"""Which files the image columns of a table name, and why some of them cannot be used."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchstudy.data.listing import BadImage
from torchstudy.visible import storable

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """The images of the rows in `kept`, row by row, and those that cannot be used."""

    kept: list[int]
    paths: list[str]
    names: list[str]
    bad: tuple[BadImage, ...]


def pictures_of(
    table: "pd.DataFrame", columns: tuple[str, ...], folder: Path, *, must_be_below: bool
) -> Pictures:
    """The images that a table names, relative to `folder`.

    Where they `must_be_below` it, a path or link that leads out of the folder is bad: who made the
    table need not be who trains on it.
    """
    given = [_named(table[name]) for name in columns]
    leaves = _outside(folder) if must_be_below else lambda path: False
    kept: list[int] = []
    paths: list[str] = []
    names: list[str] = []
    bad: list[BadImage] = []
    for row, own in enumerate(zip(*given, strict=True) if given else [()] * len(table)):
        own_paths = [str(folder / name) if name else "" for name in own]
        own_names = [f"row {row + 1}, {storable(name)}" for name in own]
        wrong = False
        for column, name, path, shown in zip(columns, own, own_paths, own_names, strict=True):
            if reason := _trouble(name, path, leaves):
                wrong = True
                where = shown if name else f"row {row + 1}, column {column}"
                bad.append(BadImage(name=where, reason=reason))
        if not wrong:
            kept.append(row)
            paths += own_paths
            names += own_names
    return Pictures(kept=kept, paths=paths, names=names, bad=tuple(bad))


def _named(column: "pd.Series[Any]") -> list[str]:
    """The entries as paths: with the bytes that are no text, which name files too."""
    entries = zip(column, column.isna(), strict=True)
    return ["" if is_missing else str(value).strip() for value, is_missing in entries]


def _trouble(name: str, path: str, leaves: Callable[[str], bool]) -> str:
    """Why the image cannot be used; empty if it can."""
    if not name:
        return "names no image"
    if not os.path.isfile(path):
        if "://" in name:
            return "an address, not a file"
        return "not a regular file" if _exists(path) else "no such file"
    if leaves(path):
        return "outside of the table's folder, where only a function's table may point"
    return ""


def _exists(path: str) -> bool:
    try:
        return os.path.exists(path)
    except ValueError:  # NUL
        return False


def _outside(folder: Path) -> Callable[[str], bool]:
    """Whether an existing file lies outside of a folder, links followed."""
    root = os.path.join(os.path.realpath(folder), "")
    real_folder = functools.cache(os.path.realpath)  # rows share few folders

    def leaves(path: str) -> bool:
        place, name = os.path.split(path)
        real = os.path.realpath(path) if os.path.islink(path) else f"{real_folder(place)}/{name}"
        return not real.startswith(root)

    return leaves
