"""Batches against torchvision's way (PIL image, ToTensor, Normalize, DataLoader): images a second.

    python benchmarks/loader.py [--repeats 7] [--out benchmarks/loader.json]

`memory`: 28 px grey images (Fashion-MNIST where it is installed, else noise) from a memory map,
12,800 an epoch. `files`: 96 px JPEG pictures made of noise, 1,024 an epoch, read again from their
files, as for data that fit into no memory. Both sides shuffle, normalise and make batches of 128;
the DataLoader has 0 or 2 workers, and reading from files 1 or 2 threads. Epochs in turn in the same
run. `cost` is processor time in microseconds per image, worker processes included (what other
programs disturb least), `rate` images per second of the clock. `ratio` is theirs over ours in cost,
the median over the repeats with their range, `rate_ratio` ours over theirs in rate.
`preprocessing` is the time per image of normalising a batch, in one multiply-add and as it is done.
Exits with 1 if ours costs more than theirs with as many workers anywhere.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from torchstudy.data.dataset import prepare
from torchstudy.data.fashion import IMAGES, read_idx
from torchstudy.data.images import Images
from torchstudy.data.memory import VARIABLE
from torchstudy.training.batches import Preprocessing, Split

BATCH = 128
FASHION = Path("/usr/share/datasets/fashion-mnist")
IN_MEMORY, IN_FILES = 100 * BATCH, 8 * BATCH
SIDE = 96  # of images in files


class Pictures(Dataset[tuple[Tensor, int]]):
    """What torchvision's own data sets do for one image."""

    def __init__(self, images: Sequence[Path] | NDArray[np.uint8], mean: Sequence[float]) -> None:
        self.images = images
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize(mean, [0.5] * len(mean))]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, item: int) -> tuple[Tensor, int]:
        image = self.images[item]
        if isinstance(image, Path):
            with Image.open(image) as file:
                return self.transform(file.convert("RGB")), 0
        return self.transform(Image.fromarray(image[0])), 0


def epoch(batches: Iterable[object]) -> dict[str, float]:
    """Seconds of the clock and of processors, worker processes included, of one epoch."""
    began, before = time.perf_counter(), os.times()
    for _ in batches:
        pass
    after = os.times()
    return {
        "seconds": time.perf_counter() - began,
        "cost": sum(after[:4]) - sum(before[:4]),
    }


def fine_epoch(batches: Callable[[], Iterable[object]], times: int) -> dict[str, float]:
    """The mean of several epochs, as processor time is counted in hundredths of a second."""
    epochs = epoch(batch for _ in range(times) for batch in batches())
    return {name: value / times for name, value in epochs.items()}


def fashion() -> NDArray[np.uint8]:
    """Images (items, 1, 28, 28): real ones where they are installed."""
    if FASHION.is_dir():
        return read_idx(FASHION / IMAGES[0], dimensions=3)[:IN_MEMORY, None]
    noise = np.random.default_rng(0).integers(0, 256, (IN_MEMORY, 1, 28, 28))
    return noise.astype(np.uint8)


def in_memory(folder: Path, repeats: int) -> list[dict[str, object]]:
    """Batches from a memory map against a DataLoader over the same array."""
    np.save(folder / "images.npy", fashion())
    images = np.load(folder / "images.npy", mmap_mode="c")
    rows = np.arange(len(images))
    split = Split.of(images, rows, rows, Preprocessing(mean=(0.5,), std=(0.5,)))
    generator = torch.Generator().manual_seed(0)
    dataset = Pictures(images, [0.5])

    def ours() -> dict[str, float]:
        return fine_epoch(lambda: split.shuffled(BATCH, generator), 20)

    return [
        {
            "path": "memory",
            **compared(ours, loaded(dataset, workers), len(images), repeats, workers),
        }
        for workers in (0, 2)
    ]


def in_files(folder: Path, repeats: int) -> list[dict[str, object]]:
    """Batches read from files by threads against a DataLoader over the same files."""
    os.environ |= {VARIABLE: "1KB", "TORCHSTUDY_CACHE": str(folder / "cache")}
    generator = np.random.default_rng(0)
    paths = []
    for number in range(IN_FILES):
        path = folder / "photographs" / f"{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(generator.integers(0, 256, (12, 12, 3)).astype(np.uint8))
        small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path, quality=90)
        paths.append(path)
    data = prepare(Images(folder / "photographs", size=SIDE, channels=3), seed=0)
    rows = np.arange(len(data.targets))
    preprocessing = Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)
    split = Split.of(data.pixels, rows, data.targets, preprocessing)
    order = torch.Generator().manual_seed(0)
    dataset = Pictures(paths, [0.5] * 3)

    def ours(threads: int) -> dict[str, float]:
        torch.set_num_threads(threads)  # as many as read from files
        measured = epoch(split.shuffled(BATCH, order))
        torch.set_num_threads(1)
        return measured

    return [
        {
            "path": "files",
            "threads": max(1, workers),
            **compared(
                lambda workers=workers: ours(max(1, workers)),
                loaded(dataset, workers),
                len(rows),
                repeats,
                workers,
            ),
        }
        for workers in (0, 2)
    ]


def loaded(dataset: Pictures, workers: int) -> Callable[[], dict[str, float]]:
    """An epoch of a DataLoader, whose workers start before and end within the measurement."""
    return lambda: epoch(DataLoader(dataset, BATCH, shuffle=True, num_workers=workers))


def compared(
    ours: Callable[[], dict[str, float]],
    theirs: Callable[[], dict[str, float]],
    count: int,
    repeats: int,
    workers: int,
) -> dict[str, object]:
    """One row of the result: epochs in turn."""
    ours(), theirs()  # the first ones pay for what is loaded on use
    pairs = [(ours(), theirs()) for _ in range(repeats)]

    def of(side: int, name: str) -> float:
        return statistics.median(pair[side][name] for pair in pairs)

    ratios = [pair[1]["cost"] / pair[0]["cost"] for pair in pairs]
    rates = [pair[1]["seconds"] / pair[0]["seconds"] for pair in pairs]
    return {
        "workers": workers,
        "images": count,
        "our_cost_us": round(of(0, "cost") / count * 1e6, 2),
        "their_cost_us": round(of(1, "cost") / count * 1e6, 2),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        "our_rate": round(count / of(0, "seconds")),
        "their_rate": round(count / of(1, "seconds")),
        "rate_ratio": round(statistics.median(rates), 2),
        "rate_ratio_range": [round(min(rates), 2), round(max(rates), 2)],
    }


def preprocessing_times(side: int, channels: int, repeats: int) -> dict[str, object]:
    """Microseconds per image of normalising a batch, as it is done and in one multiply-add."""
    pixels = torch.randint(0, 256, (BATCH, channels, side, side), dtype=torch.uint8)
    mean, std = torch.full((channels, 1, 1), 0.4), torch.full((channels, 1, 1), 0.3)
    done = Preprocessing(mean=(0.4,) * channels, std=(0.3,) * channels)

    def at_once() -> Tensor:
        images = torch.addcmul(-mean / std, pixels.float(), 1 / (255 * std))
        return images.contiguous(memory_format=torch.channels_last)

    def microseconds(action: Callable[[], Tensor]) -> float:
        began = time.process_time()
        action()
        return (time.process_time() - began) / BATCH * 1e6

    pairs = [
        (microseconds(lambda: done(pixels)), microseconds(at_once)) for _ in range(20 * repeats)
    ]
    return {
        "side": side,
        "channels": channels,
        "done_us": round(statistics.median(own for own, _ in pairs), 2),
        "multiply_add_us": round(statistics.median(other for _, other in pairs), 2),
    }


def main() -> int:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        rows = in_memory(Path(name), args.repeats) + in_files(Path(name), args.repeats)
    result = {
        "rows": rows,
        "preprocessing": [
            preprocessing_times(side, channels, args.repeats)
            for side, channels in ((28, 1), (32, 3), (96, 3))
        ],
        "is_fashion_mnist": FASHION.is_dir(),
        "batch": BATCH,
        "repeats": args.repeats,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if all(row["ratio"] > 1 for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
