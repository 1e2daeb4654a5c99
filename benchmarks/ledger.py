"""What a ledger of 10,000 trials and 500,000 epoch rows costs: to look at, to write to, to check.

    python benchmarks/ledger.py [--trials 10000] [--reports FOLDER] [--repeats 3]
                                [--out benchmarks/ledger.json]

Builds the ledger of big_ledger.py (FOLDER may hold one already; it is copied) and measures, the
median and range of the repeats: each command that looks at it, in a fresh process, in processor and
wall seconds and in memory; `begin`, `add_epoch` and `end` in it, 500 of each, in milliseconds; the
same while eight processes read a training's epochs without a pause; the check at the start of a
run; and a rescue after a page of epochs in the middle was overwritten.

Exits with 1 if a call has waited for more than a second beside the readers, if readers were kept
waiting for as long, or if the rescue lost more than the rows of that page.
"""

import argparse
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from big_ledger import NAME, build
from machine import facts, seconds_of, spread

from torchstudy.execution import integrity
from torchstudy.execution.ledger import Ledger
from torchstudy.records import Epoch, Outcome, Status, TrainingKey

COMMANDS = ("list", "status", "best", "table", "table --what epochs", "table --what confirmation")
CALLS, READERS, PAGE = 500, 8, 4096
LONGEST = 1.0  # seconds that nobody may be kept waiting
READER = """
import json, sys, time
from torchstudy.execution.ledger import Ledger
from torchstudy.records import TrainingKey
ledger = Ledger(sys.argv[1], read_only=True)
keys = [t.key for t in ledger.trainings(sys.argv[2])[:50]]
print("ready", flush=True)
sys.stdin.readline()
end, waits = time.monotonic() + float(sys.argv[3]), []
while time.monotonic() < end:
    began = time.perf_counter()
    ledger.epochs(sys.argv[2], keys[len(waits) % 50])
    waits.append(time.perf_counter() - began)
print(json.dumps([len(waits), max(waits)]))
"""


# In a small process: one that is forked off a large one counts the large one's memory as its own.
MEASURED = """
import json, os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
passed = time.perf_counter() - began
print(json.dumps([used.ru_utime + used.ru_stime, passed, used.ru_maxrss / 1024]))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def command(words: str, reports: Path) -> tuple[float, float, float]:
    """Processor seconds, wall seconds and MiB of one command in a process of its own."""
    study = [NAME] if words.split()[0] in ("best", "table") else []
    line = [sys.executable, "-m", "torchstudy.cli", *words.split(), *study]
    measured = [sys.executable, "-c", MEASURED, *line, "--reports", str(reports)]
    ended = subprocess.run(measured, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"optimize {words} failed: {ended.stderr}")
    used, passed, memory = json.loads(ended.stdout)
    return used, passed, memory


def commands(reports: Path, repeats: int) -> dict[str, object]:
    """Every command, as often as asked, each in its turn."""
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name in COMMANDS:
            found[name].append(command(name, reports))
    titles = ("processor_seconds", "seconds", "mebibytes")
    return {
        name: {title: spread([one[at] for one in taken], 2) for at, title in enumerate(titles)}
        for name, taken in found.items()
    }


def row(number: int) -> Epoch:
    """An epoch as a worker tells it, less what it measured on the way."""
    return Epoch(
        epoch=number,
        seconds=1.0,
        finished="2026-01-01T00:00:00+00:00",
        train_loss=0.5,
        valid_loss=0.5,
        learning_rate=0.1,
        grad_norm=1.0,
        metrics={"accuracy": 0.5},
    )


def calls(ledger: Ledger, seed: int) -> dict[str, list[float]]:
    """Milliseconds of `begin`, `add_epoch` and `end` of trainings that are new."""
    waits: dict[str, list[float]] = {"begin": [], "add_epoch": [], "end": []}
    ended = Outcome(status=Status.COMPLETED, epochs=1)

    def timed(name: str, action: Callable[[], object]) -> None:
        began = time.perf_counter()
        action()
        waits[name].append(1000 * (time.perf_counter() - began))

    for number in range(CALLS):
        key = TrainingKey(family="CNN", number=number, seed=seed)
        timed("begin", lambda key=key: ledger.begin(NAME, key, "search", "w"))
        timed("add_epoch", lambda key=key: ledger.add_epoch(NAME, key, 1, row(1)))
        timed("end", lambda key=key: ledger.end(NAME, key, 1, ended, 1.0))
    return waits


def beside_readers(ledger: Ledger, url: str) -> tuple[dict[str, list[float]], list[list[float]]]:
    """The same calls while eight processes read; how often each read, and its longest wait."""
    line = [sys.executable, "-c", READER, url, NAME, "10"]
    readers = [
        subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(READERS)
    ]
    for reader in readers:
        assert reader.stdout is not None
        reader.stdout.readline()
    for reader in readers:
        assert reader.stdin is not None
        reader.stdin.write("\n")
        reader.stdin.flush()
    waits = calls(ledger, seed=2)
    return waits, [json.loads(reader.communicate()[0]) for reader in readers]


def rescued(path: Path) -> dict[str, object]:
    """What a rescue costs and keeps when one page of epochs was overwritten."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        before = connection.execute("SELECT count(*) FROM epochs").fetchone()[0]
        middle = connection.execute("PRAGMA page_count").fetchone()[0] // 2
    with open(path, "r+b") as file:
        while True:  # the next leaf of a table: kind 13 in the file format
            file.seek((middle - 1) * PAGE)
            if file.read(1) == b"\x0d":
                break
            middle += 1
        file.seek((middle - 1) * PAGE)
        file.write(b"\xa5" * PAGE)
    note: list[str] = []
    used, passed = seconds_of(lambda: note.append(integrity.checked(path, "the ledger")))
    with closing(sqlite3.connect(path)) as connection:
        after = connection.execute("SELECT count(*) FROM epochs").fetchone()[0]
    return {
        "processor_seconds": round(used, 1),
        "seconds": round(passed, 1),
        "rows_lost": before - after,
        "said": note[0].partition("Kept: ")[2].partition(". The damaged")[0],
    }


def main() -> None:
    """Measure, print, write, and fail where somebody was kept waiting or rows were lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--reports", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        reports = Path(folder) / "reports"
        if options.reports:
            reports.mkdir()
            shutil.copyfile(options.reports / "studies.sqlite", reports / "studies.sqlite")
        else:
            build(reports, trials=options.trials)
        path = reports / "studies.sqlite"
        url = f"sqlite:///{path}"
        with closing(sqlite3.connect(path)) as connection:
            sizes = [
                connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("trials", "epochs")
            ]
        found: dict[str, object] = {"machine": facts(), "trials": sizes[0], "epochs": sizes[1]}
        found["mebibytes"] = round(path.stat().st_size / 2**20)
        found["commands"] = commands(reports, options.repeats)
        checks = [seconds_of(lambda: integrity.damage(path)) for _ in range(options.repeats)]
        found["check"] = {
            "processor_seconds": spread([used for used, _ in checks], 2),
            "seconds": spread([passed for _, passed in checks], 2),
        }
        with closing(Ledger(url)) as ledger:
            alone = calls(ledger, seed=1)
            among, readers = beside_readers(ledger, url)
        found["milliseconds"] = {
            title: {name: spread(waits, 2) for name, waits in taken.items()}
            for title, taken in (("alone", alone), ("beside_8_readers", among))
        }
        found["reads_of_each_reader"] = spread([count for count, _ in readers], 0)
        found["longest_read_seconds"] = round(max(wait for _, wait in readers), 2)
        found["rescue"] = rescue = rescued(path)
    text = json.dumps(found, indent=2)
    print(text)
    options.out.write_text(text + "\n")
    longest = max(wait for waits in among.values() for wait in waits) / 1000
    lost = int(str(rescue["rows_lost"]))
    if max(longest, *(wait for _, wait in readers)) > LONGEST or not 0 < lost <= PAGE // 100:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
