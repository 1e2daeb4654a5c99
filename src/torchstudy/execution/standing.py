"""Whether what was made of many files would be made the same again: a note kept with them says.

A file counts as the same while it is the same file (every one is written aside and renamed) of the
same size and time; what was made of them is told by its bytes, so that a changed, cut or damaged
one is made anew.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from torchstudy.files import sha256_of, write_json, written_aside

Stamp = tuple[int, int, int]


def stamp_of(path: Path) -> Stamp | None:
    """What changes when a file is replaced or written; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def sum_of(sources: Sequence[object]) -> str:
    """The digest of everything that something is made of, as JSON."""
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def stands(note: Path, sources: str, folder: Path) -> bool:
    """Whether the note tells of these sources, and all that it names in the folder is as it was."""
    try:
        noted = json.loads(note.read_text(encoding="utf-8"))
        made: dict[str, str] = noted["made"]
        return noted["of"] == sources and all(
            sha256_of(folder / name) == digest for name, digest in made.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def write_noted(note: Path, sources: str, folder: Path, made: Mapping[str, bytes]) -> None:
    """Write what was made of the sources into the folder, each file all or nothing, and the note.

    The note tells of what this call wrote: where another one wrote at the same time, it is in vain.
    """
    for name, content in made.items():
        with written_aside(folder / name) as aside:
            aside.write_bytes(content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in made.items()}
    write_json(note, {"of": sources, "made": digests})
