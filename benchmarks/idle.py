"""How long workers have nothing to do because a proposal is missing, by the length of a trial.

    python benchmarks/idle.py [--out benchmarks/idle.json] [--workers 2] [--only digits 0.5 2 5 20]

One search each: MLP and CNN on digits, 20 trials per family; and a family of 12 hyperparameters
whose trials do nothing but burn a given number of processor seconds, half to twice as many by one
of the hyperparameters. No confirmation. `idle` is what the run counted and keeps in `study.json`:
worker-seconds without work, while a proposal was computed or waited for the result of a running
trial, as a share of all worker-seconds. `idle_by_table` is the same share recomputed from when the
trials of the table started and finished, until the last has started: it also holds the starting
and ending of processes (null where trials pause at rungs). `computing` are worker-seconds without
work while a decision was made, `results` while there was none to make, at the end of a search too:
the last trainings have nobody beside them. Exits with 1 if workers waited for 3% of the time or
more where trials take 2 seconds or longer.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import ax
import numpy as np
import pandas as pd
import torch
from torch import nn
from typing_extensions import override

from torchstudy import CNN, MLP, Choice, Family, Float, Int, Study, family, run
from torchstudy.data.spec import DataSpec
from torchstudy.families.phases import Fit
from torchstudy.training.batches import Batch, Split
from torchstudy.training.optim import TrainingConfig

MOST = 0.03  # of the time, for trials of `LONG` seconds and longer
LONG = 2.0
TRIALS = {"digits": 20, "0.5": 24, "1": 24, "2": 24, "5": 20, "20": 14}


@family
class Burner(Family):
    """Burns processor time; the score depends on hyperparameters alone."""

    seconds: float = Float(0.01, 100.0, default=1.0)
    length: float = Float(0.5, 2.0, log=True, default=1.0)
    first: float = Float(0.0, 1.0, default=0.5)
    second: float = Float(1e-4, 1e-1, log=True, default=1e-3)
    third: int = Int(8, 64, log=True, default=16)
    fourth: str = Choice("a", "b", "c", default="a")

    @override
    def build(self, data: DataSpec) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(data.height * data.width, data.num_classes))

    @override
    def phases(self, data: DataSpec, training: TrainingConfig) -> tuple[Fit, ...]:
        return (Fit(name="burn", function=self._burn),)

    @override
    def score(self, model: nn.Module, data: DataSpec, batches: Iterable[Batch]) -> dict[str, float]:
        far = [self.first - 0.2, np.log10(self.second) / 3 + 0.7, np.log2(self.third / 30) / 3]
        accuracy = 0.9 - 0.1 * (self.fourth != "b") - 0.2 * float(np.mean(np.square(far)))
        return {"loss": 1 - accuracy, "accuracy": accuracy}

    def _burn(self, model: nn.Module, train: Split) -> None:
        until = time.process_time() + self.seconds * self.length
        while time.process_time() < until:
            torch.rand(64, 64).matmul(torch.rand(64, 64))


def study_of(name: str) -> Study:
    """The search that is measured under a name."""
    common = {"data": "digits", "maximize": "accuracy", "trials": TRIALS[name], "confirm": None}
    if name == "digits":
        return Study(families=[MLP, CNN], name="digits", **common)
    return Study(families=[Burner], space={"seconds": float(name)}, name=f"burn-{name}", **common)


def idle_by_table(trials: pd.DataFrame, workers: int) -> float:
    """The share of worker-seconds outside of any trial, until the last trial has started."""
    started = pd.to_datetime(trials["started"]).map(pd.Timestamp.timestamp)
    finished = pd.to_datetime(trials["finished"]).map(pd.Timestamp.timestamp)
    last = started.max()
    busy = (np.minimum(finished, last) - started).sum()
    return float(1 - busy / (workers * (last - started.min())))


def measured(name: str, workers: int, folder: Path) -> dict[str, object]:
    """One search: what it says of its workers, and what its questions cost."""
    study = study_of(name)
    began = time.perf_counter()
    results = run(study, reports=folder, workers=workers, quiet=True)
    seconds = time.perf_counter() - began
    counted = results.summary.get("idle")
    waiting = counted["computing"] + counted["results"] if counted else float("nan")
    is_paused = (results.proposals["origin"] == "promotion").any()
    return {
        "search": name,
        "trials": len(results.trials),
        "seconds": round(seconds, 1),
        "seconds_per_trial": round(float(results.trials["seconds"].median()), 2),
        "counted": counted,
        "idle": round(waiting / (waiting + counted["busy"]), 4) if counted else None,
        "idle_by_table": None if is_paused else round(idle_by_table(results.trials, workers), 4),
    }


def main() -> int:
    """Measure every search, print, compare with the bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=TRIALS, default=list(TRIALS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.only:
            rows.append(measured(name, args.workers, Path(folder)))
            print(json.dumps(rows[-1]), flush=True)
    result = {
        "rows": rows,
        "workers": args.workers,
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ax": ax.__version__,
    }
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    long = [row for row in rows if float(str(row["seconds_per_trial"])) >= LONG]
    return 0 if all(row["idle"] < MOST for row in long) else 1


if __name__ == "__main__":
    sys.exit(main())
