"""How long the end of a large study takes: its tables, its Ax files and its report.

    python benchmarks/report_scale.py [--trials 120 1000 5000 10000] [--out FILE]

For each size `big_ledger.py` builds a finished study of three families, 50 epoch rows per trial.
Then, each in a process of its own: `optimize report` (it writes the tables and the page), the
tables alone, and the `.ax.json` of all families. Wall-clock and processor seconds, the most memory
that the process held (MiB), and sizes of files (MB, 10^6 bytes). Medians with their range; the
largest sizes are measured once.

Exits with 1 if the report of 5,000 trials takes more than 10 processor seconds or 6 MB, or that of
120 more than 3 MB.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BENCHMARKS = Path(__file__).parent
MODULE = "torchstudy.cli"
TABLES = """
import sys
from pathlib import Path
from torchstudy.execution.outputs import write_tables
from torchstudy.stored import find_study, reading
reports = Path(sys.argv[1])
with reading(reports, None) as opened:
    ledger, state = find_study(opened, reports, "big")
    write_tables(ledger, state, reports / "big")
"""
AX = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import big_ledger
from torchstudy.search.experiment import write_experiment
from torchstudy.stored import find_study, reading
reports = Path(sys.argv[1])
study = big_ledger.study_of(int(sys.argv[3]), 81)
with reading(reports, None) as opened:
    ledger, _ = find_study(opened, reports, "big")
    searched = ledger.trainings("big", "search")
for family in study.families:
    own = [training for training in searched if training.key.family == family.__name__]
    place = reports / "big" / f"{family.__name__}.ax.json"
    write_experiment(place, "big", study.space_of(family), study.objectives, own)
"""
LIMITS = {120: (None, 3.0), 5_000: (10.0, 6.0)}  # processor seconds, MB
ONCE = 5_000  # trials from which one repeat is enough


FACTS = """
import json, sys
sys.path.insert(0, sys.argv[1])
import machine
print(json.dumps(machine.facts()))
"""


def cost(command: list[str]) -> dict[str, float]:
    """Wall-clock and processor seconds of a process, and the most memory that it held.

    A child counts the memory of the process that it was forked from, so this one stays small: what
    needs torch is done in others.
    """
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return {
        "seconds": time.perf_counter() - began,
        "processor_seconds": used.ru_utime + used.ru_stime,
        "memory_mib": used.ru_maxrss / 1024,
    }


def measured(command: list[str], repeats: int) -> dict[str, object]:
    """Costs of a command over some repeats."""
    found = [cost(command) for _ in range(repeats)]
    return {
        name: {
            "median": round(statistics.median(each[name] for each in found), 2),
            "range": [round(end(each[name] for each in found), 2) for end in (min, max)],
        }
        for name in found[0]
    }


def of_size(trials: int, repeats: int) -> dict[str, object]:
    """What a study of so many trials costs at its end."""
    with tempfile.TemporaryDirectory() as folder:
        reports = Path(folder)
        python, here = [sys.executable], str(BENCHMARKS)
        builder = [*python, str(BENCHMARKS / "big_ledger.py"), folder, "--trials", str(trials)]
        subprocess.run(builder, check=True, stdout=subprocess.DEVNULL)
        commands = {
            "report": [*python, "-m", MODULE, "report", "big", "--reports", folder],
            "tables": [*python, "-c", TABLES, folder],
            "ax": [*python, "-c", AX, folder, here, str(trials)],
        }
        found: dict[str, object] = {
            name: measured(command, repeats) for name, command in commands.items()
        }
        sizes = {
            path.name: round(path.stat().st_size / 1e6, 2)
            for path in sorted((reports / "big").iterdir())
            if path.is_file()
        }
        ledger = round((reports / "studies.sqlite").stat().st_size / 1e6, 1)
        return {"repeats": repeats, **found, "megabytes": {"studies.sqlite": ledger, **sizes}}


def within(trials: int, found: dict[str, object]) -> bool:
    """Whether a report keeps to its limits, where it has some."""
    seconds, megabytes = LIMITS.get(trials, (None, None))
    report, sizes = found["report"], found["megabytes"]
    assert isinstance(report, dict)
    assert isinstance(sizes, dict)
    is_quick = seconds is None or report["processor_seconds"]["median"] <= seconds
    return is_quick and (megabytes is None or sizes["report.html"] <= megabytes)


def main() -> int:
    """Measure every size, write it down, and say whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[120, 1_000, 5_000, 10_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    asked = [sys.executable, "-c", FACTS, str(BENCHMARKS)]
    facts = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    found: dict[str, object] = {"machine": json.loads(facts)}
    fine = True
    for trials in options.trials:
        size = of_size(trials, options.repeats if trials < ONCE else 1)
        fine = fine and within(trials, size)
        found[str(trials)] = size
        print(trials, json.dumps(size), flush=True)
        if options.out:
            options.out.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
