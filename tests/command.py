"""The command as a user types it, in one process, and a study small enough for tests."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from torchstudy.cli import app

STUDY = '''"""Stripes that can be told apart."""
import numpy as np
from torchstudy import *

def stripes():
    generator = np.random.default_rng(0)
    labels = np.arange(180) % 3
    images = generator.integers(0, 110, size=(180, 8, 8))
    images[labels == 0, ::2, :] += 90
    images[labels == 1, :, ::2] += 90
    return images.astype(np.uint8), labels

GOOD = dict(
    data=stripes, families=[CNN], maximize="accuracy", trials=2, epochs=2, confirm=(1, 2),
    space={"CNN.width": 8, "CNN.depth": 1},
)
study = Study(**GOOD)
'''


def write_study(folder: Path, name: str, change: str = "") -> None:
    """Put `studies/<name>.py` there: `STUDY`, then lines of its own."""
    path = folder / "studies" / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{STUDY}{change}\n")


def optimize(*words: object) -> Result:
    """`optimize WORDS...` in the current folder: exit code, stdout and stderr."""
    line = [str(word) for word in words]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["optimize", *line])
        result = CliRunner().invoke(app, line)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
