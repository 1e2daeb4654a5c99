"""When a file counts as changed: its path, size and times, as one digest over a listing."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


def stamp_of(files: Iterable[tuple[str, Path]], *context: str) -> str:
    """A digest over (name, size, modification time, change time) of every file, and `context`."""
    digest = hashlib.sha256(repr(context).encode())
    for name, path in files:
        digest.update(stamped(name, os.stat(path)))
    return digest.hexdigest()


def stamped(name: str, stat: os.stat_result) -> bytes:
    """What identifies one state of one file."""
    return repr((name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)).encode()
