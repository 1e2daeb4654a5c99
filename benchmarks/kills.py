"""kill -9 at random moments: nothing acknowledged is lost or doubled, and the end is the same.

    python benchmarks/kills.py [--kills 10] [--seed 0] [--out benchmarks/kills.json]

Runs a small study on digits without interruption, then again (as often as needed) while killing it
at random moments, the coordinator alone and the whole process group in turn, and repeating the
command; compares the tables but for seconds, time stamps and worker. After each kill of the
coordinator alone it waits for its workers to be gone. Exits with 1 if anything differs.
"""

import argparse
import json
import os
import platform
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from torchstudy.records import CLOCK_COLUMNS

STUDY = '''"""A small study to be killed."""

from torchstudy import CNN, AutoencoderProbe, Study

study = Study(
    data="digits",
    families=[CNN, AutoencoderProbe],
    maximize="accuracy",
    space={"CNN.width": 32, "CNN.depth": 2, "AutoencoderProbe.width": 16, "batch_size": 64},
    trials=5,
    epochs=6,
    confirm=(1, 2),
)
'''
COMMAND = [sys.executable, "-m", "torchstudy.cli", "run", "killed", "--workers", "1"]
GONE_WITHIN = 5.0  # seconds for workers to notice that the coordinator has died
TABLES = ("trials", "epochs", "confirmation")


def start(folder: Path, reports: str) -> subprocess.Popen[bytes]:
    """The run, in a session of its own, so that all its processes can be found."""
    log = (folder / f"{reports}.log").open("ab")
    return subprocess.Popen(
        [*COMMAND, "--reports", reports],
        cwd=folder,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def members(session: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def acknowledged(folder: Path, reports: str) -> tuple[set[tuple[object, ...]], ...]:
    """What the ledger holds: trainings that have ended, and epochs."""
    path = folder / reports / "studies.sqlite"
    if not path.exists():
        return set(), set()
    with sqlite3.connect(path) as connection:
        if not connection.execute("select 1 from sqlite_master where name = 'epochs'").fetchall():
            return set(), set()
        ended = connection.execute(
            "select family, number, seed from trainings where status not in ('running', 'paused')"
        ).fetchall()
        epochs = connection.execute("select family, number, seed, epoch from epochs").fetchall()
        check = connection.execute("pragma integrity_check").fetchone()
    connection.close()
    assert check == ("ok",), check
    return set(ended), set(epochs)


def wait_until_gone(session: int) -> float:
    """Seconds until the session has no process left; inf if it still has after the limit."""
    began = time.monotonic()
    while time.monotonic() - began < GONE_WITHIN:
        if not members(session):
            return time.monotonic() - began
        time.sleep(0.02)
    for pid in members(session):
        os.kill(pid, signal.SIGKILL)
    return float("inf")


def kill_repeatedly(folder: Path, kills: int, seconds: float, generator: random.Random) -> dict:
    """Kill runs at random moments, letting each come to its end in the end; what was seen."""
    found = {"kills": 0, "runs": 0, "lost": 0, "doubled": 0, "unequal_tables": []}
    lingering = [0.0]
    while found["kills"] < kills or found["runs"] == 0:
        shutil.rmtree(folder / "killed", ignore_errors=True)
        known: tuple[set, ...] = (set(), set())
        is_over = False
        while not is_over:
            process = start(folder, "killed")
            wait = generator.uniform(0.2, 1.0) * seconds if found["kills"] < kills else None
            try:
                code = process.wait(wait)
                is_over = True
                if code != 0:
                    raise SystemExit((folder / "killed.log").read_text())
            except subprocess.TimeoutExpired:
                is_alone = found["kills"] % 2 == 0
                (os.kill if is_alone else os.killpg)(process.pid, signal.SIGKILL)
                process.wait()
                lingering += [wait_until_gone(process.pid)] if is_alone else []
                found["kills"] += 1
            now = acknowledged(folder, "killed")
            found["lost"] += sum(len(old - new) for old, new in zip(known, now, strict=True))
            known = now
        trials = pd.read_parquet(folder / "killed" / "killed" / "trials.parquet")
        found["runs"] += 1
        found["doubled"] += int(trials.duplicated(["family", "trial"]).sum())
        found["unequal_tables"] += differences(folder)
    return {**found, "slowest_end_of_workers_s": round(max(lingering), 2)}


def differences(folder: Path) -> list[str]:
    """The tables that are not equal, but for the clock's columns."""
    unequal = []
    for name in TABLES:
        tables = [
            pd.read_parquet(folder / reports / "killed" / f"{name}.parquet")
            for reports in ("whole", "killed")
        ]
        first, second = (
            table.drop(columns=[column for column in CLOCK_COLUMNS if column in table])
            for table in tables
        )
        if not first.equals(second):
            unequal.append(name)
    return unequal


def main() -> int:
    """Run, kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "studies").mkdir()
        (folder / "studies" / "killed.py").write_text(STUDY)
        began = time.monotonic()
        if start(folder, "whole").wait() != 0:
            print((folder / "whole.log").read_text(), file=sys.stderr)
            return 1
        seconds = time.monotonic() - began
        result = kill_repeatedly(folder, args.kills, seconds, random.Random(args.seed))
        result |= {
            "uninterrupted_s": round(seconds, 1),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
        }
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    is_fine = not (result["lost"] or result["doubled"] or result["unequal_tables"])
    return 0 if is_fine and result["slowest_end_of_workers_s"] < GONE_WITHIN else 1


if __name__ == "__main__":
    sys.exit(main())
