"""Where numbers that are not finite began: the step is taken again, with every layer watched."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from torchstudy.records import UNTRAINED


def divergence(what: str, epoch: int, place: str | None, *, is_untrained: bool = False) -> str:
    """One sentence: what was not finite, when, and where that shows first.

    `is_untrained` says that the weights are those that the network was built with.
    """
    when = UNTRAINED if is_untrained else f"in epoch {epoch}"
    return f"{what} was not finite {when}" + (f", first seen in {place}" if place else "")


def bad_weight(model: nn.Module) -> str | None:
    """The name of the first parameter that is not finite, else of a buffer with NaN, or None.

    Infinity may well stand in a buffer: masks of attention have it.
    """
    for name, parameter in model.named_parameters():
        if not _is_finite(parameter):
            return name
    return next((n for n, buffer in model.named_buffers() if buffer.isnan().any()), None)


def origin_of_step(model: nn.Module, loss: Callable[[], Tensor]) -> str | None:
    """Where a step began to be not finite, whose `loss` is computed again on the same weights.

    Forwards the first layer counts, backwards the last one. None where the step is finite this time
    or cannot be taken again. Gradients are those of this step afterwards; buffers may change.
    """
    trace = _Trace(model)
    try:
        with trace.watching():
            value = loss()
            if trace.place or not _is_finite(value):
                return trace.place or "the loss itself: what every layer gave was finite"
            model.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]  # torch's own annotation is missing
    except Exception:  # a family's code may fail in any way when it is called once more
        return trace.place
    if trace.place is None and not _is_finite(_total(model)):
        return "the sum over all layers, each of which was finite"
    return trace.place


def origin_of_score(model: nn.Module, score: Callable[[], object]) -> str | None:
    """Where a score began to be not finite that `score` computes once more; None as above."""
    if (name := bad_weight(model)) is not None:
        return name
    trace = _Trace(model)
    try:
        with trace.watching():
            score()
    except Exception:  # a family's code may fail in any way when it is called once more
        return trace.place
    return trace.place or "the metric itself: what every layer gave was finite"


class _Trace:
    """Looks at what every module gives and gets back, until something is not finite: `place`."""

    def __init__(self, model: nn.Module) -> None:
        self.place: str | None = None
        self._model = model
        self._later = "the loss"  # what the gradient came from that was last seen to be finite

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Around one step or score; nothing is left on the model."""
        hooks = [
            module.register_forward_hook(self._gives(name))
            for name, module in self._model.named_modules()
        ]
        hooks += [
            _hooked(parameter, self._learns(name))
            for name, parameter in self._model.named_parameters()
            if parameter.requires_grad
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _gives(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            if self.place is None and not _is_finite(output):
                self.place = _blamed(name, module, inputs)
            if self.place is None and not any(True for _ in module.children()):
                for tensor in _tensors(output):
                    if tensor.requires_grad:
                        _hooked(tensor, self._passes_back(_titled(name, module)))

        return look

    def _passes_back(self, title: str) -> Callable[[Tensor], None]:
        def look(gradient: Tensor) -> None:
            if self.place is None and not _is_finite(gradient):
                self.place = f"the gradient that {self._later} passes back"
            self._later = title

        return look

    def _learns(self, name: str) -> Callable[[Tensor], None]:
        def look(gradient: Tensor) -> None:
            if self.place is None and not _is_finite(gradient):
                self.place = f"the gradient of {name}"

        return look


def _blamed(name: str, module: nn.Module, inputs: Any) -> str:
    """What is not finite about the first module whose output is not."""
    own = dict(module.named_parameters(name, recurse=False))
    kept = dict(module.named_buffers(name, recurse=False))
    for found in (own, {} if _is_finite(inputs) else {"": inputs}, kept):
        for label, value in found.items():
            if label and not _is_finite(value):
                return label
            if not label:
                return f"the input of {_titled(name, module)}"
    return f"the output of {_titled(name, module)}"


def _hooked(tensor: Tensor, look: Callable[[Tensor], None]) -> RemovableHandle:
    handle: RemovableHandle = tensor.register_hook(look)  # type: ignore[no-untyped-call]  # torch's
    return handle


def _titled(name: str, module: nn.Module) -> str:
    return f"{name} ({type(module).__name__})" if name else "the network"


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point() or value.is_complex():
            yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))


def _is_finite(value: Any) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in _tensors(value))


def _total(model: nn.Module) -> Tensor:
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return nn.utils.get_total_norm(grads) if grads else torch.tensor(math.nan)
