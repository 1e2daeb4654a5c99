"""Importance on simulated searches: how often what has no effect rises above the noise floor.

    python benchmarks/importance.py [--studies 200] [--forests 30] [--trials 20,40,100]
        [--out benchmarks/importance.json]

Searches of 12 hyperparameters (tests/simulated.py): half of the configurations at random, half near
the best so far; a third of the trials goes on from each rung. In `nothing` no hyperparameter has an
effect, in the others the learning rate has one, then also weight decay and optimizer, then the best
weight decay follows the learning rate. Written down for each: in how many studies any
hyperparameter without effect stands above the floor (`false`), the one of them that does so most
often (`false_most_often`), in how many each with an effect does (`seen`), the median floor, how
often the 95% interval of the learning rate's importance holds its mean over the studies
(`covered`), and processor seconds for a study. `forest` is the same for a forest of 50 trees with
permutation on the trials that a tree has not seen, epochs as a further feature, and the 95%
quantile of the largest in 40 shuffles.

`spread` has the same searches without adaptation; `large` is the time of 5,001 trials of 3 families
with effects, warnings and all. Exits with 1 if in any cell a hyperparameter without effect is above
the floor in more than 5% of the studies, or the learning rate in less than 90% from 40 trials on.
"""

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pandas as pd
from machine import facts

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.simulated import SPACE, simulated, together

from torchstudy.analysis.boundaries import boundary_flags, dead
from torchstudy.analysis.effects import effects
from torchstudy.analysis.importance import importance, weighed
from torchstudy.analysis.tables import Results

CASES: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "one": ("learning_rate",),
    "three": ("learning_rate", "weight_decay", "optimizer"),
    "pair": ("learning_rate", "together"),
}
TREES = 50
SHUFFLES = 40
MOST_FALSE = 0.05
FEWEST_SEEN = 0.9


def true_effects(matters: Collection[str]) -> set[str]:
    """The hyperparameters with an effect."""
    return {"weight_decay" if name == "together" else name for name in matters}


def forest(results: Results) -> pd.DataFrame:
    """Hyperparameter, importance, floor and is_above, of a forest with permutation."""
    usable = results.trials[results.values.notna()]
    names = list(SPACE.domains)
    features = np.column_stack([*_columns(usable, names), np.log(usable["epochs"].astype(float))])
    values = usable["best_valid_accuracy"].rank().to_numpy(dtype="float64")
    generator = np.random.default_rng(0)
    found = _permuted(features, values, len(names), generator)
    shuffled = [
        _permuted(features, generator.permutation(values), len(names), generator).max()
        for _ in range(SHUFFLES)
    ]
    floor = float(np.quantile(shuffled, 0.95))
    table = pd.DataFrame({"hyperparameter": names, "importance": found, "floor": floor})
    return table.assign(is_above=table["importance"] > floor, low=np.nan, high=np.nan)


def _columns(trials: pd.DataFrame, names: list[str]) -> list[np.ndarray]:
    """Each hyperparameter's place in the unit cube, missing ones in the middle."""
    found = []
    for name in names:
        place, values = SPACE.domains[name].to_unit, trials[f"config.{name}"]
        found.append(np.array([0.5 if pd.isna(value) else place(value) for value in values]))
    return found


def _permuted(
    features: np.ndarray, values: np.ndarray, number: int, generator: np.random.Generator
) -> np.ndarray:
    """By how much permuting a column raises the squared error out of the bag, as a share."""
    from sklearn.tree import DecisionTreeRegressor

    n, raised = len(values), np.zeros(number)
    for _ in range(TREES):
        inside = generator.integers(n, size=n)
        outside = np.setdiff1d(np.arange(n), inside)
        if not len(outside):
            continue
        tree = DecisionTreeRegressor(
            min_samples_leaf=2, random_state=int(generator.integers(2**31))
        )
        tree.fit(features[inside], values[inside])
        before = np.mean((tree.predict(features[outside]) - values[outside]) ** 2)
        copies = np.repeat(features[outside][None], number, axis=0)
        for column in range(number):
            copies[column, :, column] = generator.permutation(copies[column, :, column])
        after = tree.predict(copies.reshape(-1, features.shape[1])).reshape(number, -1)
        raised += np.mean((after - values[outside]) ** 2, axis=1) - before
    return raised / TREES / values.var()


def counted(
    method: Callable[[Results], pd.DataFrame],
    matters: Collection[str],
    trials: int,
    studies: int,
    *,
    is_adaptive: bool = True,
) -> dict[str, object]:
    """What a method says of so many simulated studies."""
    real = true_effects(matters)
    above: Counter[str] = Counter()
    false, floors, seconds, rates = 0, [], [], []
    for seed in range(studies):
        results = simulated(seed, trials=trials, matters=matters, is_adaptive=is_adaptive)
        began = time.process_time()
        table = method(results)
        seconds.append(time.process_time() - began)
        names = set(table.loc[table["is_above"], "hyperparameter"])
        above.update(names)
        false += bool(names - real)
        floors.append(float(table["floor"].iloc[0]))
        rates.append(
            table.set_index("hyperparameter").loc["learning_rate", ["importance", "low", "high"]]
        )
    found: dict[str, object] = {
        "studies": studies,
        "false": false,
        "false_most_often": max(above[name] for name in SPACE.domains if name not in real),
        "seen": {name: above[name] for name in sorted(real)},
        "floor": round(statistics.median(floors), 3),
        "processor_seconds": round(statistics.median(seconds), 4),
    }
    rate = pd.DataFrame(rates).astype(float)
    if rate["low"].notna().any():
        mean = rate["importance"].mean()
        inside = (rate["low"] <= mean) & (mean <= rate["high"])
        found["importance"] = round(float(mean), 3)
        found["covered"] = round(float(inside.mean()), 3)
    return found


def large() -> dict[str, float]:
    """Processor seconds for 5,001 trials of 3 families: importance alone, and with all else."""
    matters = ("learning_rate", "weight_decay", "optimizer", "together")
    results = together(
        *[simulated(seed, trials=1667, matters=matters, name=f"F{seed}") for seed in range(3)]
    )
    began = time.process_time()
    importance(results)
    alone = time.process_time() - began
    began = time.process_time()
    for family in results.families:
        found = weighed(results, family)
        effects(results, family, found)
        boundary_flags(found.trials, SPACE.domains)
        dead(found)
    return {"importance": round(alone, 2), "all": round(time.process_time() - began, 2)}


def is_right(cell: dict[str, object], trials: int) -> bool:
    """Whether a cell keeps to the bounds."""
    studies, seen = int(str(cell["studies"])), cell["seen"]
    assert isinstance(seen, dict)
    is_seen = trials < 40 or seen.get("learning_rate", studies) >= FEWEST_SEEN * studies
    return is_seen and int(str(cell["false_most_often"])) <= MOST_FALSE * studies


def main() -> int:
    """Simulate every cell, print, write down, compare with the bounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--forests", type=int, default=30)
    parser.add_argument("--trials", default="20,40,100")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found: dict[str, object] = {"machine": facts(), "large": large()}
    is_fine = True
    for trials in map(int, args.trials.split(",")):
        for case, matters in CASES.items():
            cell: dict[str, object] = {"ours": counted(importance, matters, trials, args.studies)}
            ours = cell["ours"]
            assert isinstance(ours, dict)
            is_fine = is_fine and (case == "pair" or is_right(ours, trials))
            if case == "nothing":
                cell["spread"] = counted(
                    importance, matters, trials, args.studies, is_adaptive=False
                )
            if args.forests and trials >= 40:
                cell["forest"] = counted(forest, matters, trials, args.forests)
            found[f"{trials} trials, {case}"] = cell
            print(trials, case, json.dumps(cell), flush=True)
            if args.out:
                args.out.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if is_fine else 1


if __name__ == "__main__":
    sys.exit(main())
