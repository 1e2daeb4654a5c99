"""Importance on simulated searches: how often what has no effect rises above the noise floor.

    python benchmarks/importance.py [--studies 500] [--forests 30] [--trials 20,40,100]
        [--out benchmarks/importance.json]

Searches of 12 hyperparameters (tests/simulated.py): half of the configurations at random, half near
the best so far; a third of the trials goes on from each rung. In `nothing` no hyperparameter has an
effect, in `one` the learning rate has one, in `three` also weight decay and optimizer, in `pair`
the best weight decay follows the learning rate; `spread` is `nothing` without adaptation. Written
down for each: in how many studies any hyperparameter without effect stands above the floor
(`false`), the one of them that does so most often (`false_most_often`), the exact 95% intervals of
both as shares (Clopper and Pearson 1934, doi.org/10.1093/biomet/26.4.404), in how many each with an
effect does (`seen`), the median floor, how often the 95% interval of the learning rate's importance
holds its mean over the studies (`covered`), and processor seconds for a study. `false` in all cells
together is under `together`.

`degrees` has the same with polynomials of other degrees than 3. `forest` has it for a forest of 50
trees with permutation on the trials that a tree has not seen, epochs as a further feature, and the
95% quantile of the largest in 40 shuffles. `large` is the time of 5,001 trials of 3 families with
effects, warnings and all.

What is in the file already is kept if the same code made it: an interrupted run goes on where it
was. Exits with 1 unless in every cell each hyperparameter without effect is above the floor in 5%
of the studies at most, the interval with it, and the learning rate in 90% from 40 trials on where
its own effect does not depend on another's.
"""

import argparse
import ast
import hashlib
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from machine import facts
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.simulated import SPACE, simulated, together

from torchstudy.analysis import importance as importance_file
from torchstudy.analysis import levelled as levelled_file
from torchstudy.analysis import terms
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
DEGREES = (1, 2, 4)  # beside the one in use
TREES = 50
SHUFFLES = 40
MOST_FALSE = 0.05
FEWEST_SEEN = 0.9
Cell = dict[str, Any]


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
) -> Cell:
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
    most_often = max(above[name] for name in SPACE.domains if name not in real)
    found: Cell = {
        "studies": studies,
        "false": false,
        "false_interval": exact_interval(false, studies),
        "false_most_often": most_often,
        "false_most_often_interval": exact_interval(most_often, studies),
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


def with_degree(degree: int, matters: Collection[str], trials: int, studies: int) -> Cell:
    """What our method says with polynomials of this degree."""
    with patch.object(terms, "DEGREE", degree):
        return counted(importance, matters, trials, studies)


def exact_interval(count: int, n: int) -> tuple[float, float]:
    """The 95% interval of a share of which `count` of `n` were seen."""
    found = stats.binomtest(count, n).proportion_ci(0.95, method="exact")
    return round(float(found.low), 4), round(float(found.high), 4)


def cells(trials: int, studies: int, forests: int) -> Iterator[tuple[str, Callable[[], Cell]]]:
    """The names of the cells of this many trials, and what fills them."""
    for case, matters in CASES.items():
        yield f"{trials} trials, {case}", partial(counted, importance, matters, trials, studies)
    spread = partial(counted, importance, (), trials, studies, is_adaptive=False)
    yield f"{trials} trials, spread", spread
    for degree in DEGREES if trials < 100 else ():
        rate = CASES["one"]
        yield (
            f"{trials} trials, one, degree {degree}",
            partial(with_degree, degree, rate, trials, studies),
        )
    for case in ("nothing", "one") if forests and trials == 40 else ():
        forested = partial(counted, forest, CASES[case], trials, forests)
        yield f"{trials} trials, {case}, forest", forested


def code() -> str:
    """What the numbers depend on, in short: the statements of these files."""
    files = [__file__, importance_file.__file__, levelled_file.__file__, terms.__file__]
    files.append(simulated.__code__.co_filename)
    digest = hashlib.sha256()
    for file in files:
        digest.update(statements(Path(file).read_text()).encode())
    return digest.hexdigest()[:16]


def statements(source: str) -> str:
    """A file without comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            del node.body[0]
    return ast.dump(tree)


def kept(out: Path | None) -> dict[str, Any]:
    """The cells that the same code has filled."""
    found = json.loads(out.read_text()) if out and out.exists() else {}
    return found if found.get("code") == code() else {}


def is_right(name: str, cell: Cell, trials: int) -> bool:
    """Whether a cell keeps to the bounds; those of other methods need not."""
    if "degree" in name or "forest" in name:
        return True
    seen = cell["seen"].get("learning_rate", cell["studies"])
    is_seen = trials < 40 or name.endswith("pair") or seen >= FEWEST_SEEN * cell["studies"]
    return bool(is_seen and cell["false_most_often_interval"][1] <= MOST_FALSE)


def in_all(found: dict[str, Any]) -> Cell:
    """False ones in all cells of our method."""
    own = [
        cell
        for name, cell in found.items()
        if "trials," in name and "degree" not in name and "forest" not in name
    ]
    studies, false = (sum(cell[key] for cell in own) for key in ("studies", "false"))
    return {
        "studies": studies,
        "false": false,
        "false_interval": exact_interval(false, studies),
    }


def main() -> int:
    """Fill every cell, print, write down, compare with the bounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--forests", type=int, default=30)
    parser.add_argument("--trials", default="20,40,100")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found = kept(args.out) or {"code": code(), "machine": facts(), "large": large()}
    is_fine = True
    for trials in map(int, args.trials.split(",")):
        for name, fill in cells(trials, args.studies, args.forests):
            wanted = args.forests if "forest" in name else args.studies
            if found.get(name, {}).get("studies") != wanted:
                found[name] = fill()
            is_fine = is_right(name, found[name], trials) and is_fine
            print(name, json.dumps(found[name]), flush=True)
            if args.out:
                args.out.write_text(json.dumps(found, indent=2) + "\n")
    found["together"] = in_all(found)
    print("together", json.dumps(found["together"]), flush=True)
    if args.out:
        args.out.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if is_fine else 1


if __name__ == "__main__":
    sys.exit(main())
