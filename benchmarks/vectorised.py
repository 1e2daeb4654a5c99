"""K trainings of one architecture stacked into one network against one after the other.

    python benchmarks/vectorised.py [--repeats 3] [--epochs 3] [--out benchmarks/vectorised.json]

Digits (987 training images, 8 px, or scaled to 28 px), whole trainings with scoring in the same
process: `train_together` of K lessons, then `train` of each, in turn. The lessons differ in seed,
learning rate and weight decay. Processor time on one thread, so that other programs count less.
`ratio` is one by one over together: the median over the repeats, with their range; above 1,
together is quicker. `values` and `work` are what one member's layers give and compute in the
forward pass on a batch; by them `grouping.together_key` decides whether lessons may go together
(`goes_together`), which must part the networks that gain from those that do not. A linear model is
fitted by a solver and takes no steps that could be stacked. Exits with 1 unless the recipe of the
MLP with K = 16 is at least 2.5 times as quick, and nothing that goes together with K = 8 or more
is slower for it.
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

from torchstudy.data.dataset import ImageData, prepare
from torchstudy.data.images import Images
from torchstudy.families.base import Family
from torchstudy.families.cnn import CNN
from torchstudy.families.mlp import MLP
from torchstudy.records import Objective
from torchstudy.training.batches import Split
from torchstudy.training.lesson import Lesson
from torchstudy.training.optim import TrainingConfig
from torchstudy.training.together.grouping import MOST_VALUES, MOST_WORK, step_size
from torchstudy.training.together.train import train_together
from torchstudy.training.trainer import train

MEMBERS = (1, 2, 4, 8, 16, 32)
TARGET = 2.5
CASES: tuple[tuple[str, int, Family, int], ...] = (  # name, pixels, network, batch size
    ("MLP, recipe", 8, MLP(), 128),
    ("MLP, recipe without dropout", 8, MLP(dropout=0.0), 128),
    ("MLP, recipe, batches of 32", 8, MLP(), 32),
    ("MLP, 1 layer of 32, 28 px", 28, MLP(depth=1, width=32), 128),
    ("CNN, 1 block of 8", 8, CNN(depth=1, width=8), 128),
    ("CNN, 1 block of 8, batches of 32", 8, CNN(depth=1, width=8), 32),
    ("CNN, recipe", 8, CNN(), 128),
)
BOUNDARY: tuple[tuple[str, int, Family, int], ...] = (  # with 8 members, to find MOST_WORK
    ("MLP, recipe, batches of 512", 8, MLP(), 512),
    ("MLP, 3 layers of 256", 8, MLP(depth=3, width=256), 128),
    ("MLP, 2 layers of 256, 28 px", 28, MLP(width=256), 128),
    ("CNN, 1 block of 32", 8, CNN(depth=1, width=32), 128),
    ("CNN, 2 blocks of 8", 8, CNN(depth=2, width=8), 128),
    ("CNN, 2 blocks of 16", 8, CNN(depth=2, width=16), 128),
    ("CNN, 1 block of 8, 28 px", 28, CNN(depth=1, width=8), 128),
    ("CNN, recipe, batches of 32", 8, CNN(), 32),
)


def lessons_on(
    data: ImageData, family: Family, batch_size: int, count: int, epochs: int
) -> list[Lesson]:
    """Lessons that differ in what may differ within a group."""
    preprocessing = family.preprocessing(data.spec)

    def split(name: str) -> Split:
        rows = data.splits[name]
        return Split.of(data.pixels, rows, data.targets[rows], preprocessing)

    train_split, valid = split("train"), split("valid")
    lessons = []
    for number in range(count):
        config = TrainingConfig(
            learning_rate=1e-3 * (1 + number),
            weight_decay=1e-3 * (1 + number),
            batch_size=batch_size,
            patience=epochs,
        )
        lessons.append(
            Lesson(
                build=lambda: family.build(data.spec),
                phases=family.phases(data.spec, config),
                config=config,
                train=train_split,
                valid=valid,
                score=lambda model, part: family.score(model, data.spec, part.in_order()),
                objective=Objective(metric="accuracy", direction="maximize"),
                epochs=epochs,
                seed=number,
            )
        )
    return lessons


def seconds(action: Callable[[], object]) -> float:
    """Processor time of one call."""
    began = time.process_time()
    action()
    return time.process_time() - began


def compared(
    data: ImageData, family: Family, batch_size: int, count: int, epochs: int, repeats: int
) -> dict[str, object]:
    """One row of the result."""
    lessons = lessons_on(data, family, batch_size, count, epochs)
    times = []
    for _ in range(repeats + 1):
        together = seconds(lambda: train_together(lessons, data=data.spec, outputs=family.outputs))
        times.append((together, seconds(lambda: [train(lesson) for lesson in lessons])))
    del times[0]  # the first call pays for what is loaded on use
    values, work = step_size(family, lessons[0].build(), lessons[0])
    steps = lessons[0].train.num_batches(batch_size) * epochs * count
    ratios = [alone / together for together, alone in times]
    return {
        "members": count,
        "values": values,
        "work": work,
        "goes_together": values <= MOST_VALUES and work <= MOST_WORK,
        "together_us_per_step": round(statistics.median(t for t, _ in times) / steps * 1e6),
        "alone_us_per_step": round(statistics.median(t for _, t in times) / steps * 1e6),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
    }


def main() -> int:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--members", type=int, nargs="*", default=MEMBERS)
    parser.add_argument("--case", default="", help="only the cases whose name contains this")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    for name, side, family, batch_size in (*CASES, *BOUNDARY):
        if args.case not in name:
            continue
        data = prepare(Images("digits", size=side), seed=0)
        is_boundary = any(name == case[0] for case in BOUNDARY)
        for count in [8] if is_boundary else args.members:
            numbers = compared(data, family, batch_size, count, args.epochs, args.repeats)
            rows.append({"case": name, "side": side, "batch": batch_size, **numbers})
            print(rows[-1], flush=True)
    result = {
        "rows": rows,
        "most_values": MOST_VALUES,
        "most_work": MOST_WORK,
        "epochs": args.epochs,
        "repeats": args.repeats,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    recipe = [r for r in rows if (r["case"], r["members"]) == (CASES[0][0], 16)]
    allowed = [r for r in rows if r["goes_together"] and int(str(r["members"])) >= 8]
    is_reached = all(float(str(r["ratio"])) >= TARGET for r in recipe)
    return 0 if is_reached and all(float(str(r["ratio"])) > 1 for r in allowed) else 1


if __name__ == "__main__":
    sys.exit(main())
