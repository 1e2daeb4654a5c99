"""Why a training failed, as an outcome: out of memory, or an error with the user's traceback."""

import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import torch

from torchstudy.execution.memory import limit_sentence
from torchstudy.records import Outcome, Status

# What torch, C++, libraries that are loaded late and the system say instead of MemoryError.
OUT_OF_MEMORY_TEXTS = (
    "can't allocate memory",
    "out of memory",
    "cannot allocate memory",
    "bad_alloc",
    "failed to map segment",
)
PACKAGE = Path(__file__).parents[1]
LIBRARIES = {str(PACKAGE), *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))}


def failure(error: BaseException) -> Outcome:
    """The outcome of a training that raised: `out_of_memory`, or `crashed` with its traceback."""
    shortage = next((each for each in _chain(error) if _is_shortage(each)), None)
    if shortage is None:
        return Outcome(status=Status.CRASHED, reason=own_traceback(error))
    said = next(iter(str(shortage).splitlines()), "")
    parts = ("the worker ran out of memory", said, limit_sentence())
    return Outcome(status=Status.OUT_OF_MEMORY, reason="; ".join(part for part in parts if part))


def own_traceback(error: BaseException) -> str:
    """The traceback from the first frame of the user's code on; whole where there is none.

    What this package did before it called the user's code helps nobody to find the error.
    """
    found = error.__traceback__
    while found is not None and not _is_users(found):
        found = found.tb_next
    return "".join(traceback.format_exception(type(error), error, found or error.__traceback__))


def _is_users(found: TracebackType) -> bool:
    name = found.tb_frame.f_code.co_filename
    return not name.startswith("<frozen") and not any(name.startswith(path) for path in LIBRARIES)


def _is_shortage(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    is_likely = isinstance(error, (RuntimeError, ImportError, OSError))
    return is_likely and any(text in str(error).lower() for text in OUT_OF_MEMORY_TEXTS)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from, or while handling."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
