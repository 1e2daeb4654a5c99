"""What every trial makes of the same few validation items, as a run left it."""

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from torchstudy.analysis.tables import read_table
from torchstudy.arrays import DAMAGE, opened_arrays
from torchstudy.errors import StudyError
from torchstudy.schemas import EXAMPLE_COLUMNS

SHOWN = PICTURES = "examples.npz"  # the items, and in a family's folder what it makes of them
TABLE = "examples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Pictures that a trial made: (items, channels, height, width), uint8."""

    caption: str
    epoch: int
    images: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Examples:
    """The items, the trials' answers (`EXAMPLE_COLUMNS`), and who made pictures of them.

    `images` (items, channels, height, width) are None where the items have none, `rows` have the
    entries of a table by column, none where there is no table. `pictured` has the names of arrays,
    "epoch/caption", by family and trial.
    """

    table: pd.DataFrame
    names: list[str]
    targets: NDArray[Any]  # numbers of classes, or values
    images: NDArray[np.uint8] | None
    rows: Sequence[Mapping[str, str]]
    pictured: Mapping[tuple[str, int], list[str]]
    folder: Path

    @contextmanager
    def pictures(self) -> Iterator[Callable[[str, int], list[Made]]]:
        """What a trial of a family made, none if it made nothing; each file is opened once."""
        with ExitStack() as stack:
            opened = {
                path.parent.name: stack.enter_context(_opened(path))
                for path in _pictures(self.folder)
            }

            def made(family: str, trial: int) -> list[Made]:
                return [
                    Made(caption=caption, epoch=int(epoch), images=opened[family](f"{trial}/{key}"))
                    for key in self.pictured.get((family, trial), ())
                    for epoch, caption in [key.split("/", 1)]
                ]

            yield made


def read_examples(folder: Path) -> Examples | None:
    """What a run left in its folder; None if nothing: versions before this one wrote none.

    Raises StudyError where a file is damaged.
    """
    place = folder / "evidence"
    table = read_table(place / f"{TABLE}.parquet", EXAMPLE_COLUMNS)
    if table is None:
        return None
    with _opened(place / SHOWN) as array:
        shown = {name: array(name) for name in _names(place / SHOWN)}
    pictured: dict[tuple[str, int], list[str]] = {}
    for path in _pictures(folder):
        for name in _names(path):
            trial, _, key = name.partition("/")
            pictured.setdefault((path.parent.name, int(trial)), []).append(key)
    return Examples(
        table=table,
        names=[str(name) for name in shown["name"]],
        targets=shown["target"],
        images=shown.get("images"),
        rows=_rows(shown),
        pictured=pictured,
        folder=folder,
    )


def _rows(shown: Mapping[str, NDArray[Any]]) -> list[dict[str, str]]:
    """The entries of a table, by column; versions before this one kept none."""
    if "cells" not in shown:
        return []
    names = shown["columns"].tolist()
    return [dict(zip(names, row, strict=True)) for row in shown["cells"].tolist()]


def _pictures(folder: Path) -> list[Path]:
    return sorted((folder / "evidence").glob(f"*/{PICTURES}"))


def _names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error


@contextmanager
def _opened(path: Path) -> Iterator[Callable[[str], NDArray[Any]]]:
    """The arrays of a file by name."""
    with ExitStack() as stack:
        try:
            saved = stack.enter_context(opened_arrays(path))
        except DAMAGE as error:
            raise _damaged(path, error) from error

        def array(name: str) -> NDArray[Any]:
            try:
                found: NDArray[Any] = saved[name]
            except DAMAGE as error:
                raise _damaged(path, error) from error
            return found

        yield array


def _damaged(path: Path, error: Exception) -> StudyError:
    return StudyError(f"{path} is damaged ({error}); `optimize run` of its study writes it again")
