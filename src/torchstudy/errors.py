"""What can go wrong, as exceptions a user can act on.

TorchstudyError
├── StudyError            a declaration, name or file that cannot work; lists every problem
│   ├── SpaceError        a search space or a configuration that does not fit it
│   └── DataError         images that cannot be found, read or split
└── RunError              a run that could not start or go on
    ├── StudyClaimed      another run holds this study
    ├── StorageError      the ledger's database cannot be opened
    ├── CannotWrite       no room, or not allowed: the same run goes on once a file can be written
    ├── StudyChanged      the declaration differs from the one the results belong to
    └── Interrupted       stopped by a signal, with everything saved
"""

import difflib
from collections.abc import Iterable, Sequence

BEFORE_ERRORS = ("Traceback ", " ")  # how the lines of a traceback begin, but for the last


class TorchstudyError(Exception):
    """Base of every error this library raises on purpose."""


class StudyError(TorchstudyError):
    """Something declared cannot work. `problems` holds one sentence for each thing to change."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__(_listed(self.problems))


class SpaceError(StudyError):
    """A search space, or a configuration that does not belong to it."""


class DataError(StudyError):
    """Images that cannot be found, read or split."""


class RunError(TorchstudyError):
    """A run that could not start or go on."""


class StudyClaimed(RunError):
    """Another run holds the study."""


class StorageError(RunError):
    """The ledger's database cannot be opened."""


class CannotWrite(RunError, OSError):
    """The system refuses to write a file; it is nobody's fault who wanted to."""


class StudyChanged(RunError):
    """The study differs from the one that the stored results belong to."""


class Interrupted(RunError):
    """A run was stopped by a signal; everything finished is saved."""


class InterruptedAtOnce(Interrupted):
    """A second signal stopped a run: nothing more is written."""


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """`" (did you mean 'optimizer'?)"` when a known name is close to what was given, else `""`."""
    spelled = {name.lower(): name for name in known}
    close = difflib.get_close_matches(str(given).lower(), list(spelled), n=1, cutoff=0.6)
    return f" (did you mean {spelled[close[0]]!r}?)" if close else ""


def _listed(problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    return f"{len(problems)} problems:\n" + "\n".join(f"  - {problem}" for problem in problems)


def reason_to_stop(error: Exception) -> str:
    """The error that a run stopped on; empty where it was asked to stop."""
    return "" if isinstance(error, Interrupted) else str(error) or type(error).__name__


def brief(error: str) -> str:
    """An error on one line, without the lines of a traceback that only lead to it."""
    kept = [line for line in error.splitlines() if line and not line.startswith(BEFORE_ERRORS)]
    return "; ".join(kept).replace(":; ", ": ")
