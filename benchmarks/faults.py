"""kill -9 at hundreds of moments: what is lost, doubled, left behind or unreadable, and how long.

    python -m benchmarks.faults [--kills 300] [--seed 0] [--out benchmarks/faults.json]

A round is one small study that is killed, repeated, killed again, until a run of it comes to its
end, which is compared with a run that nothing happened to. Two rounds of three run in one process
each, forked from one that has imported everything; the third runs the command with its worker.
Moments are drawn over the failpoints and their passings, one in three over time; of the command,
the coordinator dies alone or all of its processes do. After every kill the ledger and all files are
read. What is found is kept in the JSON file after each round, and the next call goes on from there.
Exits with 1 if anything was lost, doubled, left behind, unreadable or came to another end.
"""

import argparse
import json
import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from benchmarks.machine import facts
from tests.command import write_study
from tests.faults.killing import ONE_THREAD, Killer, killer

from torchstudy.failpoints import POINTS, VARIABLE, failpoint
from torchstudy.schemas import CLOCK_COLUMNS

# Seconds for all to end whose coordinator has died. A worker needs 0.1; a forkserver that is still
# importing torch comes to know of it afterwards: 10.6 s where 11 processes shared 2 cores.
GONE_WITHIN = 30.0
IN_WORKERS = {"before-checkpoint", "amid-checkpoint", "after-checkpoint", "after-epoch"}
IN_WORKERS |= {"before-weights", "after-weights", "before-test", "before-rename", "after-rename"}
TABLES = {
    "trials": ["family", "trial"],
    "epochs": ["family", "trial", "seed", "epoch"],
    "confirmation": ["family", "trial", "seed"],
}
ZEROS = ("kills", "rounds", "acknowledged", "lost", "doubled", "orphans", "unreadable", "unequal")

Known = tuple[set[tuple[object, ...]], set[tuple[object, ...]]]


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When a run is killed: at a failpoint or after some seconds, with its processes or alone."""

    point: str | None = None
    passing: int = 1
    seconds: float = 0.0
    is_alone: bool = False

    def failpoints(self, notes: Path) -> str:
        """The variable that has the run kill itself, and note every epoch that it trains."""
        noted = f"before-checkpoint:note:{notes}"
        action = "kill" if self.is_alone else "killgroup"
        return noted if self.point is None else f"{noted},{self.point}:{action}@{self.passing}"


@dataclass(kw_only=True)
class Found:
    """What all rounds came to, as it stands in the JSON file."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ZEROS, 0))
    moments: Counter[str] = field(default_factory=Counter)  # kills by failpoint, or by time
    kinds: Counter[str] = field(default_factory=Counter)
    again: list[int] = field(default_factory=list)  # epochs trained again, by round
    resumed: dict[str, list[float]] = field(default_factory=dict)  # seconds, by kind
    lingered: list[float] = field(default_factory=list)  # seconds until no process was left

    @classmethod
    def read(cls, path: Path | None) -> "Found":
        """What an earlier call found."""
        if path is None or not path.exists():
            return cls()
        kept = json.loads(path.read_text())["kept"]
        return cls(**{**kept, "moments": Counter(kept["moments"]), "kinds": Counter(kept["kinds"])})

    def summary(self) -> dict[str, object]:
        """Counts, and medians with the largest."""
        return {
            **self.counts,
            "kinds": dict(self.kinds),
            "moments": dict(sorted(self.moments.items())),
            "epochs_run_again": sum(self.again),
            "epochs_run_again_per_kill": round(sum(self.again) / max(1, self.counts["kills"]), 2),
            "seconds_to_resume": {kind: spread(values) for kind, values in self.resumed.items()},
            "seconds_until_workers_were_gone": spread(self.lingered),
        }

    @property
    def is_fine(self) -> bool:
        """Whether every promise was kept."""
        bad = ("lost", "doubled", "orphans", "unreadable", "unequal")
        return not any(self.counts[name] for name in bad)


class Forked:
    """Runs in one process, forked from one that has imported what they need."""

    kind = "one process"

    def __init__(self, server: Killer) -> None:
        self._server = server

    def run(self, folder: Path, moment: Moment, notes: Path, found: Found) -> int:
        """How the run ended."""
        alarm = {"alarm": moment.seconds} if moment.seconds else {}
        return self._server.run(folder, moment.failpoints(notes), **alarm)

    def points(self, generator: random.Random) -> list[str]:
        """Where it may be killed."""
        return list(POINTS)

    name = "lines"


class Command:
    """Runs of `optimize run tiny` with one worker."""

    kind = "command"
    name = "tiny"

    def __init__(self, place: Path) -> None:
        write_study(place, "tiny")
        self._place = place

    def points(self, generator: random.Random) -> list[str]:
        """Those that the coordinator passes."""
        return [point for point in POINTS if point not in IN_WORKERS]

    def run(self, folder: Path, moment: Moment, notes: Path, found: Found) -> int:
        """How the run ended; waits until a killed coordinator's workers are gone."""
        folder.mkdir(parents=True, exist_ok=True)
        given = {**os.environ, **ONE_THREAD, VARIABLE: moment.failpoints(notes)}
        words = ["-m", "torchstudy.cli", "run", "tiny", "--workers", "1", "--reports", str(folder)]
        with (folder / "said.txt").open("ab") as said:
            process = subprocess.Popen(
                [sys.executable, *words],
                cwd=self._place,
                env=given,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        family: set[int] = set()
        began = time.monotonic()
        while process.poll() is None:
            family |= set(descendants(process.pid))
            if moment.seconds and time.monotonic() - began > moment.seconds:
                for pid in [process.pid, *([] if moment.is_alone else descendants(process.pid))]:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                break
            time.sleep(0.02)
        code = process.wait()
        if code < 0:
            self._wait_until_gone(family, found)
        return code

    def _wait_until_gone(self, family: set[int], found: Found) -> None:
        began = time.monotonic()
        while living := [pid for pid in family if is_alive(pid)]:
            if time.monotonic() - began > GONE_WITHIN:
                found.counts["orphans"] += len(living)
                for pid in living:
                    os.kill(pid, signal.SIGKILL)
                break
            time.sleep(0.02)
        found.lingered.append(round(time.monotonic() - began, 2))


Runner = Forked | Command


def one_round(
    runner: Runner, folder: Path, whole: Path, drawn: Callable[[], Moment], found: Found
) -> None:
    """Kill and repeat until a run comes to its end; count what is seen on the way."""
    known: Known = (set(), set())
    notes = folder / "trained.txt"
    num_kills = 0
    while True:
        moment, began = drawn(), time.time()
        code = runner.run(folder, moment, notes, found)
        if code > 0:
            raise SystemExit((folder / "said.txt").read_text())
        if num_kills and (seconds := claimed(folder) - began) > 0:
            found.resumed.setdefault(runner.kind, []).append(round(seconds, 2))
        now = acknowledged(folder, found)
        found.counts["lost"] += sum(len(old - new) for old, new in zip(known, now, strict=True))
        found.counts["acknowledged"] += sum(
            len(new - old) for old, new in zip(known, now, strict=True)
        )
        known = now
        if code == 0:
            break
        num_kills += 1
        found.counts["kills"] += 1
        found.moments[moment.point or "at some time"] += 1
        found.kinds[f"{runner.kind}, {'alone' if moment.is_alone else 'all'}"] += 1
        found.counts["unreadable"] += sum(not is_readable(path) for path in files(folder))
    found.counts["rounds"] += 1
    trained = len(notes.read_text().split())
    found.again.append(trained - len(known[1]))
    compare(folder / runner.name, whole / runner.name, found)


def acknowledged(folder: Path, found: Found) -> Known:
    """Trainings that have ended, and epochs, each with all that the ledger says of it."""
    path = folder / "studies.sqlite"
    if not path.exists():
        return set(), set()
    with sqlite3.connect(path) as connection:
        if not connection.execute("select 1 from sqlite_master where name = 'epochs'").fetchall():
            return set(), set()
        check = connection.execute("pragma integrity_check").fetchone()
        found.counts["unreadable"] += check != ("ok",)
        ended = connection.execute(
            "select family, number, seed, status, epochs from trainings "
            "where status not in ('running', 'paused')"
        ).fetchall()
        epochs = connection.execute("select family, number, seed, epoch, row from epochs")
        result = set(ended), set(epochs.fetchall())
    connection.close()
    return result


def claimed(folder: Path) -> float:
    """When the study was last claimed, in seconds since 1970; 0 if it never was."""
    path = folder / "studies.sqlite"
    if not path.exists():
        return 0.0
    with sqlite3.connect(path) as connection, suppress(sqlite3.OperationalError):
        row = connection.execute("select claimed from studies").fetchone()
    connection.close()
    return datetime.fromisoformat(row[0]).timestamp() if row else 0.0


def files(folder: Path) -> Iterator[Path]:
    """Everything under a final name."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            yield path


def is_readable(path: Path) -> bool:
    """Whether a file is whole, as far as its kind can tell."""
    readers: dict[str, Callable[[Path], object]] = {
        ".pt": lambda path: torch.load(path, weights_only=True),
        ".npz": lambda path: {name: value for name, value in np.load(path).items()},
        ".json": lambda path: json.loads(path.read_text()),
        ".parquet": pd.read_parquet,
        ".csv": pd.read_csv,
        ".html": lambda path: path.read_text().rindex("</html>"),
    }
    if path.suffix not in readers:
        return True
    try:
        readers[path.suffix](path)
    except Exception as error:
        print(f"{path}: {type(error).__name__}: {error}", file=sys.stderr)
        return False
    return True


def compare(folder: Path, whole: Path, found: Found) -> None:
    """Count rows that are there twice, and tables that differ but for the clock's columns."""
    for name, key in TABLES.items():
        table, expected = (pd.read_parquet(place / f"{name}.parquet") for place in (folder, whole))
        found.counts["doubled"] += int(table.duplicated(key).sum())
        first, second = (
            each.drop(columns=[column for column in CLOCK_COLUMNS if column in each])
            for each in (table, expected)
        )
        if not first.equals(second):
            print(f"{folder}: {name} came to another end", file=sys.stderr)
            found.counts["unequal"] += 1


def descendants(pid: int) -> list[int]:
    """The living processes that a process has started, and those that they have."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    known, left = [], [pid]
    while left:
        children = parents.get(left.pop(), [])
        known += children
        left += children
    return known


def is_alive(pid: int) -> bool:
    """Whether a process is there and more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def passings(runner: Runner, folder: Path, found: Found) -> tuple[Counter[str], float]:
    """Run to the end without a kill: how often each failpoint was passed, and the seconds."""
    notes = folder / "passed.txt"
    folder.mkdir(parents=True)

    class Everywhere(Moment):
        def failpoints(self, ignored: Path) -> str:
            return ",".join(f"{point}:note:{notes}" for point in POINTS)

    began = time.monotonic()
    if runner.run(folder, Everywhere(), notes, found) != 0:
        raise SystemExit((folder / "said.txt").read_text())
    return Counter(notes.read_text().split()), time.monotonic() - began


def drawing(
    runner: Runner, passed: Counter[str], seconds: float, generator: random.Random
) -> Callable[[], Moment]:
    """Draws the next moment: two of three at a failpoint's passing, one at some time."""

    def draw() -> Moment:
        is_alone = generator.random() < 0.5
        if generator.random() < 1 / 3:
            return Moment(seconds=generator.uniform(0.05, 1.0) * seconds, is_alone=is_alone)
        point = generator.choice(runner.points(generator))
        passing = generator.randint(1, max(1, passed[point]))
        return Moment(point=point, passing=passing, is_alone=is_alone)

    return draw


def spread(values: list[float]) -> dict[str, float]:
    """Median and largest."""
    if not values:
        return {}
    return {"n": len(values), "median": statistics.median(values), "max": max(values)}


def cost_of_a_failpoint() -> float:
    """Nanoseconds of a call where none is asked for, the best of 5."""
    calls = 200_000
    with_call = min(timeit.repeat("f('after-epoch')", globals={"f": failpoint}, number=calls))
    return round(with_call / calls * 1e9, 1)


def main() -> int:
    """Kill, repeat, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found = Found.read(args.out)
    with tempfile.TemporaryDirectory() as name, killer() as server:
        os.environ.setdefault("TORCHSTUDY_CACHE", f"{name}/cache")
        place = Path(name)
        runners: list[Runner] = [Forked(server), Command(place)]
        passed = {
            runner.kind: passings(runner, place / "whole" / runner.kind, found)
            for runner in runners
        }
        while found.counts["kills"] < args.kills:
            number = found.counts["rounds"]
            runner = runners[number % 3 == 2]
            generator = random.Random(f"{args.seed}/{number}")
            drawn = drawing(runner, *passed[runner.kind], generator)
            folder = place / f"round-{number}"
            one_round(runner, folder, place / "whole" / runner.kind, drawn, found)
            write(found, passed, args.out)
    print(json.dumps(found.summary(), indent=2))
    return 0 if found.is_fine else 1


def write(found: Found, passed: dict[str, tuple[Counter[str], float]], out: Path | None) -> None:
    """Keep what was found so far, with what is needed to go on."""
    counts = found.counts
    print(f"{counts['kills']} kills, {counts['rounds']} rounds, {counts['lost']} lost", flush=True)
    if out is None:
        return
    uninterrupted = {kind: round(seconds, 1) for kind, (_, seconds) in passed.items()}
    result = {
        **found.summary(),
        "uninterrupted_s": uninterrupted,
        "failpoint_ns": cost_of_a_failpoint(),
        "machine": facts(),
        "kept": vars(found),
    }
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
