"""Heads on frozen features, kept once, against running the frozen backbone in every epoch.

    python benchmarks/features.py [--repeats 3] [--subset 64] [--out benchmarks/features.json]

20 trials of 20 epochs, a linear or hidden-layer head each. Photographs of ants and bees at 224 px
through MobileNetV2, where `hymenoptera_256.tar` and `mobilenet_v2_imagenet_int8deq.pth` lie in a
data folder ($TORCHSTUDY_DATA); else digits through the shipped backbone.

Ours is measured in full, as a study trains: the images decoded, the one pass of the backbone over
all splits, then every trial as a job of its own, with its scores, checkpoints and written weights.
The plain way is PIL, torchvision's transforms and a DataLoader, the backbone in eval mode under
no_grad, a step of the head per batch, and a look at the validation images after each epoch. It is
measured on `--subset` images per repeat and SCALED UP: seconds per image and epoch, learned from
or looked at, times the images, epochs and trials; its start-up is not counted.

Processor time, one thread, memory allocated as a study's workers have it (which the plain way
gains from too), both sides in turn in the same run, an empty cache each time. `ratio` is
plain over ours, the median over the repeats with their range: of the first trial, which pays for
decoding and features, of a later one (median), and of all 20. Exits with 1 if all 20 together are
less than 200 times as fast.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import transforms

from torchstudy import Images
from torchstudy.data.archives import extracted
from torchstudy.data.dataset import ImageData, prepare
from torchstudy.execution import job as jobs
from torchstudy.execution.forkserver import ENVIRONMENT
from torchstudy.execution.job import Job
from torchstudy.families.backbones import SHIPPED, find_backbone
from torchstudy.families.transfer import Transfer
from torchstudy.files import find_in_data_folders
from torchstudy.records import Objective, Status, TrainingKey
from torchstudy.study import Study

TRIALS, EPOCHS, BATCH = 20, 20, 32
TARGET = 200
PHOTOS, WEIGHTS = "hymenoptera_256.tar", "mobilenet_v2_imagenet_int8deq.pth"
ALIKE = {"batch_size": BATCH, "patience": EPOCHS}  # the plain loop has no early stopping


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is learned, and from what."""

    images: Images
    backbone: Mapping[str, str]

    def plain_images(self) -> Dataset[Any]:
        """The images as a DataLoader is usually given them: PIL, transformed one by one."""
        steps = find_backbone(**self.backbone).preprocessing
        change = [transforms.ToTensor(), transforms.Normalize(steps.mean, steps.std)]
        if self.images.size is None:
            return Digits(transforms.Compose(change))
        archive = find_in_data_folders(PHOTOS)
        assert archive is not None
        size = self.images.size
        change = [transforms.Resize(size), transforms.CenterCrop(size), *change]
        folder = str(extracted(archive) / "train")
        return torchvision.datasets.ImageFolder(folder, transforms.Compose(change))


class Digits(Dataset[Any]):
    """scikit-learn's digits as PIL images."""

    def __init__(self, change: transforms.Compose) -> None:
        from sklearn.datasets import load_digits

        found = load_digits()
        grey = (found.images * (255 / 16)).astype("uint8")
        self.pictures = [Image.fromarray(image) for image in grey]
        self.labels = found.target.tolist()
        self.change = change

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        return self.change(self.pictures[number]), self.labels[number]


def chosen_task() -> Task:
    """Photographs if they and the weights are there, else digits."""
    if find_in_data_folders(PHOTOS) and find_in_data_folders(WEIGHTS):
        backbone = {"name": "mobilenet_v2", "weights": WEIGHTS}
        return Task(images=Images("hymenoptera_256", size=224), backbone=backbone)
    return Task(images=Images("digits"), backbone={"name": SHIPPED, "weights": "default"})


@contextmanager
def empty_cache() -> Iterator[Path]:
    """A cache of its own for what is measured inside."""
    before = os.environ.get("TORCHSTUDY_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHSTUDY_CACHE"] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop("TORCHSTUDY_CACHE")
            if before is not None:
                os.environ["TORCHSTUDY_CACHE"] = before


def heads(task: Task) -> list[dict[str, Any]]:
    """The configurations of the trials: learning rates, and heads with and without a layer."""
    names = {"backbone": task.backbone["name"], "weights": task.backbone["weights"]}
    study = Study(
        data="digits",
        families=[Transfer],
        maximize="accuracy",
        space={f"Transfer.{key}": value for key, value in names.items()},
    )
    recipe = {**study.space_of(Transfer).recipe, **ALIKE}
    return [
        {**recipe, "learning_rate": 10 ** (-4 + 3 * number / TRIALS), "hidden": (0, 64)[number % 2]}
        for number in range(TRIALS)
    ]


def ours(task: Task) -> tuple[list[float], ImageData]:
    """Processor seconds of each trial, the first with everything that is done once; the data."""
    configs, seconds = heads(task), []
    with empty_cache() as folder:
        began = time.process_time()
        data = prepare(task.images, seed=0)
        for number, config in enumerate(configs):
            job = Job(
                action="train",
                key=TrainingKey(family="Transfer", number=number, seed=number),
                family=Transfer,
                config=config,
                objective=Objective(metric="accuracy", direction="maximize"),
                epochs=EPOCHS,
                purpose="search",
                data=data.handle,
                folder=folder / str(number),
            )
            outcome = jobs.run(job, lambda payload: None, lambda: False)
            assert outcome.status is Status.COMPLETED, outcome.reason
            assert outcome.epochs == EPOCHS
            now = time.process_time()
            seconds.append(now - began)
            began = now
    return seconds, data


def plain(task: Task, subset: int) -> tuple[float, float]:
    """Processor seconds per image and epoch: of one learned from, of one that is looked at."""
    backbone = find_backbone(**task.backbone).build().eval()
    images = task.plain_images()
    places = [number * len(images) // subset for number in range(subset)]  # type: ignore[arg-type]
    loader = DataLoader(Subset(images, places), batch_size=BATCH, shuffle=True)
    features = backbone(next(iter(loader))[0])  # the first call pays for what is set up on use
    head = nn.Linear(features.shape[1], 10)
    optimizer = torch.optim.Adam(head.parameters())

    began = time.process_time()
    for inputs, labels in loader:
        with torch.no_grad():
            features = backbone(inputs)
        loss = nn.functional.cross_entropy(head(features), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    learned = time.process_time()
    with torch.no_grad():
        for inputs, labels in loader:
            (head(backbone(inputs)).argmax(dim=1) == labels).float().mean().item()
    return (learned - began) / subset, (time.process_time() - learned) / subset


def compared(task: Task, subset: int) -> dict[str, float]:
    """One repeat: seconds of both sides."""
    with empty_cache():
        learned, looked_at = plain(task, subset)
    seconds, data = ours(task)
    num_train, num_valid = len(data.splits["train"]), len(data.splits["valid"])
    trial = EPOCHS * (num_train * learned + num_valid * looked_at)
    later = statistics.median(seconds[1:])
    return {
        "plain_ms_per_image": learned * 1e3,
        "plain_seconds_per_trial": trial,
        "first_trial_seconds": seconds[0],
        "later_trial_seconds": later,
        "all_seconds": sum(seconds),
        "ratio_first": trial / seconds[0],
        "ratio_later": trial / later,
        "ratio_all": TRIALS * trial / sum(seconds),
        "train": num_train,
        "valid": num_valid,
        "images": sum(map(len, data.splits.values())),
    }


def main() -> int:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--subset", type=int, default=64, help="images of the plain way")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})
    torch.set_num_threads(1)
    task = chosen_task()
    repeats = []
    for _ in range(args.repeats):
        repeats.append(compared(task, args.subset))
        print({name: round(value, 3) for name, value in repeats[-1].items()}, flush=True)
    middle = {name: statistics.median(each[name] for each in repeats) for name in repeats[0]}
    result = {
        "data": task.images.source,
        "backbone": task.backbone["name"],
        "trials": TRIALS,
        "epochs": EPOCHS,
        "repeats": args.repeats,
        "subset": args.subset,
        "plain": "scaled up from seconds per image and epoch on the subset",
        "ours": "measured in full, with decoding, the feature pass and start-up",
        "median": {name: round(value, 3) for name, value in middle.items()},
        "range": {
            name: [round(change(each[name] for each in repeats), 3) for change in (min, max)]
            for name in middle
            if name.startswith(("ratio", "plain_ms", "all"))
        },
        "target": TARGET,
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if middle["ratio_all"] >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
