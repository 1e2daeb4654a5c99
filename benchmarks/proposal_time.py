"""Processor seconds of one proposal, by how much is known and how many hyperparameters vary.

    python benchmarks/proposal_time.py [--out benchmarks/proposal_time.json]
        [--methods ours,optuna_gp,ax] [--dimensions 5,10,20] [--observations 10,50,100,200,1000]
        [--repeats 3] [--limit 30]

Mixed spaces: in five hyperparameters two real ranges (one logarithmic), an integer range, a choice
of three texts and one of three numbers. The observations are random configurations with a smooth
value and a little noise, the same for all methods. Each proposal is asked anew: `ours` is the
product's whole answer to a question, which is a function of all results and keeps nothing; Optuna's
GPSampler and Ax keep what they were told, and telling is not counted. One thread. A method that
has taken more than `limit` seconds for a proposal is not asked with more observations.
"""

import argparse
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # read when numpy is loaded

import numpy as np
from machine import facts
from table_methods import MAXIMISED, suggested

from torchstudy.domains import Choice, Float, Int
from torchstudy.quiet import quiet_ax
from torchstudy.search.ax_method import attach
from torchstudy.search.proposer import decide
from torchstudy.search.questions import Question, Tried
from torchstudy.search.rungs import without_rungs
from torchstudy.space import Config, SearchSpace

Known = list[tuple[Config, float]]


def mixed(dimensions: int) -> SearchSpace:
    """A space of so many hyperparameters, of every kind in turn."""
    kinds = (
        Float(0.0, 1.0),
        Float(1e-4, 1e-1, log=True),
        Int(8, 512, log=True),
        Choice("a", "b", "c"),
        Choice(16, 32, 64),
    )
    return SearchSpace({f"x{axis}": kinds[axis % len(kinds)] for axis in range(dimensions)})


def observed(space: SearchSpace, count: int) -> Known:
    """Random configurations and their values: best at 0.3 on every axis, with noise of 0.01."""
    generator, known = np.random.default_rng(0), []
    for _ in range(count):
        config = space.sample(generator)
        far = np.array(space.to_unit(config)) - 0.3
        known.append((config, float(1 - np.mean(far**2) + generator.normal() * 0.01)))
    return known


def ours(space: SearchSpace, known: Known) -> Callable[[int], object]:
    """The product's answer to the question after these results."""
    tried = [
        Tried(number=number, config=config, state="completed", until=1, values={1: value})
        for number, (config, value) in enumerate(known)
    ]
    question = Question(
        name="time",
        space=space,
        objective=MAXIMISED,
        ladder=without_rungs(1),
        trials=10**6,
        tried=tried,
        number=len(tried),
        seed=0,
    )
    return lambda repeat: decide(replace(question, seed=repeat))


def optuna_gp(space: SearchSpace, known: Known) -> Callable[[int], object]:
    """Optuna's GPSampler, told the same results."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.GPSampler(seed=0, n_startup_trials=0)
    )
    for config, value in known:
        trial = optuna.trial.FixedTrial(_ranked(space, config))
        for name in space.dimensions:
            suggested(trial, name, space.domains[name])
        study.add_trial(
            optuna.trial.create_trial(
                params=trial.params, distributions=trial.distributions, value=value
            )
        )

    def ask(repeat: int) -> object:
        trial = study.ask()
        return [suggested(trial, name, space.domains[name]) for name in space.dimensions]

    return ask


def ax(space: SearchSpace, known: Known) -> Callable[[int], object]:
    """Ax's client with the strategy that it chooses by itself, told the same results."""
    client = space.ax_client("time", [MAXIMISED], seed=0)
    attach(client, space, [MAXIMISED], [(config, [value]) for config, value in known])

    def ask(repeat: int) -> object:
        with quiet_ax():
            return client.get_next_trials(max_trials=1)

    return ask


METHODS = {"ours": ours, "optuna_gp": optuna_gp, "ax": ax}


def measured(dimensions: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each method and number of observations."""
    space, rows, too_slow = mixed(dimensions), [], set[str]()
    for count in args.observations:
        known = observed(space, count)
        for method in args.methods:
            row: dict[str, Any] = {"method": method, "dimensions": dimensions, "known": count}
            if method in too_slow:
                rows.append({**row, "left_out": f"more than {args.limit:g} s with fewer"})
                continue
            ask, seconds = METHODS[method](space, known), []
            for repeat in range(args.repeats):
                began = time.process_time()
                ask(repeat)
                seconds.append(round(time.process_time() - began, 3))
                if seconds[-1] > args.limit:
                    too_slow.add(method)
                    break
            row |= {"seconds": round(statistics.median(seconds), 3), "all": seconds}
            rows.append(row)
            print(*row.values(), flush=True)
    return rows


def main() -> None:
    """Measure every method in the same run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    numbers = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    parser.add_argument("--out", type=Path)
    parser.add_argument("--methods", type=lambda text: text.split(","), default=list(METHODS))
    parser.add_argument("--dimensions", type=numbers, default=[5, 10, 20])
    parser.add_argument("--observations", type=numbers, default=[10, 50, 100, 200, 1000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=30.0)
    args = parser.parse_args()
    for method in args.methods:  # loads the libraries
        METHODS[method](mixed(5), observed(mixed(5), 10))(0)
    rows = [row for dimensions in args.dimensions for row in measured(dimensions, args)]
    if args.out:
        found = {"machine": facts(), "repeats": args.repeats, "rows": rows}
        args.out.write_text(json.dumps(found, indent=1) + "\n")


def _ranked(space: SearchSpace, config: Config) -> Config:
    """The configuration as Optuna is asked for it: ranks in place of chosen numbers."""
    domains = space.domains
    return {
        name: domains[name].extremes.index(value)
        if "values" in domains[name].describe() and not isinstance(value, str)
        else value
        for name, value in config.items()
    }


if __name__ == "__main__":
    main()
