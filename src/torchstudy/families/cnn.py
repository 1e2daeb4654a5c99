"""CNN: convolutions trained from scratch."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from typing_extensions import override

from torchstudy.data.spec import DataSpec
from torchstudy.domains import Choice, Float, Int
from torchstudy.families.base import Family, family
from torchstudy.families.blocks import (
    ACTIVATIONS,
    NORMALISATIONS,
    activation,
    normalisation,
    pooled_activation,
    too_small_to_halve,
    unknown_name,
)

PADDINGS = ("same", "valid")
POOLINGS = ("max", "average")
GLOBAL_POOLINGS = ("none", *POOLINGS)


@family
class CNN(Family):
    """Convolutions from scratch: blocks that halve the image and double the width, then a layer.

    Fields without a range stay at their default unless a study opens them. A `stride` of 2 or more
    shrinks the image by the first convolution of each block instead of pooling. `skip` adds what
    goes into a block, through a 1x1 convolution, to what comes out of its convolutions (He et al.
    2016). `global_pooling` takes the maximum or average of each last map instead of all its pixels.
    """

    depth: int = Int(1, 3, default=2)
    width: int = Int(8, 64, log=True, default=32)
    kernel: int = Choice(3, 5, default=3, is_open=True)
    convolutions: int = 1  # per block
    padding: str = "same"  # or valid: no border is added
    stride: int = 1
    pooling: str = Choice(*POOLINGS, default="max", when={"stride": 1})
    skip: bool = False
    normalisation: str = Choice("none", "batch", default="batch", is_open=True)  # or group
    activation: str = Choice("relu", "leaky-relu", "gelu", "silu", default="relu", is_open=True)
    global_pooling: str = "none"
    dropout: float = Float(0.0, 0.5, default=0.2)

    @override
    def problems(self, data: DataSpec) -> Sequence[str]:
        if data.views > 1:
            return (f"takes one image an item, but the data have {data.views}; use MultiInput",)
        return tuple(self._impossible()) or self._too_small(data)

    @override
    def build(self, data: DataSpec) -> nn.Module:
        layers: list[nn.Module] = []
        channels, width = data.channels, self.width
        for _ in range(self.depth):
            layers += self._block(channels, width)
            channels, width = width, width * 2
        height, breadth = (self._last_side(side) for side in (data.height, data.width))
        if self.global_pooling != "none":
            kind = nn.AdaptiveMaxPool2d if self.global_pooling == "max" else nn.AdaptiveAvgPool2d
            layers.append(kind(1))
            height = breadth = 1
        head = nn.Linear(channels * height * breadth, data.num_outputs)
        return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(self.dropout), head)

    def _block(self, narrow: int, wide: int) -> list[nn.Module]:
        """Convolutions from `narrow` to `wide` channels, activation, and what shrinks the map."""
        layers = self._normalised(narrow, wide, self.kernel, self.stride)
        for _ in range(self.convolutions - 1):
            layers += [activation(self.activation), *self._normalised(wide, wide, self.kernel, 1)]
        if self.skip:
            layers = [Residual(layers, self._normalised(narrow, wide, 1, self.stride))]
        if self.stride == 1:
            return [*layers, *pooled_activation(self.activation, self.pooling)]
        return [*layers, activation(self.activation)]

    def _normalised(self, narrow: int, wide: int, kernel: int, stride: int) -> list[nn.Module]:
        has_norm = self.normalisation != "none"
        padding = kernel // 2 if self.padding == "same" else 0
        convolution = nn.Conv2d(
            narrow, wide, kernel, stride=stride, padding=padding, bias=not has_norm
        )
        return [convolution, *normalisation(self.normalisation, wide)]

    def _impossible(self) -> Iterator[str]:
        """What cannot be, whatever the images."""
        yield from unknown_name("padding", self.padding, PADDINGS)
        yield from unknown_name("normalisation", self.normalisation, NORMALISATIONS)
        yield from unknown_name("activation", self.activation, tuple(ACTIVATIONS))
        yield from unknown_name("global_pooling", self.global_pooling, GLOBAL_POOLINGS)
        for name in ("kernel", "stride", "convolutions"):
            if getattr(self, name) < 1:
                yield f"{name} must be at least 1, not {getattr(self, name)}"
        if self.padding == "same" and self.kernel % 2 == 0:
            yield f"padding='same' needs an odd kernel, not {self.kernel}"
        if self.skip and self.padding == "valid":
            yield "skip=True needs padding='same': both ways through a block must end equally large"

    def _too_small(self, data: DataSpec) -> tuple[str, ...]:
        """The problem of images of which nothing would be left, if it is one."""
        if self.padding == "same" and self.stride == 1:
            return too_small_to_halve(data, self.depth)
        needed = self._smallest_side()
        if min(data.height, data.width) >= needed:
            return ()
        return (
            f"depth={self.depth} with kernel={self.kernel}, padding={self.padding!r} and "
            f"stride={self.stride} needs at least {needed} px, but the images have {data.height} x "
            f"{data.width}: narrow depth or raise the image size",
        )

    def _last_side(self, side: int) -> int:
        """What the blocks leave of `side` pixels, rounding down."""
        lost = 0 if self.padding == "same" else self.kernel - 1
        for _ in range(self.depth):
            side = (side - lost - 1) // self.stride + 1 - lost * (self.convolutions - 1)
            side = side // 2 if self.stride == 1 else side
        return side

    def _smallest_side(self) -> int:
        """The least number of pixels of which the blocks leave one."""
        lost = 0 if self.padding == "same" else self.kernel - 1
        side = 1
        for _ in range(self.depth):
            side = side * 2 if self.stride == 1 else side
            side += lost * (self.convolutions - 1)
            side = (side - 1) * self.stride + 1 + lost
        return side


class Residual(nn.Module):
    """The sum of two ways through a block."""

    def __init__(self, layers: Sequence[nn.Module], shortcut: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (batch, wide, height, width), before the activation."""
        total: Tensor = self.layers(maps) + self.shortcut(maps)
        return total
