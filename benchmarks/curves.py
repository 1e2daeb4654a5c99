"""How near the best of a drawn curve lies to the true best, by the degree of its polynomial.

    python benchmarks/curves.py [--studies 60] [--trials 40,100] [--out benchmarks/curves.json]

Searches at random of the 12 hyperparameters of tests/simulated.py, of which the learning rate alone
matters: `even` as a parabola in its logarithm, `steep` rising slowly below the best and twelve
times as fast above, as where training diverges. For each degree: in how many studies there is a
curve, and the mean distance of its highest point from the best learning rate, in decades. Exits
with 1 if the degree in use is not within 0.05 decades of the best degree over all cells.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
from machine import facts

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.simulated import GAIN, RUNGS, SPACE, results_of

from torchstudy.analysis import terms
from torchstudy.analysis.effects import effects
from torchstudy.analysis.tables import Results

BEST = -2.15  # of the logarithm to base 10 of the learning rate
SLOPES = {"even": (0.7, 0.7), "steep": (0.25, 3.0)}  # below the best and above
DEGREES = (2, 3, 4)
NOISE = 0.3
ALLOWED = 0.05


def searched(seed: int, trials: int, slopes: tuple[float, float]) -> Results:
    """Results of one search."""
    generator = np.random.default_rng([seed, trials])
    configs = [SPACE.sample(generator) for _ in range(trials)]
    errors = []
    for config in configs:
        apart = math.log10(float(config["learning_rate"])) - BEST
        level = math.log(0.05) + slopes[apart > 0] * apart**2 + NOISE * generator.standard_normal()
        found = [min(0.9, math.exp(level + GAIN * math.log(RUNGS[-1] / epoch))) for epoch in RUNGS]
        errors.append(found)
    return results_of(configs, errors, generator)


def distance(results: Results) -> float | None:
    """Of the highest point of the learning rate's curve from the best one; None without a curve."""
    table = effects(results, "CNN")
    own = table[table["hyperparameter"] == "learning_rate"]
    if own.empty:
        return None
    highest = float(own["value"].iloc[int(np.argmax(own["expected"]))])
    return abs(math.log10(highest) - BEST)


def main() -> int:
    """Draw curves of every degree, print, write down, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=60)
    parser.add_argument("--trials", default="40,100")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    cells: dict[str, dict[str, dict[str, float]]] = {}
    for shape, slopes in SLOPES.items():
        for trials in map(int, args.trials.split(",")):
            several = [searched(seed, trials, slopes) for seed in range(args.studies)]
            cell = cells[f"{shape}, {trials} trials"] = {}
            for degree in DEGREES:
                with patch.object(terms, "DEGREE", degree):
                    known = [one for one in map(distance, several) if one is not None]
                cell[f"degree {degree}"] = {
                    "curves": len(known),
                    "decades": round(float(np.mean(known)), 3),
                }
            print(f"{shape}, {trials} trials", json.dumps(cell), flush=True)
    means = {
        degree: float(np.mean([cell[f"degree {degree}"]["decades"] for cell in cells.values()]))
        for degree in DEGREES
    }
    if args.out:
        found = {"machine": facts(), "studies": args.studies, "cells": cells}
        args.out.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if means[terms.DEGREE] <= min(means.values()) + ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
