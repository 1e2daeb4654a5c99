"""Where a process can be made to fail on purpose, so that tests see what is left and goes on.

`TORCHSTUDY_FAILPOINTS="before-ledger-commit:kill@3,after-checkpoint:raise"` lets a process kill
itself the third time that it is about to commit, and raise after its first checkpoint. An entry is
`name:action@passing`, with passing 1 where it is left out. Each process counts for itself; workers
have the variable from the process that started theirs. Actions: kill (SIGKILL to itself),
killgroup (to its process group), exit (at once, code 3), raise (RuntimeError), stop (SIGSTOP), full
(OSError, as of a full disk), sleep:SECONDS; and note:FILE, which adds the point's name to a file at
every passing from that one on.
"""

import errno
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from torchstudy.errors import StudyError

VARIABLE = "TORCHSTUDY_FAILPOINTS"

POINTS = (
    "before-ledger-commit",
    "after-ledger-commit",
    "after-claim",
    "after-ask",  # a proposal is known, and not yet recorded
    "after-proposal",  # it is recorded
    "after-begin",  # a training is recorded as running, and no worker has it
    "before-checkpoint",
    "amid-checkpoint",  # written aside, under no final name yet
    "after-checkpoint",  # the epoch in it has not been sent
    "after-epoch",  # the epoch has been sent
    "before-rename",  # of any file
    "after-rename",
    "before-weights",
    "after-weights",
    "after-outcome",  # recorded; its checkpoint and what it outdates are still there
    "after-confirmation",  # one fresh training has ended
    "before-test",  # the test split has not been read
    "after-test",  # it has been, and the reading is not recorded
    "before-tables",
    "amid-tables",  # between two of them
    "after-tables",
    "after-experiment",  # an Ax experiment is written
    "after-evidence",
    "amid-best",  # between the files of a saved network
    "before-report",
    "after-report",
    "before-release",  # all is written, and the study still held
)
ACTIONS = ("kill", "killgroup", "exit", "raise", "stop", "full", "sleep:SECONDS", "note:FILE")


@dataclass(slots=True, kw_only=True)
class _Failure:
    """What happens at one point once it has been passed `left` times more, or also afterwards."""

    happens: Callable[[], None]
    left: int
    is_repeated: bool = False


_armed: dict[str, list[_Failure]] = {}


def failpoint(name: str) -> None:
    """Fail here if that was asked for; else cost nothing (30 ns: benchmarks/faults.py)."""
    if _armed:
        _passed(name)


def arm(text: str) -> None:
    """Let this process fail as `text` says from now on, and in no other way; "" for never.

    Raises StudyError for an entry with an unknown point or action.
    """
    found: dict[str, list[_Failure]] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, failure = _parsed(entry)
        found.setdefault(name, []).append(failure)
    _armed.clear()
    _armed.update(found)


def _passed(name: str) -> None:
    assert name in POINTS, name
    for failure in _armed.get(name, ()):
        failure.left -= 1
        if failure.left == 0 or (failure.left < 0 and failure.is_repeated):
            failure.happens()


def _parsed(entry: str) -> tuple[str, _Failure]:
    name, _, rest = entry.partition(":")
    action, _, passing = rest.partition("@")
    if name not in POINTS:
        near = get_close_matches(name, POINTS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else f"; there are {', '.join(POINTS)}"
        raise StudyError(f"{VARIABLE}: no failpoint {name!r}{hint}")
    if passing and not (passing.isdecimal() and int(passing)):
        raise StudyError(f"{VARIABLE}: {entry!r} must end in @1, @2, ... or without a number")
    happens, is_note = _action(entry, name, action), action.startswith("note:")
    return name, _Failure(happens=happens, left=int(passing or 1), is_repeated=is_note)


def _action(entry: str, name: str, action: str) -> Callable[[], None]:
    kind, _, argument = action.partition(":")
    known: dict[str, Callable[[], None]] = {
        "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "killgroup": lambda: os.killpg(0, signal.SIGKILL),
        "exit": lambda: os._exit(3),
        "raise": lambda: _raise(RuntimeError(f"the failpoint {name} raises")),
        "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
        "full": lambda: _raise(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
    }
    if kind == "sleep" and argument.replace(".", "", 1).isdecimal():
        seconds = float(argument)
        return lambda: time.sleep(seconds)
    if kind == "note" and argument:
        return lambda: _note(Path(argument), name)
    if action not in known:
        there = ", ".join(ACTIONS)
        raise StudyError(f"{VARIABLE}: {entry!r} has no action {action!r}; there are {there}")
    return known[action]


def _note(path: Path, name: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{name}\n")


def _raise(error: Exception) -> None:
    raise error


arm(os.environ.get(VARIABLE, ""))
