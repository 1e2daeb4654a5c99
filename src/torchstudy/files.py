"""How files come into being (written aside, synced, renamed), go, and where data are looked up."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a path in the same folder; on success it replaces `path`, else it is removed.

    The path is this call's own, so threads and processes may write the same file at once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{token_hex(4)}.part")
    try:
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def discard(target: Path) -> None:
    """Remove a file or folder that others may be reading: out of the way first, then for good."""
    if not os.path.lexists(target):
        return
    grave = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
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
