"""Named arrays in a file: written all or nothing, and read without trust in what they became."""

import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from torchstudy.files import written_aside

Arrays: TypeAlias = dict[str, NDArray[Any]]

# What reading such a file may raise; numpy checks every byte against the sums in it.
DAMAGE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


def write_arrays(
    path: Path, arrays: Mapping[str, NDArray[Any]], *, is_packed: bool = False
) -> None:
    """Replace the file at `path` by these arrays; the same arrays give the same bytes."""
    save = np.savez_compressed if is_packed else np.savez
    with written_aside(path) as aside, aside.open("wb") as file:
        save(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes `file` for one too


def packed_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of the file that `write_arrays` packs these arrays into."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]  # as above
    return content.getvalue()


@contextmanager
def opened_arrays(path: Path) -> Iterator[NpzFile]:
    """The arrays in a file, each read when it is asked for; opening and reading raise `DAMAGE`."""
    # numpy leaves a path that it opened itself open where the file is damaged
    with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
        yield saved


def read_arrays(path: Path) -> Arrays | None:
    """The arrays in a file, none where there is none; None if it is damaged."""
    try:
        with opened_arrays(path) as saved:
            return {name: saved[name] for name in saved.files}
    except FileNotFoundError:
        return {}
    except DAMAGE:
        return None
