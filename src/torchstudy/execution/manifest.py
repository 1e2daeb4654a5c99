"""Which files of a study's folder are as the run left them: a list with digests, kept beside."""

import json
from pathlib import Path

from torchstudy.files import digest_of, write_json

MANIFEST = "files.json"
PASSING = ("checkpoints", "replays", "repeats")  # folders that change while nothing is written


def note_files(folder: Path) -> None:
    """Write down what there is now, after everything else has been written."""
    names = sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] not in (*PASSING, MANIFEST)
    )
    write_json(folder / MANIFEST, {name: digest_of(folder / name) for name in names})


def damaged_files(folder: Path) -> list[str]:
    """What is gone or is not as it was written, by name; the list itself where it cannot be read.

    Nothing where no list was ever written: by versions before this one.
    """
    try:
        noted = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return [name for name, digest in noted.items() if _digest(folder / name) != digest]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, AttributeError):
        return [MANIFEST]


def _digest(path: Path) -> str:
    try:
        return digest_of(path)
    except OSError:
        return ""
