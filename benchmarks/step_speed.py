"""Milliseconds per training step, from a textbook's loop to the product's own, rung by rung.

    python benchmarks/step_speed.py [--only ladder bf16_work evaluation compile] [--quick]
                                    [--repeats 3] [--out benchmarks/step_speed.json]

One thread, batches of 128 of Fashion-MNIST (noise where it is not there), 28 px. Loading is part of
a step on every rung. Each rung is the one before and one thing more:

- `textbook`: PIL images, ToTensor and Normalize in a DataLoader; convolution, normalisation, ReLU,
  pooling; Adam as it comes, in single precision; `loss.item()` after every step; malloc as it comes
- `gather`: batches picked from a tensor of uint8
- `channels last`: weights and images with the channels last in memory
- `malloc`: a process that keeps freed memory, as workers do
- `pool first, fused`: pooling before ReLU, activations in place, the optimizer in one kernel
- `bfloat16`: forward pass and loss under autocast, whatever the size of the network
- `product`: `gradient_steps`, the code of a study, in the precision that it chooses itself

The GAN's steps are those of PyTorch's DCGAN tutorial up to the last rung, both networks a step.
All rungs of a network are measured in turn, in processor (`cpu`) and wall time; `ratio` is the
textbook's processor time over the rung's in the same turn. Operations of a step are counted, those
of the backward pass too; `share_of_peak` is their rate over the best that this process reaches in
the rung's precision, in a product of large matrices or a convolution of 64 to 64 channels.
`profile` names the operators that the product's steps spend most on.

`bf16_work`: the product's step in both precisions by the operations of its forward pass (Mflop),
and the constant that loses least. `evaluation`: 4,000 images scored in batches of several sizes.
`compile`: what torch.compile costs before its first step, in processor seconds, and brings from
then on. A part that is measured alone replaces that part of the file. Exits with 1 where the
product's own step is slower than the textbook's.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from machine import facts, peaks, process_with, seconds_of, spread
from rungs import (
    BF16,
    EPOCH,
    FUSED,
    MALLOC,
    PRODUCT,
    RUNGS,
    SPEC,
    TEXTBOOK,
    Net,
    milliseconds,
    ordinary_step,
    product_epoch,
    rung_epoch,
    split_of,
)
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from torchstudy import CNN, GAN, MLP, Denoiser
from torchstudy.execution.forkserver import ENVIRONMENT
from torchstudy.training.compute import BF16_WORK, Compute, compute_for

OPERATORS = 8  # of a profile
PROFILED = 10  # steps
SCORED, SCORING_BATCHES = 4000, (128, 512, 2048)
NETS = {
    "small CNN": Net(family=CNN(width=16, depth=2), steps=47),
    "CNN recipe": Net(family=CNN(width=32, depth=2), steps=30),
    "deep CNN": Net(family=CNN(width=64, depth=3), steps=12),
    "autoencoder": Net(family=Denoiser(width=16, depth=2), steps=30),
    "GAN": Net(family=GAN(), steps=30, optimizer="adam"),
}
LARGER = ("CNN recipe", "deep CNN")
SIZES = {
    "CNN 8, depth 1, batch 16": Net(family=CNN(width=8, depth=1), batch=16, steps=47),
    "CNN 8, depth 1": Net(family=CNN(width=8, depth=1), steps=47),
    "MLP 64, depth 1": Net(family=MLP(width=64, depth=1), steps=47),
    "MLP 256, depth 1": Net(family=MLP(width=256, depth=1), steps=47),
    "MLP 256, depth 3": Net(family=MLP(width=256, depth=3), steps=47),
    "CNN 8, depth 2": Net(family=CNN(width=8, depth=2), steps=47),
    "CNN 16, depth 2, batch 32": Net(family=CNN(width=16, depth=2), batch=32, steps=47),
    "CNN 16, depth 2, batch 64": Net(family=CNN(width=16, depth=2), batch=64, steps=47),
    "CNN 16, depth 2": Net(family=CNN(width=16, depth=2), steps=47),
    "CNN 32, depth 2": Net(family=CNN(width=32, depth=2), steps=15),
    "CNN 64, depth 2": Net(family=CNN(width=64, depth=2), steps=10),
    "CNN 64, depth 3": Net(family=CNN(width=64, depth=3), steps=6),
    "Denoiser 8, depth 2": Net(family=Denoiser(width=8, depth=2), steps=23),
    "Denoiser 16, depth 2": Net(family=Denoiser(width=16, depth=2), steps=15),
    "GAN 8": Net(family=GAN(width=8, discriminator_width=8), steps=23),
    "GAN 32": Net(family=GAN(), steps=10),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How often and how long everything is measured, and in which processes."""

    repeats: int
    share: float  # of the steps
    plain: ProcessPoolExecutor
    worker: ProcessPoolExecutor  # with the settings of a study's workers
    peaks: dict[str, float]

    def of(self, net: Net) -> Net:
        """The network with as many steps as there is time for."""
        return replace(net, steps=max(3, round(net.steps * self.share)))


def ladder(plan: Plan) -> list[dict[str, Any]]:
    """One row per network, with all rungs."""
    return [climbed(plan, name, plan.of(net)) for name, net in NETS.items()]


def climbed(plan: Plan, name: str, net: Net) -> dict[str, Any]:
    """All rungs of one network, one after the other in every turn."""
    times: list[list[tuple[float, float]]] = [[] for _ in RUNGS]
    for _ in range(plan.repeats):
        for level, found in enumerate(times):
            pool = plan.worker if level >= MALLOC else plan.plain
            found.append(pool.submit(milliseconds, net, level).result())
    precision, operators, counted = plan.worker.submit(looked_into, net).result()
    rows = {}
    for level, (rung, found) in enumerate(zip(RUNGS, times, strict=True)):
        used = spread(cpu for cpu, _ in found)
        kind = precision if level == PRODUCT else "bf16" if level >= BF16 else "fp32"
        rate = counted[level == PRODUCT] / used["median"] / 1e6
        rows[rung] = {
            "cpu_ms": used,
            "wall_ms": spread(wall for _, wall in found),
            "ratio": spread((a[0] / b[0] for a, b in zip(times[TEXTBOOK], found, strict=True)), 2),
            "gflops": round(rate, 1),
            "share_of_peak": round(rate / plan.peaks[kind], 3),
        }
    return {
        "net": name,
        "forward_mflop": round(net.work / 1e6, 1),
        "textbook_step_mflop": round(counted[False] / 1e6, 1),
        "step_mflop": round(counted[True] / 1e6, 1),
        "precision": precision,
        "rungs": rows,
        "profile": operators,
    }


def looked_into(net: Net) -> tuple[str, list[dict[str, Any]], tuple[float, float]]:
    """The product's precision and costliest operators; operations of a textbook's and its step."""
    own = rung_epoch(replace(net, steps=PROFILED), PRODUCT)
    own()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        own()
    events = profiler.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    events.sort(key=lambda event: -event.self_cpu_time_total)
    operators = [
        {
            "operator": event.key,
            "share": round(event.self_cpu_time_total / total, 3),
            "calls_per_step": round(event.count / PROFILED, 1),
        }
        for event in events[:OPERATORS]
    ]
    precision = compute_for("auto", "cpu", net.work).precision
    return precision, operators, (operations(net, TEXTBOOK), operations(net, PRODUCT))


def operations(net: Net, level: int) -> float:
    """Floating-point operations of one step of a rung, forward and backward."""
    epoch = rung_epoch(replace(net, steps=1), level)
    with FlopCounterMode(display=False) as counter:
        epoch()
    return float(counter.get_total_flops())


def bf16_work(plan: Plan) -> dict[str, Any]:
    """The product's step in both precisions, from few operations to many, and the constant."""
    rows = [
        {"net": name, **plan.worker.submit(both_precisions, plan.of(net), plan.repeats).result()}
        for name, net in SIZES.items()
    ]
    rows.sort(key=lambda row: row["forward_mflop"])
    bounds = [row["forward_mflop"] * 1e6 for row in rows] + [math.inf]
    return {
        "rows": rows,
        "now": BF16_WORK,
        "lost_now": round(lost(rows, BF16_WORK), 4),
        "best": min(bounds, key=lambda bound: lost(rows, bound)),
        "lost_at_best": round(min(lost(rows, bound) for bound in bounds), 4),
    }


def both_precisions(net: Net, repeats: int) -> dict[str, Any]:
    """Processor milliseconds of a step in single precision and in bfloat16, in turn."""
    epochs = [product_epoch(net, Compute(is_bf16=is_bf16)) for is_bf16 in (False, True)]
    for epoch in epochs:
        epoch()
    turns = [[seconds_of(epoch)[0] * 1000 / net.steps for epoch in epochs] for _ in range(repeats)]
    return {
        "forward_mflop": round(net.work / 1e6, 2),
        "fp32_ms": spread(fp32 for fp32, _ in turns),
        "bf16_ms": spread(bf16 for _, bf16 in turns),
        "ratio": spread((fp32 / bf16 for fp32, bf16 in turns), 2),
    }


def lost(rows: list[dict[str, Any]], bound: float) -> float:
    """The mean share of a step that is lost by the slower precision, with bfloat16 from `bound`."""
    ratios = [
        1 / row["ratio"]["median"]
        if row["forward_mflop"] * 1e6 >= bound
        else row["ratio"]["median"]
        for row in rows
    ]
    return sum(max(0.0, ratio - 1) for ratio in ratios) / len(rows)


def compiled(plan: Plan) -> dict[str, Any]:
    """What torch.compile costs before the first step and brings afterwards, from an empty cache."""
    if not any(shutil.which(name) for name in ("g++", "c++", "clang++")):
        return {"skipped": "no C++ compiler is there"}
    rows = {}
    for name in LARGER:
        with tempfile.TemporaryDirectory() as folder:
            settings = {"TORCHINDUCTOR_CACHE_DIR": folder, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
            with process_with({**ENVIRONMENT, **settings}) as pool:
                rows[name] = pool.submit(compile_cost, plan.of(NETS[name]), plan.repeats).result()
    return rows


def compile_cost(net: Net, repeats: int) -> dict[str, Any]:
    """Seconds for the first step, and milliseconds per step with and without, in turn."""
    level = BF16 if compute_for("auto", "cpu", net.work).is_bf16 else FUSED
    batch = split_of(net.family, net.batch).spread(net.batch)
    model = net.family.build(SPEC).train().to(memory_format=torch.channels_last)
    steps = [ordinary_step(net, each, level) for each in (model, torch.compile(model))]
    steps[0](batch.inputs, batch.targets)
    before = sum(os.times()[:4])  # of this process and of the compilers that it starts
    _, wall = seconds_of(lambda: steps[1](batch.inputs, batch.targets))
    first = sum(os.times()[:4]) - before

    def stepped(step: Callable[[Tensor, Tensor], float]) -> float:
        action = lambda: [step(batch.inputs, batch.targets) for _ in range(net.steps)]  # noqa: E731
        return seconds_of(action)[0] * 1000 / net.steps

    for step in steps:
        stepped(step)
    turns = [[stepped(step) for step in steps] for _ in range(repeats)]
    gained = statistics.median(without - with_it for without, with_it in turns) / 1000
    needed = math.ceil(first / gained) if gained > 0 else None
    return {
        "precision": "bf16" if level == BF16 else "fp32",
        "first_step_cpu_s": round(first, 1),
        "first_step_wall_s": round(wall, 1),
        "eager_ms": spread(eager for eager, _ in turns),
        "compiled_ms": spread(quick for _, quick in turns),
        "ratio": spread((eager / quick for eager, quick in turns), 2),
        "break_even_steps": needed,
        "break_even_epochs": None if needed is None else round(needed * net.batch / EPOCH, 1),
    }


def evaluation(plan: Plan) -> dict[str, Any]:
    """Milliseconds to score 4,000 images in batches of several sizes, in single precision."""
    count = round(SCORED * plan.share)
    return {
        name: plan.worker.submit(scoring, NETS[name], count, plan.repeats).result()
        for name in LARGER
    }


def scoring(net: Net, count: int, repeats: int) -> dict[str, Any]:
    """Processor milliseconds by the size of the batches, in turn."""
    split, model = split_of(net.family, count), net.family.build(SPEC).eval()
    model.to(memory_format=torch.channels_last)

    def scored(size: int) -> float:
        action = lambda: net.family.score(model, SPEC, split.in_order(size))  # noqa: E731
        return seconds_of(action)[0] * 1000

    with torch.inference_mode():
        scored(SCORING_BATCHES[0])
        turns = [[scored(size) for size in SCORING_BATCHES] for _ in range(repeats)]
    by_size = zip(SCORING_BATCHES, zip(*turns, strict=True), strict=True)
    return {"images": count, **{f"batch_{size}_ms": spread(found, 1) for size, found in by_size}}


def as_worker() -> None:
    """Load what workers have loaded before they begin."""
    import torchstudy.execution.preloaded  # noqa: F401


PARTS: dict[str, Callable[[Plan], Any]] = {
    "ladder": ladder,
    "bf16_work": bf16_work,
    "evaluation": evaluation,
    "compile": compiled,
}


def main() -> int:
    """Measure the chosen parts, print, compare the product with the textbook."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a sixth of the steps, once")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    result: dict[str, Any] = {"runs": {}}
    if args.out and args.out.exists() and set(args.only) < set(PARTS):
        result |= json.loads(args.out.read_text())
    with process_with({}) as plain, process_with(ENVIRONMENT) as worker:
        worker.submit(as_worker).result()
        plan = Plan(
            repeats=1 if args.quick else args.repeats,
            share=1 / 6 if args.quick else 1.0,
            plain=plain,
            worker=worker,
            peaks=worker.submit(peaks).result(),
        )
        for name in args.only:
            began, run = time.perf_counter(), facts()
            result[name] = PARTS[name](plan)
            run |= {"repeats": plan.repeats, "seconds": round(time.perf_counter() - began)}
            result["runs"][name] = {**run, "peaks_gflops": plan.peaks}
            if args.out:
                args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({name: result[name] for name in args.only}, indent=2))
    own = [
        row["rungs"]["product"]["ratio"]["median"]
        for row in (result["ladder"] if "ladder" in args.only else ())
    ]
    return 0 if all(ratio >= 1 for ratio in own) else 1


if __name__ == "__main__":
    sys.exit(main())
