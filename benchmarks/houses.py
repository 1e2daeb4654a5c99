"""What photographs add to a table: R2 of the log price of 535 houses, 5-fold cross-validation.

    python benchmarks/houses.py [--out benchmarks/houses.json] [--repeats 3]

Needs `houses.tar` and `mobilenet_v2_imagenet_int8deq.pth` in a data folder ($TORCHSTUDY_DATA).
Every fold is tested once: of the other rows 64 choose the epoch, and numbers and categories are
encoded by what is left to train on (364 rows). Each repeat shuffles the rows anew; its five folds
give five values of R2, each on 107 rows.
"""

import argparse
import os
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from torchstudy import Images
from torchstudy.data.dataset import ImageData, prepare
from torchstudy.data.spec import DataSpec
from torchstudy.families.base import Family
from torchstudy.families.linear import LinearModel
from torchstudy.families.mlp import MLP
from torchstudy.families.multi_input import MultiInput
from torchstudy.files import write_json
from torchstudy.records import Objective
from torchstudy.training.batches import Split
from torchstudy.training.features import cached_features
from torchstudy.training.lesson import Lesson
from torchstudy.training.optim import TrainingConfig
from torchstudy.training.trainer import train

FOLDS = 5
VALID = 64  # rows that choose the epoch
EPOCHS = 60
TRAINING = TrainingConfig(batch_size=32, patience=EPOCHS)
IMAGES = {
    "backbone": "mobilenet_v2",
    "weights": "mobilenet_v2_imagenet_int8deq.pth",
    "input_size": 224,
}
BRANCHES = {
    "table": MultiInput(branches="table"),
    "four views": MultiInput(branches="image", **IMAGES),
    "both": MultiInput(branches="both", **IMAGES),
}
BASELINES: dict[str, Family] = {"table, MLP": MLP(), "table, ridge": LinearModel()}


def houses() -> ImageData:
    """The houses; nearly all of them as one split, so that every zipcode has a code."""
    images = Images(
        "houses",
        target="price",
        log_target=True,
        columns={"id": "ignore", "zipcode": "category"},
        size=128,
        train=505,
        valid=10,
        select=10,
        test=10,
    )
    return prepare(images, seed=0)


def without_categories(data: ImageData) -> ImageData:
    """The same data as if the table had no zipcode."""
    spec = replace(data.spec, categories=(), category_values=())
    return replace(data, spec=spec, categories=None)


def folds(count: int, seed: int) -> Iterator[tuple[NDArray[np.int64], ...]]:
    """Rows to train on, to choose the epoch by, and to test on."""
    parts = np.array_split(np.random.default_rng(seed).permutation(count), FOLDS)
    for tested in range(FOLDS):
        rest = np.concatenate([part for number, part in enumerate(parts) if number != tested])
        yield rest[VALID:], rest[:VALID], parts[tested]


def fold_of(
    data: ImageData, features: NDArray[np.float32], rows: tuple[NDArray[np.int64], ...]
) -> tuple[DataSpec, list[Split]]:
    """Columns and target as the first of `rows` has them, and a split for each."""
    learned = rows[0]
    assert data.numbers is not None
    numbers = data.numbers - data.numbers[learned].mean(axis=0)
    numbers /= numbers[learned].std(axis=0)
    values, categories = [], None
    if data.categories is not None:
        categories = np.zeros_like(data.categories)
        for column, names in enumerate(data.spec.category_values):
            seen = [code for code in np.unique(data.categories[learned, column]) if code]
            values.append(tuple(names[code - 1] for code in seen))
            for new, old in enumerate(seen, start=1):
                categories[data.categories[:, column] == old, column] = new
    targets = data.targets.astype(np.float32)
    spec = replace(
        data.spec,
        num_train=len(learned),
        num_features=features.shape[1],
        category_values=tuple(values),
        target_mean=float(targets[learned].mean()),
        target_std=float(targets[learned].std()),
    )
    splits = [
        Split.of(
            features,
            part,
            targets[part],
            numbers=numbers[part],
            categories=None if categories is None else categories[part],
        )
        for part in rows
    ]
    return spec, splits


def r2_on_fold(family: Family, spec: DataSpec, splits: list[Split], seed: int) -> float:
    """R2 on the fold's test rows, of the epoch that was best on its valid rows."""
    lesson = Lesson(
        build=lambda: family.build(spec),
        phases=family.phases(spec, TRAINING),
        config=TRAINING,
        train=splits[0],
        valid=splits[1],
        score=lambda model, split: family.score(model, spec, split.in_order()),
        objective=Objective(metric="mse", direction="minimize"),
        epochs=EPOCHS,
        seed=seed,
    )
    _, model = train(lesson)
    with torch.inference_mode():
        return family.score(model, spec, splits[2].in_order())["r2"]


def measured(repeats: int) -> Iterator[dict[str, object]]:
    """A row per set of columns and family: R2 of every fold, their mean and spread."""
    data = houses()
    encoder = BRANCHES["both"].encoder(data.spec)
    assert encoder is not None
    items = np.arange(len(data.targets))
    key = data.handle.folder.name
    features = cached_features(encoder, data.pixels, items, data_key=key, on_note=print)
    for has_zipcode in (True, False):
        given = data if has_zipcode else without_categories(data)
        for name, family in {**BRANCHES, **BASELINES}.items():
            if name == "four views" and not has_zipcode:
                continue  # the images know of no zipcode
            scores = [
                r2_on_fold(family, *fold_of(given, features, rows), seed)
                for seed in range(repeats)
                for rows in folds(len(items), seed)
            ]
            yield {
                "inputs": name,
                "zipcode": has_zipcode,
                "mean": round(statistics.fmean(scores), 3),
                "spread of folds": round(statistics.stdev(scores), 3),
                "folds": [round(score, 3) for score in scores],
            }


def main() -> None:
    """Measure, print a line per row and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for row in measured(given.repeats):
        rows.append(row)
        print(row, flush=True)
    write_json(given.out, {"epochs": EPOCHS, "cores": os.cpu_count(), "rows": rows})


if __name__ == "__main__":
    main()
