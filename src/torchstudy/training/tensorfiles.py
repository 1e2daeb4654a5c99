"""How tensors are kept in files: nothing but tensors and plain values, and whole when read."""

import zipfile
import zlib
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

DAMAGE = (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, zlib.error)


class Damaged(Exception):
    """A file of tensors that is not as it was written, or was never one; says why."""


def write_tensors(path: Path, value: object) -> None:
    """Write tensors, and plain values around them, to a new file."""
    with path.open("wb") as file:  # torch's own writer does not say why it fails
        torch.save(value, file)


def read_tensors(path: Path, device: "torch.device | str" = "cpu") -> Any:
    """What `write_tensors` wrote, on a device.

    Every byte is checked against the sums in the file, which `torch.load` does not do (0.05 s for
    100 MB). Raises Damaged, and runs nothing of what the file holds; FileNotFoundError.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
        if wrong is not None:
            raise Damaged(f"{wrong} in it is not as it was written")
        return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise
    except UnpicklingError:
        raise Damaged("it holds more than tensors, or is damaged; nothing in it was run") from None
    except (*DAMAGE, zipfile.BadZipFile, NotImplementedError) as error:
        raise Damaged(next(iter(str(error).splitlines()), type(error).__name__)) from None
