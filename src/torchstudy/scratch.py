"""Folders for work that leaves nothing: gone when it ends, and swept up if it was killed."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

REPLAYS = ".replay-"  # how the folders begin that replays train in
YOUNG = 60.0  # seconds in which a folder may not be locked yet by whoever made it


@contextmanager
def scratch_folder(place: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `place`, locked while this lives, and removed afterwards.

    What killed processes left there under the same prefix goes first.
    """
    sweep(place, prefix)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=place) as folder:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks: nothing is swept up there
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Path(folder)
        finally:
            os.close(descriptor)


def sweep(place: Path, prefix: str) -> None:
    """Remove the folders that nobody holds; what cannot be removed stays."""
    for folder in sorted(place.glob(f"{prefix}*")):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > YOUNG and _is_left(folder):
                shutil.rmtree(folder)


def _is_left(folder: Path) -> bool:
    """Whether no living process holds it; OSError where that cannot be told."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
