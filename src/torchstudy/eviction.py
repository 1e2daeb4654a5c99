"""What leaves the cache: the longest unused when it is full, everything unused when asked."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from torchstudy.caching import (
    KINDS,
    USES,
    Entry,
    entries,
    files_of,
    is_alone,
    is_used,
    size_of,
    stamp_of,
)
from torchstudy.errors import StudyError
from torchstudy.files import cache_folder, discard

LIMIT = "TORCHSTUDY_CACHE_LIMIT"
MOST = 20 * 10**9  # bytes, unless the disk is small or the limit is given
SHARE = 10  # the cache takes at most one part in so many of the disk
UNITS = {
    "": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleared:
    """What was removed, what stayed because it is used or cannot be removed, and bytes freed."""

    removed: tuple[Entry, ...]
    kept: tuple[Entry, ...]
    freed: int


def cache_limit() -> int:
    """Bytes the cache may take: `$TORCHSTUDY_CACHE_LIMIT`, else 20 GB or a tenth of its disk.

    StudyError for a limit that is no size.
    """
    given = os.environ.get(LIMIT, "").strip()
    if not given:
        return min(MOST, shutil.disk_usage(_existing(cache_folder())).total // SHARE)
    matched = re.fullmatch(r"(\d+\.?\d*)\s*([A-Z]*)", given.upper(), re.ASCII)
    if matched is None or matched[2] not in UNITS:
        raise StudyError(
            f"{LIMIT}: {given!r} is no size; give bytes or a number with KB, MB, GB or TB, "
            "for example 20GB"
        )
    return int(float(matched[1]) * UNITS[matched[2]])


def make_room() -> int:
    """Bring the cache down to its limit, the longest unused first; return the bytes freed.

    What is in use stays, so that the cache can be larger for a while.
    """
    limit, freed = cache_limit(), 0
    with suppress(OSError), _only_one():  # a cache that cannot be tidied ends no study
        found = entries()
        remains = _remains()
        excess = sum(entry.num_bytes for entry in found) - limit
        excess += sum(size_of(path)[1] for path, _ in remains)
        if excess > 0:
            freed = _without_remains(remains)
        for entry in reversed(found):
            if freed >= excess:
                break
            if _is_removed(entry):
                freed += entry.num_bytes
    return freed


def clear() -> Cleared:
    """Remove everything that is not in use; StudyError where nothing can be removed."""
    removed: list[Entry] = []
    kept: list[Entry] = []
    if not cache_folder().is_dir():
        return Cleared(removed=(), kept=(), freed=0)
    try:
        with _only_one():
            for entry in entries():
                (removed if _is_removed(entry) else kept).append(entry)
            freed = sum(entry.num_bytes for entry in removed) + _without_remains(_remains())
            _forget_unused_stamps()
            discard(cache_folder() / "costs")  # of frozen encoders: a second's work to measure
    except OSError as error:
        raise StudyError(f"the cache {cache_folder()} cannot be cleared ({error})") from error
    return Cleared(removed=tuple(removed), kept=tuple(kept), freed=freed)


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


@contextmanager
def _only_one() -> Iterator[None]:
    """One process at a time removes: two would each make the room that is needed once."""
    folder = cache_folder() / USES
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_removed(entry: Entry) -> bool:
    """Remove an entry unless it is used, in which case, or if it cannot be, return False."""
    return not entry.is_used and _removed(entry.path, files_of(entry.path))


def _removed(entry: Path, files: list[Path]) -> bool:
    """Remove files of an entry that nobody uses; who wants it meanwhile waits until it is gone."""
    stamp = stamp_of(entry)
    descriptor = os.open(stamp, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if not is_alone(descriptor):
            return False
        for file in files:
            discard(file)
        if not os.path.lexists(entry):
            stamp.unlink(missing_ok=True)
    except OSError:  # not ours to remove: the next one may do
        return False
    finally:
        os.close(descriptor)
    return True


def _remains() -> list[tuple[Path, Path]]:
    """What processes left half built or half removed, each with the entry that it belongs to."""
    found: list[tuple[Path, Path]] = []
    for kind in KINDS:
        folder = cache_folder() / kind
        names = os.listdir(folder) if folder.is_dir() else []
        for name in names:
            target = _target_of(kind, name)
            if target and (name[0] == "." or target not in names):
                found.append((folder / name, folder / target))
    return [(path, target) for path, target in found if not is_used(target)]


def _target_of(kind: str, name: str) -> str:
    """The entry that an unfinished file or folder belongs to; empty for what is an entry."""
    is_aside = name.startswith(".") and name.endswith((".part", ".old"))
    if kind == "features":
        is_beside = is_aside or name.endswith((".json", ".lock"))
        return f"{name.lstrip('.').partition('.')[0]}.npy" if is_beside else ""
    return name[1:].rsplit(".", 2)[0] if is_aside else ""


def _without_remains(remains: list[tuple[Path, Path]]) -> int:
    """Remove what is left of entries that nobody is building; return the bytes freed."""
    freed = 0
    for path, target in remains:
        num_bytes = size_of(path)[1]
        if _removed(target, [path]):
            freed += num_bytes
    return freed


def _forget_unused_stamps() -> None:
    """Remove the stamps of entries that are not there and that nobody is about to make."""
    for stamp in (cache_folder() / USES).iterdir():
        kind, _, name = stamp.name.partition("-")
        if kind in KINDS and not os.path.lexists(cache_folder() / kind / name):
            _removed(cache_folder() / kind / name, [])
