"""Seconds per epoch: the same network trained by Lightning, skorch, a plain loop, and the product.

    python benchmarks/frameworks.py [--repeats 5] [--quick] [--out benchmarks/frameworks.json]

Needs the packages lightning and skorch. One thread, single precision, batches of 128, AdamW, the
same tensors and the same network for all, in one process with the settings of a study's workers. An
epoch trains on the training images and then scores accuracy and loss on the validation images:

- `product`: `train()`, with its finite checks, gradient norms, monitor, and best weights kept
- `plain`: a loop over slices of a shuffled tensor, nothing kept
- `lightning`: `Trainer` without logger, checkpoints, progress bar and summary
- `skorch`: `NeuralNetClassifier` with its own callbacks for loss and accuracy, printing off

Lightning and skorch read from a DataLoader over the tensors, as they do by themselves. Tensors are
normalised beforehand for all but the product, which normalises bytes in every epoch. Processor time
from the end of one epoch to the end of the next, median over the epochs of a training; trainings in
turn, `ratio` is theirs over the product's in the same turn. Exits with 1 where a framework is
quicker than the product.
"""

import argparse
import json
import logging
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from machine import facts, process_with, spread
from rungs import SPEC, images
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from skorch.dataset import Dataset as SkorchDataset
from skorch.helper import predefined_split
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from torchstudy import CNN, MLP, DataSpec, Family
from torchstudy.execution.forkserver import ENVIRONMENT
from torchstudy.records import Objective
from torchstudy.training.batches import Split
from torchstudy.training.lesson import Lesson
from torchstudy.training.optim import TrainingConfig
from torchstudy.training.trainer import train

BATCH, RATE = 128, 1e-3
DIGITS = DataSpec(
    source="digits",
    channels=1,
    height=8,
    width=8,
    classes=tuple("0123456789"),
    num_train=1437,
    mean=(0.305,),
    std=(0.376,),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A network, and the images that it learns from (the last fifth are for validation)."""

    family: Family
    spec: DataSpec
    epochs: int  # of a training, the first of which is not counted


TASKS = {
    "MLP, digits": Task(family=MLP(), spec=DIGITS, epochs=16),
    "small CNN, digits of 8 px": Task(family=CNN(width=16, depth=2), spec=DIGITS, epochs=11),
    "CNN recipe, Fashion-MNIST": Task(family=CNN(), spec=SPEC, epochs=3),
}


@dataclass(frozen=True, slots=True)
class Material:
    """A task's splits as the product takes them, and as normalised tensors (inputs, targets)."""

    train: Split
    valid: Split
    tensors: tuple[Tensor, Tensor]
    valid_tensors: tuple[Tensor, Tensor]


def material_of(task: Task) -> Material:
    """The first four fifths for training, the rest for validation."""
    if task.spec == DIGITS:
        found = load_digits()
        pixels, labels = (found.images * 15).astype(np.uint8)[:, None], found.target
    else:
        pixels, labels = images(SPEC.num_train // 4)
    cut = len(labels) * 4 // 5
    splits = [
        Split.of(pixels, rows, labels[rows].astype(np.int64), task.family.preprocessing(task.spec))
        for rows in (np.arange(cut), np.arange(cut, len(labels)))
    ]
    tensors = [next(split.in_order(len(split))) for split in splits]
    return Material(*splits, *((batch.inputs, batch.targets) for batch in tensors))


def product(task: Task, material: Material, tick: Callable[[], None]) -> None:
    """The product's own training, without a checkpoint."""
    config = TrainingConfig(batch_size=BATCH, learning_rate=RATE, patience=task.epochs)
    lesson = Lesson(
        build=lambda: task.family.build(task.spec),
        phases=task.family.phases(task.spec, config),
        config=config,
        train=material.train,
        valid=material.valid,
        score=lambda model, split: task.family.score(model, task.spec, split.in_order()),
        objective=Objective(metric="accuracy", direction="maximize"),
        epochs=task.epochs,
        seed=0,
    )
    train(lesson, on_epoch=lambda row: tick())


def plain(task: Task, material: Material, tick: Callable[[], None]) -> None:
    """The loop that one writes for oneself."""
    model = task.family.build(task.spec)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    inputs, targets = material.tensors
    for _ in range(task.epochs):
        model.train()
        for chosen in torch.randperm(len(targets)).split(BATCH):
            optimizer.zero_grad()
            cross_entropy(model(inputs[chosen]), targets[chosen]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            logits = model(material.valid_tensors[0])
            cross_entropy(logits, material.valid_tensors[1]).item()
            (logits.argmax(1) == material.valid_tensors[1]).float().mean().item()
        tick()


class Wrapped(lightning.LightningModule):
    """The network as Lightning wants it."""

    def __init__(self, model: nn.Module, tick: Callable[[], None]) -> None:
        super().__init__()
        self.model = model
        self.tick = tick

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """The loss of a batch."""
        return cross_entropy(self.model(batch[0]), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Loss and accuracy of a batch."""
        logits = self.model(batch[0])
        self.log("loss", cross_entropy(logits, batch[1]))
        self.log("accuracy", (logits.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW as it comes."""
        return torch.optim.AdamW(self.parameters(), lr=RATE)

    def on_train_epoch_end(self) -> None:
        """Validation is over by now."""
        self.tick()


def by_lightning(task: Task, material: Material, tick: Callable[[], None]) -> None:
    """Lightning's Trainer, with nothing that could be left off."""
    trainer = lightning.Trainer(
        max_epochs=task.epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(
        Wrapped(task.family.build(task.spec), tick),
        DataLoader(TensorDataset(*material.tensors), batch_size=BATCH, shuffle=True),
        DataLoader(TensorDataset(*material.valid_tensors), batch_size=512),
    )


class Ticking(Callback):
    """Says when an epoch is over."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self.tick = tick

    def on_epoch_end(self, net: NeuralNetClassifier, **given: object) -> None:
        """After the epoch's validation."""
        self.tick()


def by_skorch(task: Task, material: Material, tick: Callable[[], None]) -> None:
    """Skorch's classifier, with the callbacks that it has by itself."""
    net = NeuralNetClassifier(
        task.family.build(task.spec),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=RATE,
        batch_size=BATCH,
        max_epochs=task.epochs,
        iterator_train__shuffle=True,
        iterator_valid__batch_size=512,
        train_split=predefined_split(SkorchDataset(*material.valid_tensors)),
        callbacks=[Ticking(tick)],
        callbacks__print_log=None,
        verbose=0,
    )
    net.fit(*material.tensors)


SIDES: dict[str, Callable[[Task, Material, Callable[[], None]], None]] = {
    "product": product,
    "plain": plain,
    "lightning": by_lightning,
    "skorch": by_skorch,
}


def compared(task: Task, repeats: int) -> dict[str, Any]:
    """Seconds per epoch of every side, one training after the other in every turn."""
    warnings.simplefilter("ignore")  # Lightning has advice on workers and log intervals
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    material = material_of(task)
    for train_one in SIDES.values():  # loads what is loaded on use
        train_one(replace(task, epochs=1), material, lambda: None)
    turns = [
        {name: epoch_seconds(train_one, task, material) for name, train_one in SIDES.items()}
        for _ in range(repeats)
    ]
    return {
        name: {
            "seconds_per_epoch": spread((turn[name] for turn in turns), 4),
            "ratio": spread((turn[name] / turn["product"] for turn in turns), 2),
        }
        for name in SIDES
    }


def epoch_seconds(
    train_one: Callable[[Task, Material, Callable[[], None]], None], task: Task, material: Material
) -> float:
    """Median processor seconds from the end of one epoch to the end of the next."""
    ends: list[float] = []
    train_one(task, material, lambda: ends.append(time.process_time()))
    return statistics.median(after - before for before, after in pairwise(ends))


def main() -> int:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one repeat")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    repeats = 1 if args.quick else args.repeats
    with process_with(ENVIRONMENT) as pool:
        rows = [
            {"task": name, "sides": pool.submit(compared, task, repeats).result()}
            for name, task in TASKS.items()
        ]
    packages = {name: version(name) for name in ("lightning", "skorch")}
    result = {"machine": {**facts(), **packages}, "batch": BATCH, "repeats": repeats, "rows": rows}
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    ratios = [row["sides"][name]["ratio"]["median"] for row in rows for name in packages]
    return 0 if all(ratio >= 1 for ratio in ratios) else 1


if __name__ == "__main__":
    sys.exit(main())
