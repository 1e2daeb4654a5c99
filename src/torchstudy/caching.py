"""What the cache holds and who uses it: entries, and holds that end with their process at last."""

import fcntl
import json
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torchstudy.files import cache_folder

KINDS = ("data", "features", "archives")  # folders of the cache; an entry is `<kind>/<name>`
USES = "uses"  # a stamp per entry: its time says when it was last used, its lock that it is now


_held_until_exit: "dict[Path, Hold | None]" = {}


class Hold:
    """An entry in use, until `release`, until nobody refers to this, or until the process ends.

    The lock is the system's: a process that is killed holds nothing.
    """

    def __init__(self, descriptor: int) -> None:
        self._end = weakref.finalize(self, _end_use, descriptor)

    def release(self) -> None:
        """Use the entry no more, as of now; once is enough."""
        self._end()

    def __enter__(self) -> "Hold":
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something that the cache keeps, and can make again.

    `about` says what it was made of, `num_items` of how many images, rows or files (None: unknown).
    `last_used` is in seconds since 1970. `data` is the name of the data entry that features are of.
    """

    kind: str
    path: Path
    about: str
    num_items: int | None
    num_bytes: int
    last_used: float
    is_used: bool
    data: str = ""


def hold(path: Path) -> Hold | None:
    """Keep the entry at `path`, there already or not, from being removed; it counts as used now.

    None where nothing can be locked: a cache that can only be read, a disk without locks.
    """
    try:
        stamp = stamp_of(path)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        return Hold(_shared(stamp))
    except OSError:  # what cannot be written here is not removed from here either
        return None


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep the entry at `path` while the block lasts."""
    holding = hold(path)
    try:
        yield
    finally:
        if holding is not None:
            holding.release()


def hold_until_exit(path: Path) -> None:
    """Keep the entry at `path` until this process ends."""
    _held_until_exit.setdefault(path, hold(path))


def is_used(path: Path) -> bool:
    """Whether a process, this one too, holds the entry at `path`."""
    try:
        descriptor = os.open(stamp_of(path), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:  # who may not even look must not remove
        return True
    try:
        return not is_alone(descriptor)
    finally:
        os.close(descriptor)


def is_alone(descriptor: int) -> bool:
    """Lock an open stamp against everybody else; False when somebody has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or on a disk where that cannot be known
        return False
    return True


def stamp_of(path: Path) -> Path:
    """The stamp of the entry at `path`."""
    return path.parent.parent / USES / f"{path.parent.name}-{path.name}"


def entries() -> list[Entry]:
    """Everything in the cache, the last used first. What vanishes meanwhile is left out.

    Features count as used while the data they are of are: a running study comes back for them.
    """
    found = [entry for kind in KINDS for path in _paths(kind) for entry in _entry(kind, path)]
    data = {entry.path.name for entry in found if entry.kind == "data" and entry.is_used}
    found = [replace(entry, is_used=entry.is_used or entry.data in data) for entry in found]
    return sorted(found, key=lambda entry: (-entry.last_used, str(entry.path)))


def title_of(name: str) -> str:
    """What the data entry called `name` was made of; the name itself if there is none."""
    return str(_stated(cache_folder() / "data" / name / "meta.json").get("source", name))


def files_of(entry: Path) -> list[Path]:
    """The files and folders that make up the entry at a path; not all of them need be there."""
    if entry.parent.name != "features":
        return [entry]
    return [entry, about_file(entry), entry.with_suffix(".lock")]


def about_file(features: Path) -> Path:
    """The file that says what a file of features was made of."""
    return features.with_suffix(".json")


def size_of(path: Path) -> tuple[int, int]:
    """How many files there are at and below `path`, and their bytes; what cannot be read is 0."""
    if not path.is_dir() or path.is_symlink():
        return (1, path.lstat().st_size) if os.path.lexists(path) else (0, 0)
    count = total = 0
    for folder, _, names in os.walk(path):
        count += len(names)
        for name in names:
            with suppress(OSError):  # gone since the folder was listed
                total += os.lstat(os.path.join(folder, name)).st_size
    return count, total


def _shared(stamp: Path) -> int:
    """An open, locked stamp. One that was removed before the lock was had is made again."""
    while True:
        descriptor = os.open(stamp, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if _is_still(stamp, descriptor):
                os.utime(descriptor)
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_still(stamp: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(stamp), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _end_use(descriptor: int) -> None:
    with suppress(OSError):  # the time is worth no failure
        os.utime(descriptor)
    os.close(descriptor)


def _paths(kind: str) -> list[Path]:
    try:
        found = [path for path in (cache_folder() / kind).iterdir() if path.name[0] != "."]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [path for path in found if kind != "features" or path.suffix == ".npy"]


def _entry(kind: str, path: Path) -> Iterator[Entry]:
    """The entry at `path`, unless it has just gone."""
    with suppress(FileNotFoundError):
        about, items, data = _DESCRIBED[kind](path)
        yield Entry(
            kind=kind,
            path=path,
            about=about,
            num_items=items,
            num_bytes=sum(size_of(file)[1] for file in files_of(path)),
            last_used=_last_used(path),
            is_used=is_used(path),
            data=data,
        )


def _last_used(path: Path) -> float:
    with suppress(OSError):
        return stamp_of(path).stat().st_mtime
    return path.lstat().st_mtime  # written before uses were noted


def _data(path: Path) -> tuple[str, int | None, str]:
    about = str(_stated(path / "meta.json").get("source", "unknown"))
    rows, pixels = _shape_of(path / "labels.npy"), _shape_of(path / "images.npy")
    about += f" as {' x '.join(map(str, pixels[1:]))}" if pixels else ""
    return about, rows[0] if rows else None, ""


def _features(path: Path) -> tuple[str, int | None, str]:
    stated = _stated(about_file(path))
    about = f"{stated['backbone']} on {stated['source']}" if stated else "unknown"
    shape = _shape_of(path)
    return about, shape[0] if shape else None, str(stated.get("data", ""))


def _archives(path: Path) -> tuple[str, int | None, str]:
    return path.name.rpartition("-")[0] or path.name, size_of(path)[0], ""


_DESCRIBED: dict[str, Callable[[Path], tuple[str, int | None, str]]] = {
    "data": _data,
    "features": _features,
    "archives": _archives,
}


def _stated(path: Path) -> dict[str, Any]:
    """The JSON object in a file, empty if there is none that can be read."""
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stated if isinstance(stated, dict) else {}


def _shape_of(path: Path) -> tuple[int, ...] | None:
    """The shape of a saved array, None if it cannot be read."""
    import numpy as np  # a tenth of a second that a hold does not need

    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            return np.lib.format.read_array_header_1_0(file)[0]
    except (OSError, ValueError):
        return None
