"""Augmenting a batch against torchvision's transforms of PIL images, one by one: time per image.

    python benchmarks/augmentation.py [--repeats 21] [--out benchmarks/augmentation.json]

Noise of 28 pixels (grey), 32 and 96 (colour), 128 images a batch, one thread, both in turn in the
same run, in processor time, so that other programs count less. Ours goes from uint8 batch to uint8
batch, theirs from PIL image to PIL image: what it takes to make tensors of those is not counted.
`ratio` is theirs over ours: the median over the repeats, with their range. Exits with 1 if the
median of a batch is anywhere the slower one.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from torchstudy.training.augmentation import Augmentation

BATCH = 128
CROP = 0.125
SIZES = ((28, 1), (32, 3), (96, 3))  # side, channels
OURS = {
    "crop + flip": Augmentation(crop=CROP, horizontal_flip=0.5),
    "crop + flip + rotation + jitter": Augmentation(
        crop=CROP,
        horizontal_flip=0.5,
        rotation=15.0,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
    ),
}


def theirs(name: str, side: int) -> transforms.Compose:
    """The transforms of torchvision that mean the same."""
    steps = [
        transforms.RandomCrop(side, padding=round(CROP * side)),
        transforms.RandomHorizontalFlip(0.5),
    ]
    if "rotation" in name:
        steps += [
            transforms.RandomRotation(15.0, transforms.InterpolationMode.BILINEAR),
            transforms.ColorJitter(0.4, 0.4, 0.4, 0.1),
        ]
    return transforms.Compose(steps)


def microseconds(action: Callable[[], object]) -> float:
    """Processor time of one call, per image of a batch."""
    began = time.process_time()
    action()
    return (time.process_time() - began) / BATCH * 1e6


def compared(name: str, side: int, channels: int, repeats: int) -> dict[str, object]:
    """One row of the result."""
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH, channels, side, side)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    pictures = [to_pil_image(image) for image in images]
    change, transform = OURS[name], theirs(name, side)
    times: list[tuple[float, float]] = []
    for _ in range(repeats + 1):
        ours = microseconds(lambda: change(images, generator))
        one_by_one = microseconds(lambda: [transform(picture) for picture in pictures])
        times.append((ours, one_by_one))
    del times[0]  # the first call pays for what is loaded on use
    ratios = [one_by_one / ours for ours, one_by_one in times]
    return {
        "changes": name,
        "side": side,
        "channels": channels,
        "batch_us_per_image": round(statistics.median(ours for ours, _ in times), 1),
        "pil_us_per_image": round(statistics.median(other for _, other in times), 1),
        "ratio": round(statistics.median(ratios), 1),
        "ratio_range": [round(min(ratios), 1), round(max(ratios), 1)],
    }


def main() -> int:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [compared(name, *size, args.repeats) for name in OURS for size in SIZES]
    result = {
        "rows": rows,
        "batch": BATCH,
        "repeats": args.repeats,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cores": os.cpu_count(),
    }
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if all(row["ratio"] > 1 for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
