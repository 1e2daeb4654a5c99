"""Archives of images: extracted once into the cache, within caps, never outside their folder."""

import errno
import gzip
import hashlib
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from torchstudy.caching import hold_until_exit
from torchstudy.data.cachefolder import building, cache_errors
from torchstudy.data.folders import visible
from torchstudy.data.stamps import stamped
from torchstudy.errors import DataError
from torchstudy.files import cache_folder

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
MAX_BYTES = 20 * 2**30
MAX_MEMBERS = 2_000_000
MAX_RATIO = 200  # of what an archive above a GiB holds to its own size: images hardly shrink
MAX_DEPTH = 40  # folders in folders

Member: TypeAlias = tuple[str, int, Callable[[], object]]  # name, bytes, write it
DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError,
    RuntimeError, ValueError, LookupError,
)  # fmt: skip
ODD_NAMES = (
    None, errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP,
    errno.ENAMETOOLONG, errno.EILSEQ, errno.ENOTEMPTY,
)  # fmt: skip
"""Of system errors, those that an archive's own names and bytes bring about; not a full disk."""


def is_archive(path: Path) -> bool:
    """Whether the name ends like that of an archive that can be read."""
    return path.name.lower().endswith(SUFFIXES)


def extracted(archive: Path) -> Path:
    """The folder that holds what the archive does; extracted when it is not there yet.

    A single folder at the top is stepped into. It stays in the cache while this process lives: its
    files are read one by one. DataError: damaged, too large, or hostile.
    """
    archive = archive.resolve()
    state = stamped(str(archive), archive.stat())
    name = f"{_stem(archive)[:80]}-{hashlib.sha256(state).hexdigest()[:16]}"
    target = cache_folder() / "archives" / name
    hold_until_exit(target)
    if not target.is_dir():
        with cache_errors(), building(target) as aside:
            _extract(archive, aside)
    return _inner(target)


def _stem(archive: Path) -> str:
    suffix = next(suffix for suffix in SUFFIXES if archive.name.lower().endswith(suffix))
    stem = archive.name[: -len(suffix)]
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in stem)


def _inner(folder: Path) -> Path:
    """`folder`, or the folder below it that alone holds the folders of classes or splits."""
    while True:
        entries = visible(folder)
        if len(entries) != 1 or not entries[0].is_dir(follow_symlinks=False):
            return folder
        child = Path(entries[0].path)
        if not any(os.path.isdir(entry.path) for entry in visible(child)):
            return folder
        folder = child


def _extract(archive: Path, folder: Path) -> None:
    opened = _zip_members if archive.name.lower().endswith(".zip") else _tar_members
    most = min(MAX_BYTES, max(2**30, MAX_RATIO * archive.stat().st_size))
    total = 0
    try:
        for count, (name, size, write) in enumerate(opened(archive, folder), start=1):
            total += size
            if count > MAX_MEMBERS or total > most:
                limit = f"{MAX_MEMBERS:,} files and {most / 2**30:.3g} GiB"
                raise DataError(f"data: {archive} holds more than {limit}; extract it yourself")
            if reason := _refusal(name):
                raise DataError(f"data: {archive} is refused: {name!r} {reason}")
            write()
    except DAMAGE as error:
        raise DataError(f"data: {archive} cannot be extracted ({_first_line(error)})") from error
    except OSError as error:
        if error.errno not in ODD_NAMES:
            raise
        reason = error.strerror or _first_line(error)
        raise DataError(f"data: {archive} cannot be extracted ({reason})") from error


def _refusal(name: str) -> str:
    """Why a member of this name is not extracted; empty if it is."""
    parts = name.replace("\\", "/").split("/")
    if PurePosixPath(name).is_absolute() or ".." in parts:
        return "lies outside of it"
    return f"lies in more than {MAX_DEPTH} folders" if len(parts) > MAX_DEPTH + 1 else ""


def _first_line(error: Exception) -> str:
    """What an error says; of a message of several lines, which lists what was tried, the first."""
    text = str(error.args[0]) if isinstance(error, KeyError) else str(error)  # else in quotes
    first, *more = text.splitlines() or [""]
    return "no archive of this kind, or damaged" if more else first or type(error).__name__


def _tar_members(archive: Path, folder: Path) -> Iterator[Member]:
    with tarfile.open(archive) as tar:
        regular: set[str] = set()
        for member in tar:
            # The filter of Python before 3.11.13 can be led out of the folder by chains of links.
            if member.issym() or (member.islnk() and member.linkname not in regular):
                raise tarfile.TarError(
                    f"{member.name!r} is a link to {member.linkname!r}; extract it yourself"
                )
            if member.isreg():
                regular.add(member.name)
            yield member.name, member.size, partial(tar.extract, member, folder, filter="data")


def _zip_members(archive: Path, folder: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            yield member.filename, member.file_size, partial(opened.extract, member, folder)
