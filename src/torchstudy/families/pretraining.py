"""PretrainedEncoder: an autoencoder on all images, then a classifier on few labels."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from typing_extensions import override

from torchstudy.data.spec import DataSpec
from torchstudy.domains import Choice, Float, Int
from torchstudy.errors import SpaceError
from torchstudy.families.base import Family, family
from torchstudy.families.blocks import too_small_to_halve
from torchstudy.families.phases import Phase
from torchstudy.families.reconstruction import (
    activated,
    doubling,
    halving,
    level_sizes,
    level_widths,
    several_views,
    unit_pixels,
)
from torchstudy.training.batches import Batch, Preprocessing, Split
from torchstudy.training.optim import TrainingConfig


@family
class PretrainedEncoder(Family):
    """Convolutions that first learn to rebuild all training images, then to answer from few labels.

    In the first `pretraining_share` of the epochs an autoencoder sees every training image without
    its label, and with `corruption` above 0 with noise of that spread to take out (Vincent et al.
    2010). After that its encoder gets a linear layer, and both learn from `labels` training items,
    `passes` times an epoch, the encoder at `encoder_rate` of the learning rate.
    `pretraining="none"` leaves the first part out and the second as it is: those epochs are idle.
    """

    pretraining: str = Choice("autoencoder", "none", default="autoencoder")
    labels: int = 500
    pretraining_share: float = 0.5
    passes: int = 10
    depth: int = Int(1, 3, default=3)
    width: int = Int(8, 64, log=True, default=16)
    normalisation: str = Choice("none", "batch", default="batch")
    activation: str = Choice("relu", "leaky-relu", "gelu", "silu", default="relu")
    dropout: float = Float(0.0, 0.5, default=0.2)
    corruption: float = Float(0.0, 0.6, default=0.0, when={"pretraining": "autoencoder"})
    encoder_rate: float = Float(
        0.1, 1.0, log=True, default=1.0, when={"pretraining": "autoencoder"}
    )

    def __post_init__(self) -> None:
        limits = {
            f"labels must be at least 1, not {self.labels}": self.labels >= 1,
            f"passes must be at least 1, not {self.passes}": self.passes >= 1,
            f"pretraining_share must be above 0 and below 1, not {self.pretraining_share:g}": 0
            < self.pretraining_share
            < 1,
        }
        if problems := [problem for problem, holds in limits.items() if not holds]:
            raise SpaceError(problems)

    @override
    def problems(self, data: DataSpec) -> Sequence[str]:
        found = [*several_views(data), *too_small_to_halve(data, self.depth)]
        if self.labels < data.num_classes:
            found.append(
                f"labels={self.labels} is too few for {data.num_classes} classes: give at least "
                "one each"
            )
        return found

    @override
    def preprocessing(self, data: DataSpec) -> Preprocessing:
        return unit_pixels(data)

    @override
    def build(self, data: DataSpec) -> "EncoderNet":
        return EncoderNet(self, data)

    @override
    def phases(self, data: DataSpec, training: TrainingConfig) -> tuple[Phase, ...]:
        share = self.pretraining_share
        fine_tuning = Phase(
            name="fine-tune",
            loss=self.prediction_loss(data, training),
            parameters=_without_decoder,
            span=(share, 1.0),
            items=self.labelled,
            passes=self.passes,
            rate_factors=self._rate_factors,
        )
        if self.pretraining == "none":
            return (fine_tuning,)
        first = Phase(
            name="reconstruct",
            loss=self._reconstruction_loss,
            parameters=_without_head,
            span=(0.0, share),
        )
        return (first, fine_tuning)

    def labelled(self, train: Split) -> Split:
        """The training items whose targets are used: of every class its share, at least one.

        They stand at even distances among the items of their class, or, for numbers to predict, in
        the order of the numbers.
        """
        order = torch.argsort(train.targets, stable=True)
        count = min(self.labels, len(order))
        if train.targets.is_floating_point():
            return train.take(order[_spread(len(order), count)])
        sizes = [size for size in torch.bincount(train.targets).tolist() if size]
        members = torch.split(order, sizes)
        chosen = [
            some[_spread(len(some), number)]
            for some, number in zip(members, _shares(sizes, count), strict=True)
        ]
        return train.take(torch.cat(chosen))

    def _rate_factors(self, model: nn.Module) -> Mapping[nn.Parameter, float]:
        assert isinstance(model, EncoderNet)
        if self.pretraining == "none":
            return {}
        return dict.fromkeys(model.encoder.parameters(), self.encoder_rate)

    def _reconstruction_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean squared error per pixel; targets are not looked at."""
        assert isinstance(model, EncoderNet)
        noisy = (batch.inputs + self.corruption * torch.randn_like(batch.inputs)).clamp(0, 1)
        return nn.functional.mse_loss(model.decoder(model.encoder(noisy)), batch.inputs)


class EncoderNet(nn.Module):
    """An encoder and a linear layer on what it finds; a decoder too where there is pre-training."""

    def __init__(self, config: PretrainedEncoder, data: DataSpec) -> None:
        super().__init__()
        norm, act = config.normalisation, config.activation
        widths = level_widths(data.channels, config.width, config.depth)
        sizes = level_sizes(data, config.depth)
        down = [
            nn.Sequential(*halving(narrow, wide, norm=norm, act=act))
            for narrow, wide in pairwise(widths)
        ]
        flat = widths[-1] * sizes[-1][0] * sizes[-1][1]
        self.encoder = nn.Sequential(*down)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(config.dropout), nn.Linear(flat, data.num_outputs)
        )
        # Last, so that with one seed both kinds of pre-training begin from the same encoder.
        self.decoder = nn.Sequential()
        if config.pretraining == "none":
            return
        for level in reversed(range(config.depth)):
            self.decoder.append(doubling(widths[level + 1], widths[level], sizes[level]))
            last: list[nn.Module] = [nn.Sigmoid()]
            between = activated(widths[level], norm=norm, act=act) if level else last
            self.decoder.extend(between)

    def forward(self, images: Tensor) -> Tensor:
        """Logits or values (batch, num_outputs) of images in [0, 1]."""
        outputs: Tensor = self.head(self.encoder(images))
        return outputs


def _without_decoder(model: nn.Module) -> Iterator[nn.Parameter]:
    assert isinstance(model, EncoderNet)
    yield from model.encoder.parameters()
    yield from model.head.parameters()


def _without_head(model: nn.Module) -> Iterator[nn.Parameter]:
    assert isinstance(model, EncoderNet)
    yield from model.encoder.parameters()
    yield from model.decoder.parameters()


def _spread(length: int, count: int) -> Tensor:
    """`count` places at even distances among `length`, as whole numbers."""
    return torch.linspace(0, length - 1, count).round().long()


def _shares(sizes: Sequence[int], count: int) -> list[int]:
    """`count`, at least one each, divided in proportion to `sizes`."""
    exact = [count * size / sum(sizes) for size in sizes]
    shares = [max(1, int(share)) for share in exact]
    while sum(shares) < count:
        lack = [wanted - share for wanted, share in zip(exact, shares, strict=True)]
        shares[lack.index(max(lack))] += 1
    while sum(shares) > count:
        excess = [
            share - wanted if share > 1 else -math.inf
            for wanted, share in zip(exact, shares, strict=True)
        ]
        shares[excess.index(max(excess))] -= 1
    return shares
