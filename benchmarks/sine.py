"""How close a whole search comes to the noise of a sine: test error over the noise variance.

    python benchmarks/sine.py [--out benchmarks/sine.json] [--seeds 5]

Runs `studies/sine.py` with MLP alone for several seeds, each with noise of its own, and keeps the
mean test MSE of the configuration that each search chose (three trainings, 1,000 points) divided by
the variance of the noise: 1 is the best there can be. Of 1,000 points of noise, that ratio has a
standard deviation of 0.045 by chance alone.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from torchstudy import MLP, load_study, run
from torchstudy.files import write_json

STUDY = Path(__file__).parents[1] / "studies" / "sine.py"
NOISE = 0.2  # standard deviation, as in the study


def sine_with(seed: int) -> Callable[[], pd.DataFrame]:
    """The study's data with other noise."""

    def sine() -> pd.DataFrame:
        generator = np.random.default_rng(seed)
        x = generator.uniform(-np.pi, np.pi, size=2_400)
        return pd.DataFrame({"x": x, "y": np.sin(x) + NOISE * generator.normal(size=len(x))})

    return sine


def ratio_of(seed: int, folder: Path) -> dict[str, object]:
    """Test MSE by noise variance after one search, and what it took."""
    study = load_study(str(STUDY))
    given = study.images
    study = replace(
        study,
        data=replace(given, source=sine_with(seed)),
        families=[MLP],
        seed=seed,
        name=f"sine-{seed}",
    )
    began = time.perf_counter()
    confirmation = run(study, reports=folder, quiet=True).confirmation
    scores = confirmation.loc[confirmation["chosen"], "test_mse"].dropna()
    return {
        "seed": seed,
        "ratio": round(float(scores.mean()) / NOISE**2, 3),
        "ratios": [round(score / NOISE**2, 3) for score in scores],
        "seconds": round(time.perf_counter() - began, 1),
    }


def main() -> None:
    """Measure, print a line per seed and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(given.seeds):
            rows.append(ratio_of(seed, Path(folder)))
            print(rows[-1], flush=True)
    ratios = [float(str(row["ratio"])) for row in rows]
    summary = {"mean": round(statistics.fmean(ratios), 3), "highest": max(ratios)}
    print(summary)
    write_json(given.out, {**summary, "noise": NOISE, "cores": os.cpu_count(), "rows": rows})


if __name__ == "__main__":
    main()
