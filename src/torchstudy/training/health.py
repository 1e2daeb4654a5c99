"""How well a training is: what reaches the layers in one step, and how far the weights move."""

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

RECTIFIERS = {"relu", "relu_", "relu6", "hardtanh", "hardtanh_", "threshold", "threshold_"}
BOUNDS = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
NEAR = 0.01  # of the range between the bounds: an output this close to one is saturated
FEWEST = 8  # values of a unit in a batch, below which nothing is said about its being dead


class Monitor:
    """Watches one optimizer step per epoch: what reaches the layers, and how far the weights move.

    A layer is a module with a weight of two or more dimensions of its own; layers count from the
    input on, as the step first uses them. Only layers whose parameters the step trains are looked
    at, and the activations right after them, whether they are modules or functions. Watching
    changes no number, draws nothing, and leaves nothing on the model.
    """

    def __init__(self, model: nn.Module) -> None:
        owned = [list(module.parameters(recurse=False)) for module in model.modules()]
        self._layers = [own for own in owned if any(p.ndim >= 2 for p in own)]
        self._seen: dict[str, list[Tensor]] = {}

    @contextmanager
    def step(self, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
        """Around one forward, backward and optimizer step (of one phase) over `parameters`."""
        given = {id(p) for p in parameters if p.requires_grad}
        trained = {
            number: members
            for number, layer in enumerate(self._layers)
            if (members := [p for p in layer if id(p) in given])
        }
        watch = _Functions(self._layers, trained)
        before = {number: _weights(layer) for number, layer in trained.items()}
        gradients: dict[int, Tensor] = {}
        hooks = [
            p.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]  # torch's own
                _keep_norm(gradients)
            )
            for layer in trained.values()
            for p in layer
        ]
        try:
            with watch:
                yield
        finally:
            for hook in hooks:
                hook.remove()
        with torch.no_grad():
            self._take_gradients(_norms(trained, gradients, watch.order))
            self._take_updates(trained, before, gradients)
            self._take("dead_share", [m.float().mean() for m in watch.dead.values()])
            self._take("saturated_share", [watch.saturated[key] for key in watch.hidden])

    def measures(self) -> dict[str, float]:
        """Numbers of the steps watched since the last call, and forgets them.

        Each is there only where it is defined and finite; of several steps, the worst counts.

        - gradient_ratio: gradient norm of the first layer / that of the last, before clipping
        - gradient_max: largest gradient norm of a layer, before clipping
        - update_ratio: median over layers of |weight change| / |weight|
        - dead_share: of the worst ReLU layer, the share of units (of maps: channels) that are 0
          for every item of the batch
        - saturated_share: of the worst sigmoid or tanh between two layers, the share of outputs
          within 1% of the range from a bound; an output that ends the network may well be there
        """
        worst: dict[str, Callable[[list[float]], float]] = {
            "gradient_ratio": min,
            "gradient_max": max,
            "update_ratio": statistics.median,
            "dead_share": max,
            "saturated_share": max,
        }
        found = {name: [float(value) for value in self._seen.get(name, ())] for name in worst}
        self._seen.clear()
        finite = {name: [v for v in values if math.isfinite(v)] for name, values in found.items()}
        return {name: worst[name](values) for name, values in finite.items() if values}

    def _take(self, name: str, values: Iterable[Tensor]) -> None:
        self._seen.setdefault(name, []).extend(values)

    def _take_gradients(self, norms: list[Tensor]) -> None:
        self._take("gradient_max", norms)
        if len(norms) > 1:
            self._take("gradient_ratio", [norms[0] / norms[-1]])

    def _take_updates(
        self,
        trained: Mapping[int, list[nn.Parameter]],
        before: Mapping[int, Tensor],
        gradients: Mapping[int, Tensor],
    ) -> None:
        for number, layer in trained.items():
            if any(id(p) in gradients for p in layer) and before[number].numel():
                change = torch.linalg.vector_norm(_weights(layer) - before[number])
                self._take("update_ratio", [change / torch.linalg.vector_norm(before[number])])


class _Functions(TorchFunctionMode):
    """Sees each torch function of a step: which layer comes when, and what activations give.

    `order` holds the trained layers as they are first used. An activation is known by its name,
    the layer before it and its number of units, so a network that runs twice has each once.
    """

    def __init__(
        self, layers: Sequence[list[nn.Parameter]], trained: Mapping[int, list[nn.Parameter]]
    ) -> None:
        super().__init__()
        self._layer_of = {id(p): number for number, own in enumerate(layers) for p in own}
        self._trained = trained
        self._last: int | None = None
        self._is_dense = False
        self._pending: list[tuple[str, int, int]] = []
        self.order: dict[int, None] = {}
        self.dead: dict[tuple[str, int, int], Tensor] = {}
        self.saturated: dict[tuple[str, int, int], Tensor] = {}
        self.hidden: dict[tuple[str, int, int], None] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if isinstance(result, Tensor | tuple):
            self._note_layers([*args, *(kwargs or {}).values()], name)
        if isinstance(result, Tensor) and result.requires_grad and self._last in self._trained:
            with torch.no_grad():
                self._note_activation(name, result)
        return result

    def _note_layers(self, given: Iterable[Any], function: str) -> None:
        for value in given:
            if isinstance(value, list | tuple):
                self._note_layers(value, function)
            elif (number := self._layer_of.get(id(value))) is not None:
                self._last, self._is_dense = number, function == "linear"
                if number in self._trained and number not in self.order:
                    self.order[number] = None
                    self.hidden.update(dict.fromkeys(self._pending))
                    self._pending.clear()

    def _note_activation(self, name: str, output: Tensor) -> None:
        bounds = BOUNDS.get(name.removesuffix("_"))
        if output.ndim < 2 or (bounds is None and name not in RECTIFIERS):
            return
        axis = output.ndim - 1 if output.ndim == 2 or self._is_tokens(output) else 1
        assert self._last is not None
        key = name, self._last, output.shape[axis]
        if bounds:
            share = _near(output, *bounds)
            self.saturated[key] = torch.maximum(share, self.saturated.get(key, share))
            self._pending.append(key)
        elif output.numel() >= FEWEST * output.shape[axis]:
            others = tuple(dim for dim in range(output.ndim) if dim != axis)
            # 4 times as fast as comparing each value, on maps in channels_last
            is_dead = torch.linalg.vector_norm(output, dim=others) == 0
            self.dead[key] = is_dead & self.dead.get(key, is_dead)

    def _is_tokens(self, output: Tensor) -> bool:
        """Whether it is (batch, tokens, units), and not (batch, channels, length)."""
        return output.ndim == 3 and self._is_dense


def _near(output: Tensor, low: float, high: float) -> Tensor:
    margin = NEAR * (high - low)
    return ((output < low + margin) | (output > high - margin)).float().mean()


def _keep_norm(gradients: dict[int, Tensor]) -> Callable[[Tensor], None]:
    """A hook that keeps a parameter's gradient norm as soon as it is complete."""

    def keep(parameter: Tensor) -> None:
        assert parameter.grad is not None
        gradients[id(parameter)] = torch.linalg.vector_norm(parameter.grad.detach().float())

    return keep


def _norms(
    trained: Mapping[int, list[nn.Parameter]],
    gradients: Mapping[int, Tensor],
    order: Iterable[int],
) -> list[Tensor]:
    """The gradient norm of each trained layer that has one, from the input on.

    A layer that no torch function was seen to use (compiled code) puts all of them in the order of
    the model's definition.
    """
    reached = [
        number for number, layer in trained.items() if any(id(p) in gradients for p in layer)
    ]
    used = [number for number in order if number in reached]
    return [
        torch.stack([gradients[id(p)] for p in trained[number] if id(p) in gradients]).norm()
        for number in (used if len(used) == len(reached) else reached)
    ]


def _weights(layer: Iterable[nn.Parameter]) -> Tensor:
    """A copy of the weights of a layer, biases aside, as one vector."""
    flat = [p.detach().flatten() for p in layer if p.ndim >= 2]
    return torch.cat(flat) if flat else torch.empty(0)
