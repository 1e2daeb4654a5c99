"""Layers that several families build from: activations, normalisation, pooling, table columns."""

import math

import torch
from torch import Tensor, nn

from torchstudy.data.spec import DataSpec

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
IN_PLACE = ("relu", "leaky-relu", "silu")
MONOTONE = ("relu", "leaky-relu")  # these commute with max pooling
NORMALISATIONS = ("none", "batch", "group")
GROUP = 4  # channels that group normalisation averages over, at least
MAX_GROUPS = 32  # as in Wu & He (2018)


def activation(name: str) -> nn.Module:
    """The activation called `name`, in place where it can be."""
    kind = ACTIVATIONS[name]
    return kind(inplace=True) if name in IN_PLACE else kind()


def normalisation(name: str, channels: int) -> list[nn.Module]:
    """The normalisation layer called `name` over the channels of maps; none for `"none"`."""
    if name == "group":
        return [nn.GroupNorm(num_groups(channels), channels)]
    return [nn.BatchNorm2d(channels)] if name == "batch" else []


def num_groups(channels: int) -> int:
    """How many equal groups of at least four channels there can be; one where four do not fit."""
    most = min(MAX_GROUPS, channels // GROUP)
    return max((count for count in range(1, most + 1) if channels % count == 0), default=1)


def pooled_activation(name: str, pooling: str) -> list[nn.Module]:
    """Activation, then pooling by two.

    A monotone activation is applied after max pooling instead: the same numbers from a quarter of
    the work.
    """
    pool = nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2)
    if pooling == "max" and name in MONOTONE:
        return [pool, activation(name)]
    return [activation(name), pool]


def too_small_to_halve(data: DataSpec, depth: int) -> tuple[str, ...]:
    """The problem of images that cannot be halved `depth` times, if it is one."""
    needed = 2**depth
    if min(data.height, data.width) >= needed:
        return ()
    return (
        f"depth={depth} halves the image {depth} times and needs at least {needed} px, but the "
        f"images have {data.height} x {data.width}: narrow depth or raise the image size",
    )


def unknown_name(field: str, value: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """The problem of a field whose value is none of those it can have, if it is one."""
    return () if value in known else (f"{field} must be one of {', '.join(known)}, not {value!r}",)


class OneHot(nn.Module):
    """The columns of a table as one vector: numbers as they are, a place per category.

    A value that training never saw has code 0 and no place: its part of the vector is all zeros.
    `width` is the length of the vector.
    """

    def __init__(self, data: DataSpec) -> None:
        super().__init__()
        self.cardinalities = data.cardinalities
        self.width = len(data.numbers) + sum(count - 1 for count in data.cardinalities)

    def forward(self, numbers: Tensor | None, categories: Tensor | None) -> Tensor:
        """Vectors (batch, width) of standardised numbers and of category codes."""
        parts = [] if numbers is None else [numbers]
        for column, count in enumerate(self.cardinalities):
            assert categories is not None
            codes = categories[:, column]
            parts.append(nn.functional.one_hot(codes, count)[:, 1:].float())
        return torch.cat(parts, dim=1)


class Embedded(nn.Module):
    """The columns of a table as one vector: numbers as they are, each category as a learned vector.

    A category of `n` values becomes min(`most`, ceil(n / 2)) numbers; a value that training never
    saw becomes zeros. `width` is the length of the vector.
    """

    def __init__(self, data: DataSpec, *, most: int) -> None:
        super().__init__()
        sizes = [min(most, math.ceil(count / 2)) for count in data.cardinalities]
        self.tables = nn.ModuleList(
            nn.Embedding(count, size, padding_idx=0)
            for count, size in zip(data.cardinalities, sizes, strict=True)
        )
        self.width = len(data.numbers) + sum(sizes)

    def forward(self, numbers: Tensor | None, categories: Tensor | None) -> Tensor:
        """Vectors (batch, width) of standardised numbers and of category codes."""
        parts = [] if numbers is None else [numbers]
        for column, table in enumerate(self.tables):
            assert categories is not None
            parts.append(table(categories[:, column]))
        return torch.cat(parts, dim=1)
