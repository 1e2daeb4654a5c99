"""How folders come into being in the cache: built aside, renamed when complete, first one wins."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from torchstudy.caching import held
from torchstudy.errors import DataError
from torchstudy.eviction import cache_limit, make_room
from torchstudy.files import cache_folder

ABANDONED = 7 * 24 * 3600  # seconds


@contextmanager
def building(target: Path) -> Iterator[Path]:
    """Yield a new folder beside `target`; on success it becomes `target`, else it is removed.

    When another process finished the same folder first, that one stays. What has not been used for
    longest leaves the cache when it is full; `target` is safe until the block has ended.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with held(target):
        _sweep(target.parent)
        aside = target.with_name(f".{target.name}.{token_hex(8)}.part")
        aside.mkdir()
        try:
            yield aside
            try:
                os.rename(aside, target)
            except OSError:
                if not target.is_dir():
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        make_room()


def _sweep(folder: Path) -> None:
    """Remove what processes that were killed long ago left half built."""
    for entry in os.scandir(folder):
        if entry.name.startswith(".") and entry.name.endswith((".part", ".old")):
            with suppress(FileNotFoundError):  # another process sweeps too
                if time.time() - entry.stat().st_mtime > ABANDONED:
                    shutil.rmtree(entry.path, ignore_errors=True)


@contextmanager
def cache_errors() -> Iterator[None]:
    """Turn a cache folder that cannot be written into a DataError that says what to set.

    A limit that is no size is a StudyError before anything is done.
    """
    try:
        cache_limit()
        yield
    except OSError as error:
        raise DataError(
            f"data: the cache folder {cache_folder()} cannot be used ({error}); "
            "set TORCHSTUDY_CACHE to a folder with room that can be written"
        ) from error
