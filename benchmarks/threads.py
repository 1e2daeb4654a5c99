"""Two trainings of one thread against one of two threads: steps a second on two cores.

    python benchmarks/threads.py [--repeats 5] [--out benchmarks/threads.json]

The CNN recipe at 28 px, batches of 128, in the product's own steps and workers' allocator settings;
both ways in turn, wall time, `--steps` steps a process. `ratio` is two processes' steps a second
over one's: the median over the repeats, with their range. Exits with 1 if two threads are quicker.
"""

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from machine import facts, spread
from rungs import Net, product_epoch

from torchstudy import CNN
from torchstudy.execution.forkserver import ENVIRONMENT
from torchstudy.training.compute import compute_for


def steps_per_second(num_threads: int, steps: int, repeats: int) -> list[float]:
    """The rate of each repeat, after one to warm up."""
    torch.set_num_threads(num_threads)
    net = Net(family=CNN(), steps=steps)
    epoch = product_epoch(net, compute_for("auto", "cpu", net.work))
    epoch()
    rates = []
    for _ in range(repeats):
        began = time.perf_counter()
        epoch()
        rates.append(steps / (time.perf_counter() - began))
    return rates


def rate(num_processes: int, num_threads: int, steps: int) -> float:
    """Steps a second of all processes, which begin together."""
    with ProcessPoolExecutor(num_processes, get_context("spawn")) as pool:
        waiting = [
            pool.submit(steps_per_second, num_threads, steps, 3) for _ in range(num_processes)
        ]
        return sum(sorted(each.result())[1] for each in waiting)


def main() -> None:
    """Measure in turn, print, keep the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    alike = {name: value for name, value in ENVIRONMENT.items() if "THREADS" not in name}
    os.environ.update(alike)  # as the processes start with it
    found = []
    for _ in range(args.repeats):
        found.append((rate(2, 1, args.steps), rate(1, 2, args.steps)))
        print(*(f"{each:.1f}" for each in found[-1]), flush=True)
    result = {
        "two_processes_of_one_thread": spread(two for two, _ in found),
        "one_process_of_two_threads": spread(one for _, one in found),
        "ratio": spread(two / one for two, one in found),
        "repeats": args.repeats,
        "machine": facts(),
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["ratio"]))
    sys.exit(0 if result["ratio"]["median"] >= 1 else 1)


if __name__ == "__main__":
    main()
