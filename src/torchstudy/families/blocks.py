"""Layers that several families build from: activations, normalisation, pooling."""

from torch import nn

from torchstudy.data.spec import DataSpec

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
MONOTONE = ("relu", "leaky-relu")  # these commute with max pooling


def activation(name: str) -> nn.Module:
    """The activation called `name`, in place where it can be."""
    kind = ACTIVATIONS[name]
    return kind() if kind is nn.GELU else kind(inplace=True)


def normalisation(name: str, channels: int) -> list[nn.Module]:
    """The normalisation layer called `name` over `channels`; none for `"none"`."""
    return [nn.BatchNorm2d(channels)] if name == "batch" else []


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
