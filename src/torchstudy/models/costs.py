"""What a network costs to keep and to use: numbers, operations, memory, and time for one item."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torchstudy.data.spec import DataSpec
from torchstudy.families.base import Family
from torchstudy.records import COSTS, LATENCIES
from torchstudy.training.batches import Batch
from torchstudy.training.features import features_of

TIMED = 0.05  # seconds of repetitions for a latency, after the same again to warm up
LEAST_REPEATS = 10


class Answering(nn.Module):
    """A whole network and its family's way of asking it; called, it answers to one item."""

    def __init__(self, family: Family, data: DataSpec) -> None:
        super().__init__()
        spec = replace(data, num_features=num_features(family, data))
        self.network = family.deployed(spec).eval()
        self._family = family
        self._batch = one_item(family, spec)

    def forward(self) -> Tensor:
        """What the network answers to one item of zeros."""
        return self._family.outputs(self.network, self._batch)


def costs_of(family: Family, data: DataSpec, *, with_latency: bool = True) -> dict[str, float]:
    """The costs of the whole network, frozen parts included, for one item at a time.

    `parameters`: numbers it holds. `flops`: floating-point operations of one forward pass, two for
    a multiplication with its addition, in convolutional and linear layers. `memory`: bytes of all
    numbers and buffers, and of the layer whose inputs and outputs take most, in single precision.
    `latency_p50`, `latency_p95`: milliseconds of a forward pass, median and 95th percentile.
    """
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        answering = Answering(family, data)
        operations, activations = _forward_costs(answering)
        held = [*answering.network.parameters(), *answering.network.buffers()]
        found = {
            "parameters": float(sum(p.numel() for p in answering.network.parameters())),
            "flops": float(operations),
            "memory": float(sum(t.numel() * t.element_size() for t in held) + activations),
        }
        latencies = _latencies(answering) if with_latency else {}
    assert {*found, *latencies} <= set(COSTS)
    return {**found, **latencies}


def num_features(family: Family, data: DataSpec) -> int:
    """How many features a frozen encoder makes of one item; those of `data` without one."""
    encoder = family.encoder(data)
    if encoder is None or data.num_features:
        return data.num_features
    network = encoder.build().eval()
    with torch.inference_mode():
        return int(features_of(network, _images(data, len(encoder.preprocessing.mean))).shape[1])


def one_item(family: Family, data: DataSpec) -> Batch:
    """A batch of one item of zeros, as the whole network takes it."""
    inputs = torch.zeros(1, 0)
    if data.has_images:
        inputs = _images(data, len(family.preprocessing(data).mean))
    return Batch(
        inputs,
        torch.zeros(1, dtype=torch.int64),
        torch.zeros(1, len(data.numbers)) if data.numbers else None,
        torch.zeros(1, len(data.categories), dtype=torch.int64) if data.categories else None,
    )


def _images(data: DataSpec, channels: int) -> Tensor:
    views = (data.views,) if data.views > 1 else ()
    return torch.zeros(1, *views, channels, data.height, data.width)


def _forward_costs(answering: Answering) -> tuple[int, int]:
    """Operations of one forward pass, and bytes of inputs and outputs of its largest layer."""
    operations, largest = 0, 0

    def watch(layer: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal operations, largest
        operations += _operations(layer, output)
        tensors = [t for t in (*inputs, output) if isinstance(t, Tensor)]
        largest = max(largest, sum(t.numel() * t.element_size() for t in tensors))

    with _hooked(answering, watch):
        answering()
    return operations, largest


def _operations(layer: nn.Module, output: Any) -> int:
    if isinstance(layer, nn.Linear):
        return 2 * layer.in_features * int(output.numel())
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return 2 * layer.weight[0].numel() * int(output.numel())
    if isinstance(layer, nn.ConvTranspose2d):
        taps = layer.weight[:, 0].numel() / (layer.stride[0] * layer.stride[1])
        return round(2 * taps * int(output.numel()))
    return 0


@contextmanager
def _hooked(model: nn.Module, hook: Any) -> Iterator[None]:
    leaves = [module for module in model.modules() if not list(module.children())]
    handles = [leaf.register_forward_hook(hook) for leaf in leaves]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _latencies(answering: Answering) -> dict[str, float]:
    """Milliseconds of a forward pass at the LATENCIES' percentiles."""
    _repeated(answering)
    times = _repeated(answering)
    return {
        name: float(np.percentile(times, percentile) * 1000)
        for name, percentile in LATENCIES.items()
    }


def _repeated(answering: Answering) -> list[float]:
    times: list[float] = []
    until = time.perf_counter() + TIMED
    while len(times) < LEAST_REPEATS or time.perf_counter() < until:
        began = time.perf_counter()
        answering()
        times.append(time.perf_counter() - began)
    return times
