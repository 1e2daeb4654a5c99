"""How long the command takes to answer: seconds until it ends, or until a run trains.

    python benchmarks/startup.py [--repeats 5] [--out benchmarks/startup.json]

Every command runs in a fresh process and a folder with one finished study of digits;
`run` is timed until the first epoch of a new study has begun, with an empty ledger and the images
decoded already. In each repeat every command has its turn, beside a bare `import torch`, and one
with `import optuna` too where that is installed. Medians, with their range, of wall-clock and of
processor seconds.

Exits with 1 if `--help`, `list`, `status` or `table` uses more processor time than `import torch`.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

STUDY = '''"""{about}."""

from torchstudy import MLP, Study

study = Study(data="digits", families=[MLP], maximize="accuracy", trials={trials}, epochs=1,
              confirm=None, seed={seed})
'''
COMMAND = (sys.executable, "-m", "torchstudy.cli")
COMMANDS = {
    "import torch": (sys.executable, "-c", "import torch"),
    "import optuna, torch": (sys.executable, "-c", "import optuna, torch"),
    "optimize --help": (*COMMAND, "--help"),
    "optimize list": (*COMMAND, "list"),
    "optimize status": (*COMMAND, "status"),
    "optimize table done": (*COMMAND, "table", "done"),
    "optimize report done": (*COMMAND, "report", "done"),
}
FIRST = "optimize run, until it trains"
QUICK = ("optimize --help", "optimize list", "optimize status", "optimize table done")


def seconds(command: tuple[str, ...], folder: Path) -> tuple[float, float]:
    """Wall-clock and processor seconds of a command."""
    began, used = time.perf_counter(), processor_seconds()
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    return time.perf_counter() - began, processor_seconds() - used


def until_training(folder: Path, number: int) -> tuple[float, float]:
    """Seconds until the first training of a new study has started, and the run's processor time."""
    name = f"new{number}"
    study = STUDY.format(about="New", trials=1, seed=1)
    (folder / "studies" / f"{name}.py").write_text(study)
    command = (*COMMAND, "run", name, "--workers", "1")
    place = folder / "reports" / name / "checkpoints"
    began, used = time.perf_counter(), processor_seconds()
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
        while not list(place.glob("*/*/log.txt")):  # a worker's first act
            assert process.poll() is None, "the run ended before it trained"
            time.sleep(0.002)
        found = time.perf_counter() - began
        process.wait()
    assert process.returncode == 0
    return found, processor_seconds() - used


def processor_seconds() -> float:
    """What the children that have ended used."""
    times = os.times()
    return times.children_user + times.children_system


def summary(times: list[tuple[float, float]]) -> dict[str, object]:
    """One row of the result."""
    wall, used = zip(*times, strict=True)
    return {
        "seconds": round(statistics.median(wall), 2),
        "range": [round(min(wall), 2), round(max(wall), 2)],
        "processor_seconds": round(statistics.median(used), 2),
    }


def main() -> int:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    commands = dict(COMMANDS)
    if importlib.util.find_spec("optuna") is None:
        del commands["import optuna, torch"]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in [*commands, FIRST]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "studies").mkdir()
        (folder / "studies" / "done.py").write_text(STUDY.format(about="Done", trials=5, seed=0))
        seconds((*COMMAND, "run", "done"), folder)
        for number in range(args.repeats):
            for title, command in commands.items():
                found[title].append(seconds(command, folder))
            found[FIRST].append(until_training(folder, number))
    rows = {title: summary(times) for title, times in found.items()}
    result = {
        "commands": rows,
        "repeats": args.repeats,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
    }
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    used = {t: statistics.median(used for _, used in times) for t, times in found.items()}
    return 0 if all(used[title] < used["import torch"] for title in QUICK) else 1


if __name__ == "__main__":
    sys.exit(main())
