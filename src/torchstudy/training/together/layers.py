"""Layers that work for several members of a group at once, each with its own weights and items.

Between layers, the items of the members stand one after the other: (members * batch, ...). Inside
a run of convolutions the members' channels stand side by side instead: (batch, members * channels,
height, width), in channels_last memory, which is what grouped convolutions are quick with.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Stacked(nn.Module):
    """A layer of every member: parameters and buffers have a first dimension for the members.

    They carry the names that they have in a member's layer.
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.num_members = len(members)
        first = members[0]
        for name, _ in first.named_parameters(recurse=False):
            values = torch.stack([getattr(member, name).detach() for member in members])
            self.register_parameter(name, nn.Parameter(values.contiguous()))
        for name, _ in first.named_buffers(recurse=False):
            self.register_buffer(name, torch.stack([getattr(member, name) for member in members]))
        for name in ("weight", "bias"):
            if getattr(first, name, None) is None:
                self.register_parameter(name, None)


class StackedLinear(Stacked):
    """Each member's items by its own matrix, in one batched product."""

    def forward(self, items: Tensor) -> Tensor:
        """Items (members * batch, inputs) -> (members * batch, outputs)."""
        result: Tensor = _Products.apply(items, self.weight, self.bias)
        return result


class _Products(torch.autograd.Function):
    """Batched products whose gradients come in the weights' memory order.

    Autograd's own transpose the gradient of the weights afterwards: a tenth of a step.
    """

    @staticmethod
    def forward(ctx: Any, items: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(members * batch, outputs), of weights (members, outputs, inputs)."""
        ctx.save_for_backward(items, weight)
        each = by_member(items, len(weight))
        if bias is None:
            return torch.bmm(each, weight.mT).flatten(0, 1)
        return torch.baddbmm(bias.unsqueeze(1), each, weight.mT).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        """The gradients of items, weight and bias, those that are asked for."""
        items, weight = ctx.saved_tensors
        needs_items, _, needs_bias = ctx.needs_input_grad
        each = by_member(gradient, len(weight))
        return (
            torch.bmm(each, weight).flatten(0, 1) if needs_items else None,
            torch.bmm(each.mT, by_member(items, len(weight))),
            each.sum(dim=1) if needs_bias else None,
        )


class SideBySide(Stacked):
    """A layer that works on the members' channels side by side.

    Alone, it brings the items into that order and back again; in a run of such layers only the
    first `enters` it and only the last `leaves` it.
    """

    enters: bool = True
    leaves: bool = True

    def forward(self, items: Tensor) -> Tensor:
        """Maps of all members, in the order that `enters` and `leaves` say."""
        maps = side_by_side(items, self.num_members) if self.enters else items
        result = self.work(maps)
        return one_after_the_other(result, self.num_members) if self.leaves else result

    def work(self, maps: Tensor) -> Tensor:
        """What the layer does to maps (batch, members * channels, ...)."""
        raise NotImplementedError


class StackedConv(SideBySide):
    """One grouped convolution, a group for each member."""

    def __init__(self, members: Sequence[nn.Conv2d]) -> None:
        super().__init__(members)
        self.stride, self.padding = members[0].stride, members[0].padding
        self.dilation = members[0].dilation

    def work(self, maps: Tensor) -> Tensor:
        """Maps (batch, members * inputs, ...) -> (batch, members * outputs, ...)."""
        assert self.weight is not None
        weight = self.weight.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return nn.functional.conv2d(
            maps,
            weight,
            None if self.bias is None else self.bias.flatten(),
            self.stride,
            self.padding,
            self.dilation,
            self.num_members,
        )


class StackedBatchNorm(SideBySide):
    """One batch normalisation over the channels of all members."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, members: Sequence[nn.BatchNorm1d | nn.BatchNorm2d]) -> None:
        super().__init__(members)
        assert members[0].momentum is not None
        self.momentum, self.eps = members[0].momentum, members[0].eps

    def work(self, maps: Tensor) -> Tensor:
        """Normalised maps (or features) of the same shape; training moves the running moments."""
        assert self.weight is not None
        assert self.bias is not None
        if self.training:
            self.num_batches_tracked.add_(1)
        return nn.functional.batch_norm(
            maps,
            self.running_mean.flatten(),
            self.running_var.flatten(),
            self.weight.flatten(),
            self.bias.flatten(),
            self.training,
            self.momentum,
            self.eps,
        )


class StackedGroupNorm(SideBySide):
    """One group normalisation: no group reaches from one member's channels into another's."""

    def __init__(self, members: Sequence[nn.GroupNorm]) -> None:
        super().__init__(members)
        self.num_groups, self.eps = members[0].num_groups, members[0].eps

    def work(self, maps: Tensor) -> Tensor:
        """Normalised maps of the same shape."""
        assert self.weight is not None
        assert self.bias is not None
        groups = self.num_groups * self.num_members
        weight, bias = self.weight.flatten(), self.bias.flatten()
        return nn.functional.group_norm(maps, groups, weight, bias, self.eps)


class StackedFlatten(Stacked):
    """Everything of an item in one row; ends a run of maps that stand side by side."""

    enters: bool = False

    def forward(self, items: Tensor) -> Tensor:
        """Items (members * batch, features)."""
        maps = one_after_the_other(items, self.num_members) if self.enters else items
        return maps.flatten(1)


class StackedDropout(Stacked):
    """Dropout with each member's own share, drawn from the member's own generator.

    A member draws what `torch.nn.Dropout` would draw from torch's global one in the same state.
    """

    def __init__(self, members: Sequence[nn.Dropout], draws: Sequence[torch.Generator]) -> None:
        super().__init__(members)
        self.shares = tuple(member.p for member in members)
        kept = [[1 - share if share < 1 else 1.0] for share in self.shares]
        self._kept = torch.tensor(kept, dtype=torch.float64)
        self._draws = draws

    def forward(self, items: Tensor) -> Tensor:
        """Items (members * batch, ...), scaled so that their mean stays; as they are in eval."""
        if not self.training or not any(self.shares):
            return items
        mask = torch.empty_like(items, memory_format=torch.contiguous_format)
        each = mask.view(self.num_members, -1)
        for row, share, draws in zip(each, self.shares, self._draws, strict=True):
            if 0 < share < 1:
                row.bernoulli_(1 - share, generator=draws)
            else:
                row.fill_(1 - share)
        each.div_(self._kept.to(mask.dtype))
        return items * mask


SIDE_BY_SIDE: dict[type[nn.Module], type[SideBySide]] = {
    nn.Conv2d: StackedConv,
    nn.BatchNorm1d: StackedBatchNorm,
    nn.BatchNorm2d: StackedBatchNorm,
    nn.GroupNorm: StackedGroupNorm,
}


def by_member(values: Tensor, num_members: int) -> Tensor:
    """(members * batch, ...) -> (members, batch, ...), without a copy."""
    return values.reshape(num_members, -1, *values.shape[1:])


def side_by_side(items: Tensor, num_members: int) -> Tensor:
    """(members * batch, channels, ...) -> (batch, members * channels, ...), channels_last."""
    each = by_member(items, num_members)
    if items.ndim == 2:
        return each.transpose(0, 1).flatten(1)
    last = each.permute(1, 3, 4, 0, 2).flatten(3)
    return last.permute(0, 3, 1, 2)


def one_after_the_other(maps: Tensor, num_members: int) -> Tensor:
    """(batch, members * channels, ...) -> (members * batch, channels, ...)."""
    return channels_by_member(maps, num_members).flatten(0, 1)


def channels_by_member(maps: Tensor, num_members: int) -> Tensor:
    """(batch, members * channels, ...) -> (members, batch, channels, ...), without a copy."""
    batch, _, *sides = maps.shape
    return maps.reshape(batch, num_members, -1, *sides).transpose(0, 1)
