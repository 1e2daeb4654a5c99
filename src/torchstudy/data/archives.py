"""Archives of images: extracted once into the cache, within caps, never outside their folder."""

import gzip
import hashlib
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

Member: TypeAlias = tuple[str, int, Callable[[], object]]  # name, bytes, write it
DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, RuntimeError,
)  # fmt: skip


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
        if not any(entry.is_dir() for entry in visible(child)):
            return folder
        folder = child


def _extract(archive: Path, folder: Path) -> None:
    opened = _zip_members if archive.name.lower().endswith(".zip") else _tar_members
    total = 0
    try:
        for count, (name, size, write) in enumerate(opened(archive, folder), start=1):
            total += size
            if count > MAX_MEMBERS or total > MAX_BYTES:
                limit = f"{MAX_MEMBERS:,} files and {MAX_BYTES // 2**30} GiB"
                raise DataError(f"data: {archive} holds more than {limit}; extract it yourself")
            if PurePosixPath(name).is_absolute() or ".." in name.replace("\\", "/").split("/"):
                raise DataError(f"data: {archive} is refused: {name!r} lies outside of it")
            write()
    except DAMAGE as error:
        raise DataError(f"data: {archive} cannot be extracted ({error})") from error


def _tar_members(archive: Path, folder: Path) -> Iterator[Member]:
    with tarfile.open(archive) as tar:
        for member in tar:
            yield member.name, member.size, partial(tar.extract, member, folder, filter="data")


def _zip_members(archive: Path, folder: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            yield member.filename, member.file_size, partial(opened.extract, member, folder)
