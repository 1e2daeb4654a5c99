"""What `training.health.Monitor` measures, for each member of a group in one step of all."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from torchstudy.training.health import BOUNDS, FEWEST, NEAR, RECTIFIERS
from torchstudy.training.together.layers import by_member, channels_by_member

WORST: dict[str, Callable[[list[float]], float]] = {
    "gradient_ratio": min,
    "gradient_max": max,
    "update_ratio": statistics.median,
    "dead_share": max,
    "saturated_share": max,
}


class Watch(TorchFunctionMode):
    """Watches one step of a stacked network: `with watch:` around the forward pass, then `after`.

    A layer is a stacked module whose members have a weight of two or more dimensions; layers count
    from the input on. Each measure is kept as one number for each member.
    """

    def __init__(self, group: nn.Module, num_members: int, num_items: int) -> None:
        super().__init__()
        owned = {name: list(m.parameters(recurse=False)) for name, m in group.named_modules()}
        self._layers = {name: own for name, own in owned.items() if any(p.ndim >= 3 for p in own)}
        self._layer_of = {id(p): name for name, own in self._layers.items() for p in own}
        self._before = {name: _weights(own) for name, own in self._layers.items()}
        self._num_members, self._num_items = num_members, num_items
        self._last: str | None = None
        self._order: dict[str, None] = {}
        self._pending: list[Tensor] = []
        self._seen: dict[str, list[Tensor]] = {name: [] for name in WORST}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in args:
            if (layer := self._layer_of.get(id(value))) is not None and layer != self._last:
                self._reach(layer)
        name = getattr(func, "__name__", "").removesuffix("_")
        if self._last is not None and (name in RECTIFIERS or name in BOUNDS):
            with torch.no_grad():
                self._note(name, result.detach())
        return result

    def after(self, gradients: Mapping[nn.Parameter, Tensor]) -> None:
        """Take the gradients (unclipped norms, stacked) and how far the step moved the weights."""
        with torch.no_grad():
            norms = [
                torch.stack([gradients[p] for p in self._layers[name]]).norm(dim=0)
                for name in self._order
            ]
            self._seen["gradient_max"] += norms
            if len(norms) > 1:
                self._seen["gradient_ratio"].append(norms[0] / norms[-1])
            for name, before in self._before.items():
                change = torch.linalg.vector_norm(_weights(self._layers[name]) - before, dim=1)
                self._seen["update_ratio"].append(change / torch.linalg.vector_norm(before, dim=1))

    def measures(self) -> list[dict[str, float]]:
        """For each member the numbers that `Monitor.measures` names, where they are finite."""
        columns = {name: torch.stack(each).T.tolist() for name, each in self._seen.items() if each}
        found: list[dict[str, float]] = []
        for number in range(self._num_members):
            values = {
                name: [value for value in column[number] if math.isfinite(value)]
                for name, column in columns.items()
            }
            found.append({name: WORST[name](each) for name, each in values.items() if each})
        return found

    def _reach(self, layer: str) -> None:
        """Another layer begins: the activations before it do not end the network."""
        self._last = layer
        self._order[layer] = None
        self._seen["saturated_share"] += self._pending
        self._pending = []

    def _note(self, name: str, output: Tensor) -> None:
        each = self._by_member(output)
        if name in BOUNDS:
            low, high = BOUNDS[name]
            margin = NEAR * (high - low)
            is_near = (each < low + margin) | (each > high - margin)
            self._pending.append(is_near.flatten(1).float().mean(dim=1))
        elif each[0].numel() >= FEWEST * each.shape[2]:
            others = tuple(dim for dim in range(1, each.ndim) if dim != 2)
            is_dead = torch.linalg.vector_norm(each, dim=others) == 0
            self._seen["dead_share"].append(is_dead.float().mean(dim=1))

    def _by_member(self, output: Tensor) -> Tensor:
        """(members, batch, units, ...) of either order that stacked layers work in."""
        if len(output) == self._num_items:
            return by_member(output, self._num_members)
        return channels_by_member(output, self._num_members)


def _weights(parameters: Sequence[nn.Parameter]) -> Tensor:
    """A copy of the members' weights, biases aside, as one row each."""
    return torch.cat([p.detach().flatten(1) for p in parameters if p.ndim >= 3], dim=1)
