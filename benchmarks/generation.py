"""What a GAN reaches in five epochs on Fashion-MNIST, and how the measure judges collapse.

    python benchmarks/generation.py [--only trained judged]
        [--out benchmarks/generation.json]

`trained`: the recipe with fresh seeds (each splits the data anew: 12,000 images to train on, 2,000
to score by), by the one trainer, in this process and on one thread. Distances are those of the last
epoch, on `valid`. They are set against the same generator untrained, twice: as it is scored, where
its batch normalisation has statistics of nothing and all images are one grey; and with statistics
of its own batches, which brings it much nearer. The claimed ratio is against the nearer one.

`judged`: real images in place of generated ones. Twenty draws of ten repeated images, ten picked to
cover as much as ten can, and each class alone: how many are flagged, and the best distance and
coverage among them, which show what either would have missed.

Seconds are processor time. Exits with 1 if a claim does not hold.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from torchstudy.data.dataset import ImageData, prepare
from torchstudy.data.images import Images
from torchstudy.execution.inputs import splits_of
from torchstudy.execution.job import Job, Note, run
from torchstudy.families.base import domains_with_training
from torchstudy.families.gan import GAN
from torchstudy.families.image_features import image_features
from torchstudy.fitting import instantiate
from torchstudy.records import Epoch, Objective, TrainingKey
from torchstudy.seeds import derive
from torchstudy.space import SearchSpace
from torchstudy.training.generation import (
    NEIGHBOURS,
    generation_metrics,
    largest_distance,
    least_coverage,
    standardised,
)
from torchstudy.values import Value

Result = dict[str, object]
SEEDS, EPOCHS, DRAWS = 3, 5, 20
CLAIMED_RATIO, CLAIMED_COVERAGE = 0.3, 0.07
OBJECTIVE = Objective(metric="generation_distance", direction="minimize")
SHOWN = ("kernel_distance", "frechet_distance", "coverage", "variety", "flagged")


@cache
def data_of(seed: int) -> ImageData:
    """The data, split with this seed."""
    sizes = {"train": 12_000, "valid": 2_000, "select": 2_000, "test": 2_000}
    return prepare(Images("fashion-mnist", **sizes), seed=seed)


def recipe() -> dict[str, Value]:
    """The configuration that a study begins with."""
    return {**SearchSpace(domains_with_training(GAN)).recipe}


def untrained(seed: int, *, is_normalised: bool) -> dict[str, float]:
    """The metrics of a generator that learned nothing, perhaps with statistics of its batches."""
    family = instantiate(GAN, recipe()).family
    splits, spec = splits_of(family, data_of(seed), ("valid",))
    torch.manual_seed(derive(seed, "init"))
    net = family.build(spec).eval()
    if is_normalised:
        net.generator.train()
    with torch.inference_mode():
        return family.score(net, spec, splits["valid"].in_order())


def epochs_of(seed: int) -> tuple[list[Epoch], float]:
    """The rows of one training of the recipe, and its processor seconds."""
    rows: list[Epoch] = []

    def report(payload: Epoch | Note) -> None:
        if isinstance(payload, Epoch):
            rows.append(payload)

    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            action="train",
            key=TrainingKey(family="GAN", number=0, seed=seed),
            family=GAN,
            config=recipe(),
            objective=OBJECTIVE,
            epochs=EPOCHS,
            purpose="search",
            data=data_of(seed).handle,
            folder=Path(folder),
        )
        began = time.process_time()
        outcome = run(job, report, lambda: False)
        seconds = time.process_time() - began
    if outcome.reason or len(rows) != EPOCHS:
        raise SystemExit(f"seed {seed}: {outcome.status} {outcome.reason}")
    return rows, seconds


def trained() -> Result:
    """Distance and coverage after five epochs, beside the untrained generator's."""
    lines = []
    for seed in range(SEEDS):
        rows, seconds = epochs_of(seed)
        grey, normalised = (untrained(seed, is_normalised=each) for each in (False, True))
        last = rows[-1].metrics
        nearer = min(grey["kernel_distance"], normalised["kernel_distance"])
        lines.append(
            {
                "seed": seed,
                **{name: round(last[name], 4) for name in (*SHOWN, "generation_distance")},
                "by_epoch": [{name: round(row.metrics[name], 3) for name in SHOWN} for row in rows],
                "untrained": round(grey["kernel_distance"], 3),
                "untrained_normalised": round(normalised["kernel_distance"], 3),
                "untrained_coverage": max(grey["coverage"], normalised["coverage"]),
                "ratio": round(last["kernel_distance"] / nearer, 4),
                "cpu_seconds_per_epoch": round(seconds / EPOCHS, 1),
            }
        )
        print(json.dumps(lines[-1]), flush=True)
    return {
        "lines": lines,
        "recipe": recipe(),
        "epochs": EPOCHS,
        "images": 12_000,
        "ratio_mean": round(statistics.fmean(line["ratio"] for line in lines), 4),
        "ratio_worst": max(line["ratio"] for line in lines),
        "coverage_mean": round(statistics.fmean(line["coverage"] for line in lines), 4),
        "coverage_worst": min(line["coverage"] for line in lines),
        "claimed": {"ratio": CLAIMED_RATIO, "coverage": CLAIMED_COVERAGE},
        "holds": all(
            line["ratio"] <= CLAIMED_RATIO
            and line["coverage"] >= CLAIMED_COVERAGE
            and not line["flagged"]
            for line in lines
        ),
    }


def features_of(seed: int, name: str) -> Tensor:
    """The features of the images of a split."""
    rows = data_of(seed).splits[name]
    return image_features(torch.from_numpy(data_of(seed).pixels[rows]) / 255)


def ten_that_cover_most(real: Tensor, other: Tensor) -> list[int]:
    """The places of ten images of `other`, each adding the most to what those before it cover."""
    real, other = standardised(real, real), standardised(other, real)
    radius = torch.cdist(real, real).kthvalue(NEIGHBOURS + 1, dim=1).values
    is_near = torch.cat([torch.cdist(part, real) < radius for part in other.split(2000)])
    picked: list[int] = []
    for _ in range(10):
        picked.append(int(is_near.sum(dim=1).argmax()))
        is_near = is_near & ~is_near[picked[-1]]
    return picked


def judged_sets(real: Tensor, made: Sequence[Tensor]) -> Result:
    """How sets of features that stand for collapsed generators are judged, the best of each.

    Ten images are repeated; a class has some 1,200 of its own, set against as many real ones.
    """
    found = []
    for features in made:
        count = len(real) if len(features) <= 10 else min(len(features), len(real))
        times = -(-count // len(features))
        found.append(generation_metrics(real[:count], features.repeat(times, 1)[:count]))
    return {
        "n": len(found),
        "flagged": sum(int(each["flagged"]) for each in found),
        "least_kernel_distance": round(min(each["kernel_distance"] for each in found), 3),
        "largest_variety": round(max(each["variety"] for each in found), 3),
        "least_variety": round(min(each["variety"] for each in found), 3),
        "largest_coverage": round(max(each["coverage"] for each in found), 4),
        "least_guarded_distance": round(min(each["guarded_distance"] for each in found), 3),
    }


def judged() -> Result:
    """Whether ten repeated images and one class only are flagged, and real images are not."""
    lines = []
    for seed in range(SEEDS):
        real, other = features_of(seed, "valid"), features_of(seed, "train")
        classes = torch.from_numpy(data_of(seed).targets[data_of(seed).splits["train"]])
        made = {
            "ten_repeated_images": [other[at * 10 : at * 10 + 10] for at in range(DRAWS)],
            "ten_picked_images": [other[ten_that_cover_most(real, other)]],
            "one_class_only": [other[classes == label] for label in range(10)],
        }
        fair = generation_metrics(real, other[-len(real) :])
        largest = largest_distance(standardised(real, real))
        lines.append(
            {
                "seed": seed,
                "largest_distance": round(largest, 3),
                "least_coverage": round(least_coverage(len(real)), 4),
                "real_images": {name: round(fair[name], 4) for name in SHOWN},
                **{kind: judged_sets(real, sets) for kind, sets in made.items()},
            }
        )
        print(json.dumps(lines[-1]), flush=True)
    kinds = ("ten_repeated_images", "ten_picked_images", "one_class_only")
    holds = all(
        line[kind]["flagged"] == line[kind]["n"]
        and line[kind]["least_guarded_distance"] > line["largest_distance"]
        and not line["real_images"]["flagged"]
        for line in lines
        for kind in kinds
    )
    return {"lines": lines, "holds": holds}


PARTS: dict[str, Callable[[], Result]] = {"judged": judged, "trained": trained}


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
        results["machine"] = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cores": os.cpu_count(),
        }
        args.out.write_text(json.dumps(results, indent=2) + "\n")
    return 0 if all(results[name]["holds"] for name in args.only) else 1


if __name__ == "__main__":
    sys.exit(main())
