"""How several networks of one architecture become one network, and how each gets its part back."""

import copy
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import nn

from torchstudy.training.together.layers import (
    SIDE_BY_SIDE,
    SideBySide,
    StackedDropout,
    StackedFlatten,
    StackedLinear,
)

PER_VALUE = (
    nn.Identity,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.Hardtanh,
)
PER_MAP = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)


def stacked(members: Sequence[nn.Module], draws: Sequence[torch.Generator]) -> nn.Module:
    """One network that answers for all members: what goes in and comes out is member after member.

    It holds copies of their weights, under the same names, with a first dimension for the members.
    Dropout draws from `draws`, one generator for each. Modules that hold no weights are those of
    the first member: they must treat every item by itself. Raises ValueError for a layer that is
    not known.
    """
    if problems := unknown_layers(members[0]):
        raise ValueError(f"these layers cannot be stacked: {', '.join(problems)}")
    return _stacked(list(members), draws)


def unknown_layers(network: nn.Module) -> list[str]:
    """The layers for which there is no stacked one, as `name: what it is`.

    Weights that two layers share are no longer shared when stacked: the second is named as well.
    """
    own = {name for name, _ in network.named_parameters()}
    every = [name for name, _ in network.named_parameters(remove_duplicate=False)]
    return [
        *(
            f"{name or 'network'}: {type(module).__name__}"
            for name, module in network.named_modules()
            if not _is_known(module)
        ),
        *(f"{name}: shared" for name in every if name not in own),
    ]


def signature(network: nn.Module) -> tuple[str, ...]:
    """What two networks must have in common to be stacked; how much is dropped may differ."""
    return tuple(
        f"{name}: {type(module).__name__}({_settings(module)})"
        for name, module in network.named_modules()
    )


def give_back(group: nn.Module, members: Sequence[nn.Module]) -> None:
    """Copy each member's weights and buffers out of the stacked network."""
    values = {**dict(group.named_parameters()), **dict(group.named_buffers())}
    with torch.no_grad():
        for number, member in enumerate(members):
            for name, own in (*member.named_parameters(), *member.named_buffers()):
                own.copy_(values[name][number])


def _is_known(module: nn.Module) -> bool:
    kind = type(module)
    if kind in SIDE_BY_SIDE:
        return _is_plain(module)
    holds_nothing = not [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return kind is nn.Linear or holds_nothing


def _is_plain(module: nn.Module) -> bool:
    """Whether a convolution or normalisation is one whose every setting is kept when stacked."""
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros"
    if isinstance(module, nn.GroupNorm):
        return module.affine
    assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    return module.affine and module.track_running_stats and module.momentum is not None


def _settings(module: nn.Module) -> str:
    return "" if type(module) is nn.Dropout else module.extra_repr()


def _stacked(members: list[nn.Module], draws: Sequence[torch.Generator]) -> nn.Module:
    """The stacked version of one module of each member."""
    first, kind = members[0], type(members[0])
    if kind is nn.Linear:
        return StackedLinear(members)
    if kind in SIDE_BY_SIDE:
        return SIDE_BY_SIDE[kind](members)
    if kind is nn.Dropout:
        return StackedDropout([m for m in members if isinstance(m, nn.Dropout)], draws)
    if isinstance(first, nn.Flatten):
        is_plain = (first.start_dim, first.end_dim) == (1, -1)
        return StackedFlatten(members) if is_plain else copy.deepcopy(first)
    result = _emptied(first)
    for name, _ in first.named_children():
        parts = [member.get_submodule(name) for member in members]
        setattr(result, name, _stacked(parts, draws))
    if isinstance(result, nn.Sequential):
        for run in _runs(list(result)):
            _join(run)
    return result


def _emptied(module: nn.Module) -> nn.Module:
    """A copy of a module that holds nothing itself; its children are the original's."""
    result = copy.copy(module)
    result._modules = dict(module._modules)
    if getattr(result, "inplace", False):
        # What a batched product returns is a view; autograd copies where a view is written to.
        result.__dict__["inplace"] = False
    return result


def _runs(layers: Sequence[nn.Module]) -> Iterator[list[nn.Module]]:
    """The parts of a sequence in which the members' channels may stay side by side."""
    run: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, SideBySide) or (run and isinstance(layer, (*PER_VALUE, *PER_MAP))):
            run.append(layer)
            continue
        yield [*run, layer] if isinstance(layer, StackedFlatten) else run
        run = []
    yield run


def _join(run: Sequence[nn.Module]) -> None:
    """Let only the first layer of a run bring the channels together, and the last part them."""
    layers = [layer for layer in run if isinstance(layer, SideBySide | StackedFlatten)]
    for before, after in pairwise(layers):
        assert isinstance(before, SideBySide)
        before.leaves, after.enters = False, isinstance(after, StackedFlatten)
