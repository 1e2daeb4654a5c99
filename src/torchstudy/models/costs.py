"""What a network costs to keep and to use: numbers, operations, memory, and time for one item."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from torchstudy.data.spec import DataSpec
from torchstudy.families.base import Family
from torchstudy.families.phases import FrozenEncoder
from torchstudy.models.frozen_costs import kept_costs
from torchstudy.records import COSTS, LATENCIES
from torchstudy.training.batches import Batch
from torchstudy.training.features import features_of

# Seconds of repetitions for a latency, and before it to warm up. Every trial pays for them: medians
# of 15 repetitions spread by 0.3 to 2% as they do over 0.05 s, for networks of 0.03 to 0.5 ms.
TIMED, WARMED = 0.01, 0.002
LEAST_REPEATS, LEAST_WARM = 10, 2  # of large networks, which take longer than that
HELD, ACTIVATIONS = "held", "activations"  # bytes: of numbers and buffers, of the largest layer
COUNTED = ("parameters", "flops", HELD, ACTIVATIONS)


Costs = dict[str, float]


class Answering(nn.Module):
    """A network and how it is asked; called, it answers to one item."""

    def __init__(self, network: nn.Module, ask: Callable[[nn.Module], Tensor]) -> None:
        super().__init__()
        self.network = network.eval()
        self._ask = ask

    @classmethod
    def whole(cls, family: Family, data: DataSpec) -> "Answering":
        """The whole network of a family, from images on, asked about one item of zeros."""
        spec = replace(data, num_features=num_features(family, data))
        batch = one_item(family, spec)
        return cls(family.deployed(spec), lambda network: family.outputs(network, batch))

    def forward(self) -> Tensor:
        """What the network answers."""
        return self._ask(self.network)


def costs_of(family: Family, data: DataSpec, *, with_latency: bool = True) -> Costs:
    """The costs of the whole network, frozen parts included, for one item at a time.

    `parameters`: numbers it holds. `flops`: floating-point operations of one forward pass, two for
    a multiplication with its addition, in convolutions and matrix products (those of attention
    too; recurrent layers are not counted). `memory`: bytes of all numbers and buffers, and of the
    layer whose inputs and outputs take most, in single precision. `latency_p50`, `latency_p95`:
    milliseconds of a forward pass on one thread, median and 95th percentile.

    A frozen encoder is measured once per machine, and its costs are added to those of the head,
    percentiles too: every head on it is charged the same.
    """
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        encoder = family.encoder(data)
        if encoder is None:
            found = _measured(Answering.whole(family, data), with_latency)
        else:
            found = _on_frozen(family, data, encoder, with_latency)
    found["memory"] = found.pop(HELD) + found.pop(ACTIVATIONS)
    return {name: found[name] for name in COSTS if name in found}


def _on_frozen(family: Family, data: DataSpec, encoder: FrozenEncoder, with_latency: bool) -> Costs:
    """The costs of a frozen encoder and of the head on its features, together."""
    spec = replace(data, num_features=num_features(family, data))
    images = _images(data, len(encoder.preprocessing.mean))
    features = replace(one_item(family, spec), inputs=torch.zeros(1, spec.num_features))
    frozen = kept_costs(
        encoder,
        data,
        {*COUNTED, *(LATENCIES if with_latency else ())},
        lambda: _measured(
            Answering(encoder.build(), lambda network: features_of(network, images)), with_latency
        ),
    )
    head = Answering(family.build(spec), lambda network: family.outputs(network, features))
    own = _measured(head, with_latency)
    both = {name: cost + frozen[name] for name, cost in own.items()}
    return both | {ACTIVATIONS: max(own[ACTIVATIONS], frozen[ACTIVATIONS])}


def _measured(answering: Answering, with_latency: bool) -> Costs:
    """The costs COUNTED, and latencies if asked for."""
    (operations,) = operations_by_call(answering)[id(answering)]
    held = [*answering.network.parameters(), *answering.network.buffers()]
    return {
        "parameters": float(sum(p.numel() for p in answering.network.parameters())),
        "flops": float(operations),
        HELD: float(sum(t.numel() * t.element_size() for t in held)),
        ACTIVATIONS: float(_activations(answering)),
        **(_latencies(answering) if with_latency else {}),
    }


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
    if family.uses_images(data):
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


def operations_by_call(answering: Answering) -> dict[int, list[int]]:
    """Floating-point operations of one forward pass: of each call of each module, by its `id`.

    What a module calls is part of it.
    """
    found: dict[int, list[int]] = {}
    begun: list[int] = []
    counter = FlopCounterMode(display=False)

    def begin(module: nn.Module, inputs: Any) -> None:
        begun.append(counter.get_total_flops())

    def end(module: nn.Module, inputs: Any, output: Any) -> None:
        found.setdefault(id(module), []).append(counter.get_total_flops() - begun.pop())

    modules = list(answering.modules())
    with _without_fused_attention(), _hooked(modules, begin, end), counter:
        answering()
    return found


def _activations(answering: Answering) -> int:
    """Bytes of inputs and outputs of the layer that has most."""
    largest = 0

    def watch(layer: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal largest
        tensors = [t for t in (*inputs, output) if isinstance(t, Tensor)]
        largest = max(largest, sum(t.numel() * t.element_size() for t in tensors))

    leaves = [module for module in answering.modules() if not list(module.children())]
    with _hooked(leaves, lambda layer, inputs: None, watch):
        answering()
    return largest


@contextmanager
def _without_fused_attention() -> Iterator[None]:
    """Attention as single operations: the fused one would be counted as none."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _hooked(modules: Iterable[nn.Module], before: Any, after: Any) -> Iterator[None]:
    handles = []
    for module in modules:
        handles.append(module.register_forward_pre_hook(before))
        handles.append(module.register_forward_hook(after))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _latencies(answering: Answering) -> dict[str, float]:
    """Milliseconds of a forward pass at the LATENCIES' percentiles."""
    with _one_thread():
        _repeated(answering, LEAST_WARM, WARMED)
        times = _repeated(answering, LEAST_REPEATS, TIMED)
    return {
        name: float(np.percentile(times, percentile) * 1000)
        for name, percentile in LATENCIES.items()
    }


def _repeated(answering: Answering, least: int, seconds: float) -> list[float]:
    """Seconds of one forward pass after another, for so many seconds and at least so often."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < until:
        began = time.perf_counter()
        answering()
        times.append(time.perf_counter() - began)
    return times
