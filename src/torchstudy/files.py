"""How files come into being (written aside, synced, renamed), go, and where data are looked up."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from torchstudy.errors import CannotWrite
from torchstudy.failpoints import failpoint

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
WHOLE, PIECE = 2**27, 2**18  # bytes that are read for a digest, and those of one of its samples
NOT_ALLOWED = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a path in the same folder; on success it replaces `path`, else it is removed.

    The path is this call's own, so threads and processes may write the same file at once. After a
    power failure there is the old file or the new one; see `last` for the new one. Raises
    CannotWrite, with the file's name, where there is no room or it is not allowed.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.{token_hex(4)}.part")
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield aside
            with aside.open("rb+") as file:
                os.fsync(file.fileno())
            failpoint("before-rename")
            os.replace(aside, path)
            failpoint("after-rename")
        finally:
            with suppress(OSError):  # a folder that may not be changed any more
                aside.unlink(missing_ok=True)


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write at `path` into CannotWrite, which says what to do."""
    try:
        yield
    except CannotWrite:
        raise
    except Exception as error:  # torch has an error of its own while it handles the system's
        found = refusal_in(error)
        if found is None:
            raise
        is_aside = str(found.filename or ".part").endswith(".part")
        raise _cannot_write(path if is_aside else found.filename, found) from error


def refusal_in(error: BaseException | None) -> OSError | None:
    """The system's refusal to write that an error was raised from, if there is one."""
    while error is not None:
        if isinstance(error, OSError) and (error.errno in NO_ROOM + NOT_ALLOWED or _is_cut(error)):
            return error
        error = error.__cause__ or error.__context__
    return None


def last(folder: Path) -> None:
    """Let the files of a folder, and their names, be there after a power failure (4 ms, ext4)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_cut(error: OSError) -> bool:
    """Whether numpy wrote less of an array than it has; the system's reason is lost then."""
    return error.errno is None and str(error).endswith(" written")


def _cannot_write(path: Path | str, refusal: OSError) -> CannotWrite:
    number = refusal.errno or errno.ENOSPC
    remedy = "make room there" if number in NO_ROOM else "let it be written"
    found = CannotWrite(
        f"{path} cannot be written ({os.strerror(number)}); {remedy} and repeat the command: "
        "it goes on where it stopped"
    )
    found.errno = number
    return found


def discard(target: Path) -> None:
    """Remove a file or folder that others may be reading: out of the way first, then for good."""
    if not os.path.lexists(target):
        return
    grave = target.with_name(f".{target.name}.{token_hex(8)}.old")
    grave.mkdir()
    try:
        with suppress(FileNotFoundError):  # another process was faster
            os.rename(target, grave / "gone")
    finally:
        shutil.rmtree(grave, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Replace the file at `path` by `text` (UTF-8), all or nothing."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Replace the file at `path` by indented JSON; NaN and infinities are refused (ValueError)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(path: Path) -> str:
    """The size of a file and a digest of its bytes, at a bounded cost: 0.1 s, once it was read.

    Of a file above `WHOLE` bytes, the first and last piece count and others evenly between them.
    """
    size = path.stat().st_size
    if size <= WHOLE:
        return f"{size}:{sha256_of(path)[:32]}"
    digest, pieces = hashlib.sha256(), WHOLE // PIECE
    with path.open("rb", buffering=0) as file:
        for number in range(pieces):
            file.seek((size - PIECE) * number // (pieces - 1))
            digest.update(file.read(PIECE))
    return f"{size}:{digest.hexdigest()[:32]}"


def cache_folder() -> Path:
    """Where decoded images and features are kept: `$TORCHSTUDY_CACHE`, else `~/.cache`."""
    if given := os.environ.get("TORCHSTUDY_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "torchstudy"


def find_in_data_folders(name: str) -> Path | None:
    """The file or folder called `name` in `$TORCHSTUDY_DATA` or the usual data folders, else None.

    A name that is itself an existing path comes first. The usual folders are `./data`, a `data` or
    `shared/data` folder beside the project, torchstudy's own cache, and `/usr/share/datasets`.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path
    if path.is_absolute():
        return None
    return next((folder / name for folder in data_folders() if (folder / name).exists()), None)


def data_folders() -> list[Path]:
    """The folders in which data sets and weights are looked up, in order."""
    given = os.environ.get("TORCHSTUDY_DATA", "")
    named = [Path(folder).expanduser() for folder in given.split(os.pathsep) if folder]
    usual = ["data", "../data", "../shared/data"]
    downloads = cache_folder() / "downloads"
    return [*named, *map(Path, usual), downloads, Path("/usr/share/datasets")]
