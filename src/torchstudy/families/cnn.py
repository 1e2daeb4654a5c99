"""CNN: convolutions trained from scratch."""

from collections.abc import Sequence

from torch import nn
from typing_extensions import override

from torchstudy.data.spec import DataSpec
from torchstudy.domains import Choice, Float, Int
from torchstudy.families.base import Family, family
from torchstudy.families.blocks import normalisation, pooled_activation, too_small_to_halve


@family
class CNN(Family):
    """Convolutions from scratch: blocks that halve the image and double the width, then a layer."""

    depth: int = Int(1, 3, default=2)
    width: int = Int(8, 64, log=True, default=32)
    kernel: int = Choice(3, 5, default=3)
    pooling: str = Choice("max", "average", default="max")
    normalisation: str = Choice("none", "batch", default="batch")
    activation: str = Choice("relu", "leaky-relu", "gelu", "silu", default="relu")
    dropout: float = Float(0.0, 0.5, default=0.2)

    @override
    def problems(self, data: DataSpec) -> Sequence[str]:
        return too_small_to_halve(data, self.depth)

    @override
    def build(self, data: DataSpec) -> nn.Module:
        layers: list[nn.Module] = []
        channels, width = data.channels, self.width
        has_norm = self.normalisation != "none"
        for _ in range(self.depth):
            layers += [
                nn.Conv2d(
                    channels, width, self.kernel, padding=self.kernel // 2, bias=not has_norm
                ),
                *normalisation(self.normalisation, width),
                *pooled_activation(self.activation, self.pooling),
            ]
            channels, width = width, width * 2
        pixels = (data.height >> self.depth) * (data.width >> self.depth)
        head = nn.Linear(channels * pixels, data.num_classes)
        return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(self.dropout), head)
