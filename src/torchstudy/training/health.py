"""Where numbers went wrong: the first layer with values or gradients that are not finite."""

import torch
from torch import nn


def first_non_finite(model: nn.Module) -> str | None:
    """The name of the first parameter or buffer, in forward order, that is not finite, or None.

    A gradient counts as well: it is bad one step before the parameter is.
    """
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            return name
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            return f"{name} (gradient)"
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point() and not torch.isfinite(buffer).all():
            return name
    return None


def divergence(model: nn.Module, what: str, epoch: int) -> str:
    """One sentence: what was not finite, when, and in which layer it shows first."""
    place = first_non_finite(model)
    return f"{what} was not finite in epoch {epoch}" + (f", first seen in {place}" if place else "")
