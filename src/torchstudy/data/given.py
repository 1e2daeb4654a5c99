"""Which image files are meant by paths, folders and globs that somebody typed."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from torchstudy.data.folders import visible
from torchstudy.data.listing import BadImage
from torchstudy.data.pictures import SUFFIXES
from torchstudy.errors import DataError
from torchstudy.visible import storable

WILD = "*?["
Place: TypeAlias = str | os.PathLike[str]


def image_files(places: Sequence[Place]) -> tuple[list[str], list[BadImage]]:
    """The files that are meant, each once, in the order given; and the places that mean none.

    A folder means all images below it, sorted by path; links to folders and hidden files are left
    out. What is not there is taken for a glob if it can be one (`"photos/**/*.jpg"`). A file that
    is named itself may be called anything. DataError if no place means a file.
    """
    files: dict[str, None] = {}
    bad: list[BadImage] = []
    for given in places:
        place = os.fspath(given)
        found, problem = _meant(place)
        files.update(dict.fromkeys(found))
        if problem:
            bad.append(BadImage(name=storable(place), reason=problem))
    if not files:
        listed = "; ".join(f"{one.name!r}: {one.reason}" for one in bad[:5])
        more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise DataError(f"no image to predict from ({listed or 'none was named'}{more})")
    return list(files), bad


def _meant(place: str) -> tuple[list[str], str]:
    """The files that one place means, and why there is none."""
    try:
        if os.path.isdir(place):
            found = sorted(_below(Path(place)))
            return found, "" if found else f"a folder without images ({', '.join(SUFFIXES)})"
        if os.path.lexists(place):
            return [place], ""
        if not any(letter in place for letter in WILD):
            return [], "no such file or folder"
        matched = sorted(glob.glob(os.path.expanduser(place), recursive=True))
    except (OSError, ValueError) as error:  # not permitted; NUL
        return [], getattr(error, "strerror", None) or str(error)
    found = [path for path in matched if not os.path.isdir(path)]
    return found, "" if found else "no file is called like that"


def _below(folder: Path) -> Iterator[str]:
    waiting = [folder]
    while waiting:
        for entry in visible(waiting.pop()):
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            elif entry.name.lower().endswith(SUFFIXES) and not os.path.isdir(entry.path):
                yield entry.path
