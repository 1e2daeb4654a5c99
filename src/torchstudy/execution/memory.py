"""How much memory a worker may use, and how one that needs more is told from one that died.

A worker gets a limit on its private memory (`RLIMIT_DATA`, which Linux has counted since 4.7):
torch, NumPy and Python then raise, and the trial ends as out of memory while its neighbours live.
Mapped files and what the worker shares with the process that it was forked from do not count. No
limit is set where a GPU's driver reserves address space of its own, nor on other systems; there,
and for what the limit does not see, the kernel is told to take a worker before the run itself.
"""

import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from torchstudy.errors import StudyError

GIGA = 1e9
KEPT_BACK = 1e9  # bytes for the run itself and the process that computes proposals
ROOM = 0.9  # share of the rest that workers may fill: the system needs some
SMALLEST = 1e9  # bytes; with less a worker could train next to nothing, so the kernel decides
OOM_SCORE = 500  # of 1000 that the kernel adds to a worker's share of memory: proc(5)
RECENT = 1.0  # seconds from one look at the kernel's counter to the next
PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
NO_LIMIT = 1 << 60  # bytes; control groups without a limit state one of about 2**63

_limit: float | None = None  # bytes, of this process if it is a worker


def checked_memory(memory: float | None) -> float | None:
    """Bytes of `memory` gigabytes; StudyError for what cannot be a limit."""
    if memory is None:
        return None
    if not 0 < memory < float("inf"):
        raise StudyError(
            f"memory: must be gigabytes for each worker, more than 0; got {memory!r}; leave it "
            "out for a fair share of what is free"
        )
    return memory * GIGA


def fair_share(num_workers: int) -> float:
    """Bytes for each worker if all that is available now is shared; at least 1 GB."""
    return max(SMALLEST, ROOM * (available() - KEPT_BACK) / num_workers)


def available() -> float:
    """Bytes that this machine, or this process's control group, could still give; inf if unknown.

    What is cached of files counts as available.
    """
    found = _fields(PROC / "meminfo").get("MemAvailable")
    machine = float("inf") if found is None else found * 1024.0
    return min([machine, *_rooms_of_groups()])


def limit_memory(share: float, mapped: Iterable[Path]) -> None:
    """Let this process have `share` bytes beside what it has and the files that it will map."""
    global _limit
    held = _fields(PROC / "self" / "status").get("VmData")
    if held is None or sys.platform != "linux":
        return
    import resource

    files = sum(path.stat().st_size for path in mapped if path.is_file())
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = int(held * 1024 + share + files)
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))
    _limit = share


def offer_to_kernel() -> None:
    """Let the kernel, where memory runs out, take this process before the one that started it."""
    with contextlib.suppress(OSError):  # there is no such file on other systems
        (PROC / "self" / "oom_score_adj").write_text(str(OOM_SCORE))


class KernelKills:
    """Whether the kernel has just killed a process because memory ran out.

    `look` must be called now and then: what happened before the last but one does not count.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked = clock()
        self._before = self._last = kernel_kills()

    def look(self) -> None:
        """Note how many there have been."""
        if self._clock() - self._looked >= RECENT:
            self._before, self._last = self._last, kernel_kills()
            self._looked = self._clock()

    def take(self) -> bool:
        """Whether there has been one that nobody has taken yet."""
        before, self._before = self._before, kernel_kills()
        self._last = self._before
        return self._before > before


def kernel_kills() -> int:
    """How many processes the kernel has killed so far because memory ran out; 0 if unknown.

    In this process's control group (version 2) and those in it, or else on the whole machine.
    """
    for line in _lines(PROC / "self" / "cgroup"):
        events = _fields(CGROUPS / line.rpartition(":")[2].lstrip("/") / "memory.events")
        if "oom_kill" in events:
            return events["oom_kill"]
    return _fields(PROC / "vmstat").get("oom_kill", 0)


def limit_sentence() -> str:
    """What this process may have, for the reason of a trial that needed more."""
    return "" if _limit is None else f"the limit of each worker is {_limit / GIGA:.1f} GB"


def _rooms_of_groups() -> Iterator[float]:
    """What is left in each control group that holds this process, version 2 or 1."""
    for line in _lines(PROC / "self" / "cgroup"):
        number, controllers, path = line.split(":", 2)
        if number == "0":
            names = ("memory.max", "memory.current", "inactive_file")
            yield from _rooms(CGROUPS, path, names)
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _rooms(CGROUPS / "memory", path, names)


def _rooms(root: Path, path: str, names: tuple[str, str, str]) -> Iterator[float]:
    """The room in the group at `path` and those around it; within a container `path` may lie."""
    most_name, used_name, cached_name = names
    inner = root / path.lstrip("/")
    for folder in [inner, *inner.parents]:
        most, used = _number(folder / most_name), _number(folder / used_name)
        if most is not None and used is not None and most < NO_LIMIT:
            cached = _fields(folder / "memory.stat").get(cached_name, 0)
            yield max(0.0, most - used + cached)
        if folder == root:
            return


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _fields(path: Path) -> dict[str, int]:
    """The first number of every line of a file of the kernel's, by the word before it."""
    found = (re.match(r"(\w+):?\s+(\d+)", line) for line in _lines(path))
    return {match[1]: int(match[2]) for match in found if match}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
