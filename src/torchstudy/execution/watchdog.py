"""Whether a worker still gets on: how long it has been silent, and where it stands if it hangs."""

import faulthandler
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from torchstudy.errors import StudyError

IDLE_STALL = 600.0  # seconds of silence of a worker that uses no processor, until it counts as hung
BUSY_STALL = 3600.0  # of one that computes: a single fit or evaluation may take long
BUSY = 0.1  # share of a processor above which a worker computes
STARTING = 60.0  # at least, until a worker has begun: a busy machine may take long to start it
BEAT = 1.0  # seconds between two signs of life
SHORTEST = 0.2  # seconds that `stall` may be
DUMP_WITHIN = 1.0  # seconds for a worker to write down where it stands
PAUSE = 0.02  # seconds between two looks at whether it has
FRAMES = 8  # innermost ones that a reason shows

DUMP = getattr(signal, "SIGUSR1", None)  # there is none on Windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds without a sign of life after which a worker counts as hung."""

    idle: float = IDLE_STALL
    busy: float = BUSY_STALL

    @classmethod
    def of(cls, stall: float | None) -> "Patience":
        """`stall` seconds whatever the worker does; StudyError for what cannot be."""
        if stall is None:
            return cls()
        if not SHORTEST <= stall < float("inf"):
            raise StudyError(
                f"stall: must be at least {SHORTEST} seconds; got {stall!r}; leave it out for "
                f"{IDLE_STALL:.0f} s, or {BUSY_STALL:.0f} s of a worker that computes"
            )
        return cls(idle=stall, busy=stall)

    @property
    def beat(self) -> float:
        """Seconds between two signs of life that a worker gives."""
        return min(BEAT, self.idle / 4)


class Attention:
    """Seconds that passed while this process was looking.

    A clock that stops while the run itself is stopped or suspended, or is busy for long: nobody is
    held responsible for a silence that was not listened to.
    """

    def __init__(self, most: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._looked = clock()
        self.seconds = 0.0

    def look(self, waited: float = 0.0) -> float:
        """The seconds so far, with those since the last look.

        These are at most the `waited` ones, which were meant to pass, and `most` beside them.
        """
        now = self._clock()
        self.seconds += min(waited + self._most, now - self._looked)
        self._looked = now
        return self.seconds


@dataclass(slots=True, kw_only=True)
class Silence:
    """How long one worker has said nothing, on the clock of `Attention`."""

    pid: int
    since: float
    has_begun: bool = False
    _noticed: float = 0.0
    _used: float | None = None  # processor seconds when the silence was noticed

    def heard(self, now: float) -> None:
        """It has said something."""
        self.since, self._used, self.has_begun = now, None, True

    def too_long(self, now: float, patience: Patience) -> float | None:
        """The limit that the silence has passed, in seconds; None while it may go on."""
        silent = now - self.since
        if silent >= patience.idle / 2 and self._used is None:
            self._used, self._noticed = processor_seconds(self.pid), now
        if silent < patience.idle:
            return None
        limit = patience.busy if self.computes(now) else patience.idle
        limit = limit if self.has_begun else max(limit, STARTING)
        return limit if silent >= limit else None

    def computes(self, now: float) -> bool:
        """Whether it has used a processor since the silence was noticed; True if nobody knows."""
        used = processor_seconds(self.pid)
        if used is None or self._used is None:
            return True
        return used - self._used >= BUSY * (now - self._noticed)


def processor_seconds(pid: int) -> float | None:
    """Processor time of a process; None where the system does not tell."""
    fields = _stat(pid)
    return (
        None if fields is None else (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    )


def show_stack_on_request(descriptor: int) -> None:
    """Let `where_it_stands` of another process make this one write its stacks to a file.

    Also when it dies of a fault in a library. It needs neither the interpreter's lock nor memory.
    """
    faulthandler.enable(descriptor)
    if DUMP is not None:
        faulthandler.register(DUMP, descriptor, all_threads=True)


def hang_reason(silence: Silence, now: float, limit: float, log: Path) -> str:
    """Why a process is taken to hang: where it stands, and last what it does there."""
    fields = _stat(silence.pid)
    if fields is not None and fields[0] in "Tt":
        return f"{_showed_none(limit)}: it was stopped by a signal or a debugger"
    what = "it computed" if silence.computes(now) else "it waited and used no processor"
    return f"{where_it_stands(silence.pid, log)}\n{_showed_none(limit)}: {what}".lstrip()


def where_it_stands(pid: int, log: Path) -> str:
    """The innermost frames of a process that promised to show its stacks in `log`; "" if none."""
    if DUMP is None:
        return ""
    before = size = _size(log)
    with suppress(ProcessLookupError):
        os.kill(pid, DUMP)
    deadline = time.monotonic() + DUMP_WITHIN
    while time.monotonic() < deadline and (size == before or size != _size(log)):
        size = _size(log)
        time.sleep(PAUSE)
    written = log.read_bytes()[before:] if log.exists() else b""
    stack = written.decode(errors="replace").partition("Current thread")[2].splitlines()
    frames = [line for line in stack if line.startswith("  File ")]
    return "\n".join(["it stood, innermost first, in", *frames[:FRAMES]]) if frames else ""


def _showed_none(limit: float) -> str:
    return f"the worker showed no progress for {limit:g} s"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _stat(pid: int) -> list[str] | None:
    """The fields of proc(5) stat from the third, the state, on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()
