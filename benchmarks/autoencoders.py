"""What the autoencoder families reach with their recipes: the figures that their studies expect.

    python benchmarks/autoencoders.py [--only compression denoising pretraining]
        [--out benchmarks/autoencoders.json]

Every line is trained with fresh seeds by the one trainer, in this process and on one thread, and
scored on the test split (Fashion-MNIST: 10,000 images, 12,000 to train on; digits: 270). Each seed
splits the data anew. `pretraining` trains the same network with and without its first phase from
the same weights, on the same labels: the gain is a mean over pairs with Student's 95% interval.
Seconds are of processor time for the whole training, scoring included. Exits with 1 if a claim does
not hold.
"""

import argparse
import json
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from scipy import stats

from torchstudy.data.dataset import ImageData, prepare
from torchstudy.data.images import Images
from torchstudy.execution.job import Job, run
from torchstudy.families.base import Family, domains_with_training
from torchstudy.families.compression import Autoencoder
from torchstudy.families.denoising import Denoiser
from torchstudy.families.pretraining import PretrainedEncoder
from torchstudy.records import Objective, TrainingKey
from torchstudy.space import SearchSpace

Result = dict[str, object]
IMAGES = {
    "fashion-mnist": Images("fashion-mnist", train=12_000, valid=4_000, select=4_000),
    "digits": Images("digits"),
}
EPOCHS = {"fashion-mnist": 20, "digits": 27}
SEEDS, PAIRS = 3, 6
CLAIMED_RATIO = {"fashion-mnist": 0.75, "digits": 0.8}  # of PCA's error, at codes of 2 and 8


@cache
def data_of(name: str, seed: int) -> ImageData:
    """The data, split with this seed."""
    return prepare(IMAGES[name], seed=seed)


def tested(
    family: type[Family],
    data: ImageData,
    objective: Objective,
    *,
    epochs: int,
    seed: int,
    **config: object,
) -> dict[str, float]:
    """The test metrics of one training of the recipe with `config` put in, and its seconds."""
    recipe = {**SearchSpace(domains_with_training(family)).recipe, **config}
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            action="train",
            key=TrainingKey(family=family.__name__, number=0, seed=seed),
            family=family,
            config=recipe,
            objective=objective,
            epochs=epochs,
            purpose="search",
            data=data.handle,
            folder=Path(folder),
        )
        began = time.process_time()
        trained = run(job, lambda payload: None, lambda: False)
        seconds = time.process_time() - began
        scored = run(replace(job, action="test"), lambda payload: None, lambda: False)
    if trained.reason or scored.reason:
        print(trained.reason or scored.reason, file=sys.stderr)
    found = {name.removeprefix("test_"): value for name, value in scored.metrics.items()}
    print(family.__name__, seed, config, found, f"{seconds:.0f} s", flush=True)
    return {**found, "seconds": seconds}


def summary(rows: list[dict[str, float]], names: Mapping[str, int]) -> Result:
    """Mean, spread and every value of the metrics in `names`, rounded to so many digits."""
    found: Result = {"n": len(rows)}
    for name, digits in names.items():
        values = [row[name] for row in rows]
        found[name] = {
            "mean": round(statistics.fmean(values), digits),
            "spread": round(statistics.stdev(values), digits),
            "values": [round(value, digits) for value in values],
        }
    return found


def compression() -> Result:
    """The error of a dense autoencoder against that of PCA with as many numbers."""
    objective = Objective(metric="reconstruction_error", direction="minimize")
    lines = []
    for name in IMAGES:
        for code in (2, 8, 32):
            rows = [
                tested(
                    Autoencoder,
                    data_of(name, seed),
                    objective,
                    epochs=EPOCHS[name],
                    seed=seed,
                    code=code,
                )
                for seed in range(SEEDS)
            ]
            digits = {"reconstruction_error": 5, "pca_error": 5, "pca_ratio": 3, "seconds": 1}
            claim = {} if code == 32 else {"claimed": CLAIMED_RATIO[name]}
            is_held = all(row["pca_ratio"] <= CLAIMED_RATIO[name] for row in rows)
            line = {"data": name, "code": code, "epochs": EPOCHS[name], **summary(rows, digits)}
            lines.append(line | claim | ({"holds": is_held} if claim else {}))
    return {"lines": lines}


def denoising() -> Result:
    """What is gained over noisy images, and over a median filter, in five epochs."""
    objective = Objective(metric="psnr", direction="maximize")
    rows = [
        tested(Denoiser, data_of("fashion-mnist", seed), objective, epochs=5, seed=seed)
        for seed in range(SEEDS)
    ]
    names = ("psnr", "psnr_gain", "noisy_psnr", "median_psnr")
    digits = {**dict.fromkeys(names, 2), "ssim": 3, "noisy_ssim": 3, "seconds": 1}
    holds = all(
        row["psnr_gain"] >= 6 and row["ssim"] >= 0.6 and row["psnr"] >= row["median_psnr"] + 2
        for row in rows
    )
    found = {"data": "fashion-mnist", "noise": 0.3, "epochs": 5, **summary(rows, digits)}
    claims = {"psnr_gain": 6.0, "ssim": 0.6, "over_median": 2.0}
    return {"lines": [found | {"claimed": claims, "holds": holds}]}


def pretraining() -> Result:
    """What an autoencoder on all images adds to 500 labels, pair by pair."""
    objective = Objective(metric="accuracy", direction="maximize")
    columns: dict[str, list[dict[str, float]]] = {"autoencoder": [], "none": []}
    for seed in range(PAIRS):
        for kind, rows in columns.items():
            data = data_of("fashion-mnist", seed)
            rows.append(
                tested(PretrainedEncoder, data, objective, epochs=10, seed=seed, pretraining=kind)
            )
    gains = [
        with_it["accuracy"] - without["accuracy"]
        for with_it, without in zip(columns["autoencoder"], columns["none"], strict=True)
    ]
    mean = statistics.fmean(gains)
    half = float(stats.t.ppf(0.975, PAIRS - 1)) * statistics.stdev(gains) / math.sqrt(PAIRS)
    digits = {"accuracy": 4, "seconds": 1}
    return {
        "lines": [
            {"pretraining": kind, "labels": 500, "epochs": 10, **summary(rows, digits)}
            for kind, rows in columns.items()
        ],
        "gain": round(mean, 4),
        "gain_95": [round(mean - half, 4), round(mean + half, 4)],
        "gains": [round(gain, 4) for gain in gains],
        "holds": mean - half > 0,
    }


PARTS: dict[str, Callable[[], Result]] = {
    "compression": compression,
    "denoising": denoising,
    "pretraining": pretraining,
}


def claims_hold(results: Mapping[str, object]) -> bool:
    """Whether no part, and no line of one, says that it does not hold."""
    return '"holds": false' not in json.dumps(results)


def main() -> int:
    """Measure, print, and keep each part as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), default=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = json.loads(args.out.read_text()) if args.out.exists() else {}
    for name in args.only:
        results[name] = PARTS[name]()
        print(json.dumps(results[name], indent=2), flush=True)
        results["machine"] = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cores": os.cpu_count(),
        }
        args.out.write_text(json.dumps(results, indent=2) + "\n")
    return 0 if claims_hold(results) else 1


if __name__ == "__main__":
    sys.exit(main())
