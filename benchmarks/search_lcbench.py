"""The search on learning curves of LCBench, against other searches, on a simulated clock.

    python benchmarks/search_lcbench.py [--methods ours,random,asha_resume] [--tasks 167168,189873]
        [--seeds 0-10] [--workers 1] [--units 20] [--processes 2] [--folder LCBENCH]
        [--cells benchmarks/cells] [--out benchmarks/search_lcbench.json]

LCBENCH, or the variable TORCHSTUDY_LCBENCH, is a folder with `lcbench.py` and `simulate.py`: YAHPO
Gym's surrogate of 2,000 trainings on each of 34 data sets, 7 hyperparameters, 52 epochs. The search
is the product's own: its rungs, and its answer to each question. One unit is the mean cost of a
full training; regret is 0 at the best value known and 1 at the median of random configurations. All
regrets of a table are relative to the best value of any of its runs. Every finished cell (method,
task, seed) is kept in a file of its own, so that the script can be stopped and goes on.
"""

import argparse
import importlib
import json
import os
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cells import by_task, collected, intervals

from torchstudy.analysis.searching import BANDS
from torchstudy.domains import Float, Int
from torchstudy.records import Objective
from torchstudy.search.proposer import decide
from torchstudy.search.questions import Question
from torchstudy.search.rungs import Ladder, ladder_for
from torchstudy.search.tried import State, Tried
from torchstudy.space import Config, SearchSpace

BUDGETS = (2.5, 5.0, 10.0, 20.0)
TUNING_TASKS = "167168,189873,189906,168330"
METHODS = "ours,random,asha_resume,tpe_hyperband3,optuna_gp,ax"
ENDLESS = 10**6  # trials: the clock ends a search
Cell = tuple[str, str, int, int, float]  # method, task, seed, workers, units


@dataclass(slots=True)
class Searcher:
    """The product's search, asked as its run loop asks it."""

    space: SearchSpace
    ladder: Ladder
    seed: int
    budget: float  # in seconds of training
    tried: list[Tried] = field(default_factory=list)
    curves: list[list[float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    expected: dict[int, tuple[float, float]] = field(default_factory=dict)  # value and spread
    legs: int = 0

    def ask(self) -> tuple[int, Config, int, int]:
        """The next leg: trial, configuration, first and last epoch."""
        question = Question(
            name="lcbench",
            space=self.space,
            objective=Objective(metric="accuracy", direction="maximize"),
            ladder=self.ladder,
            trials=ENDLESS,
            tried=tuple(self.tried),
            number=self.legs,
            seed=self.seed,
            spent=min(1.0, sum(self.seconds) / self.budget),
        )
        proposal = decide(question)
        self.legs += 1
        number, begin = proposal.trial, 0
        if proposal.spread == proposal.spread:
            self.expected[number] = proposal.value, proposal.spread
        if number == len(self.tried):
            self.curves.append([])
            self.seconds.append(0.0)
            self.tried.append(self._tried(number, proposal.config, "pending", proposal.until))
        else:
            begin = self.tried[number].until
            self.tried[number] = self._tried(number, proposal.config, "pending", proposal.until)
        return number, dict(proposal.config), begin, proposal.until

    def report(self, trial: int, epoch: int, accuracy: float) -> bool:
        """Keep the best accuracy so far; nothing is stopped between rungs."""
        curve = self.curves[trial]
        curve.append(max(accuracy, *curve[-1:]) if curve else accuracy)
        return False

    def end(self, trial: int, epoch: int, accuracy: float, stopped: bool, seconds: float) -> None:
        """Learn what came of a leg; `seconds` are all that the trial has taken."""
        self.seconds[trial] = seconds
        state: State = "completed" if epoch == self.ladder.top else "waiting"
        self.tried[trial] = self._tried(trial, self.tried[trial].config, state, epoch)

    def deviations(self) -> list[float]:
        """How far the trials that came to an end are from what was last expected of them, in
        spreads.
        """
        return [
            (self.curves[number][-1] - value) / spread
            for number, (value, spread) in self.expected.items()
            if self.tried[number].state == "completed"
        ]

    def _tried(self, number: int, config: Config, state: State, until: int) -> Tried:
        curve = self.curves[number]
        is_pending = state == "pending"
        known = self.tried[number].values if is_pending and number < len(self.tried) else {}
        if not is_pending:
            known = {rung: curve[rung - 1] for rung in self.ladder.levels if rung <= len(curve)}
        return Tried(
            number=number,
            config=config,
            state=state,
            until=until,
            values=known,
            cost=self.seconds[number] / len(curve) if curve and known else float("nan"),
        )


def make(seed: int, units: float, cost: float) -> Searcher:
    """The plug-in of simulate.py: a searcher for `units` units of `cost` seconds each."""
    lcbench = importlib.import_module("lcbench")
    domains = {
        name: (Int if kind == "int" else Float)(low, high, log=log)
        for name, kind, low, high, log in lcbench.SPACE
    }
    ladder = ladder_for(lcbench.EPOCHS)
    return Searcher(SearchSpace(domains), ladder, seed, units * cost)


def ran(folder: str, cell: Cell) -> dict[str, Any]:
    """What came of one cell: simulate.py's result, with the processor's seconds."""
    method, task, seed, workers, units = cell
    simulate = _simulator(folder)
    made: list[Searcher] = []

    def ours(*given: Any) -> Searcher:
        made.append(make(*given))
        return made[-1]

    began = time.process_time()
    run: dict[str, Any] = simulate.simulate(
        task, ours if method == "ours" else simulate.METHODS[method], seed, workers, units
    )
    deviations = [deviation for searcher in made for deviation in searcher.deviations()]
    return {**run, "cpu_seconds": time.process_time() - began, "deviations": deviations}


def _simulator(folder: str) -> Any:
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module("simulate")


def summary(runs: dict[Cell, dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Mean regrets of every method, by task too, and paired 95% intervals of ours less theirs."""
    simulate = _simulator(args.folder)
    budgets = [budget for budget in BUDGETS if budget <= args.units]
    table = simulate.regrets({(c[1], c[2], c[0]): run for c, run in runs.items()}, budgets)
    found: dict[str, Any] = {"budgets": budgets, "methods": {}, "ours_less_theirs": {}}
    for method, regrets in table.items():
        own = [run for cell, run in runs.items() if cell[0] == method]
        means = {
            task: np.mean(rows, axis=0).round(4).tolist() for task, rows in by_task(regrets).items()
        }
        found["methods"][method] = {
            "regret": np.mean(list(means.values()), axis=0).round(4).tolist(),
            "tasks": means,
            "trials": round(float(np.mean([run["trials"] for run in own])), 1),
            **inside([deviation for run in own for deviation in run.get("deviations", ())]),
            "own_seconds_per_trial": round(
                float(np.mean([run["ask_seconds"] / run["trials"] for run in own])), 3
            ),
        }
    for method in table:
        if method == "ours" or "ours" not in table:
            continue
        found["ours_less_theirs"][method] = intervals(table["ours"], table[method])
    return found


def inside(deviations: list[float]) -> dict[str, Any]:
    """Which share of finished trials lie in the middle 50% and 90% of what was expected."""
    if not deviations:
        return {}
    far = np.abs(deviations)
    shares = {share: round(float((far <= width).mean()), 3) for share, width in BANDS.items()}
    return {"expected_trials": len(far), "inside": shares}


def show(found: dict[str, Any]) -> None:
    """Print the tables."""
    heads = "".join(f"{f'@{budget:g}':>9}" for budget in found["budgets"])
    print(f"{'regret':<16}{heads}{'trials':>9}{'own s/trial':>13}")
    for method, row in found["methods"].items():
        cells = "".join(f"{value:9.3f}" for value in row["regret"])
        print(f"{method:<16}{cells}{row['trials']:9.0f}{row['own_seconds_per_trial']:13.3f}")
        if "inside" in row:
            print(f"  {row['expected_trials']} trials, inside what was expected: {row['inside']}")
    print("\nours less theirs, mean and 95% interval, paired over tasks and seeds")
    for method, rows in found["ours_less_theirs"].items():
        cells = "  ".join(f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]" for mean, low, high in rows)
        print(f"{method:<16}{cells}")


def main() -> None:
    """Run the cells that are missing and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = Path(__file__).parent
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--tasks", default=TUNING_TASKS)
    parser.add_argument("--seeds", default="0-10", help="from-to, to excluded")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--units", type=float, default=20.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--folder", default=os.environ.get("TORCHSTUDY_LCBENCH"))
    parser.add_argument("--cells", type=Path, default=here / "cells")
    parser.add_argument("--out", type=Path, default=here / "search_lcbench.json")
    args = parser.parse_args()
    if args.folder is None:
        parser.error("--folder or TORCHSTUDY_LCBENCH must say where lcbench.py and simulate.py are")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    first, last = map(int, args.seeds.split("-"))
    cells = [
        (method, task, seed, args.workers, args.units)
        for seed in range(first, last)
        for task in args.tasks.split(",")
        for method in args.methods.split(",")
    ]
    found = summary(collected(cells, partial(ran, args.folder), args.cells, args.processes), args)
    show(found)
    from machine import facts

    settings = {"tasks": args.tasks, "seeds": args.seeds, "workers": args.workers}
    args.out.write_text(json.dumps({"machine": facts(), **settings, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
