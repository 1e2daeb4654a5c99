"""AutoencoderProbe: an autoencoder that sees no labels, and a linear probe on its code."""

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from torchstudy.data.spec import DataSpec
from torchstudy.domains import Choice, Int
from torchstudy.families.base import Family, Fit, Phase, family
from torchstudy.families.blocks import (
    activation,
    normalisation,
    pooled_activation,
    too_small_to_halve,
)
from torchstudy.families.logistic import fit_logistic
from torchstudy.training.batches import Batch, Preprocessing, Split
from torchstudy.training.metrics import classification_metrics
from torchstudy.training.optim import TrainingConfig

PROBE_STEPS = 300  # L-BFGS steps of the probe; it is fitted afresh after every epoch


@family
class AutoencoderProbe(Family):
    """A convolutional autoencoder trained on the images alone, then a linear probe on its code."""

    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "loss", "reconstruction_error")

    depth: int = Int(1, 3, default=2)
    width: int = Int(8, 32, log=True, default=16)
    code: int = Int(4, 64, log=True, default=16)
    normalisation: str = Choice("none", "batch", default="batch")
    activation: str = Choice("relu", "leaky-relu", "gelu", "silu", default="gelu")
    probe_regularisation: float = 1.0

    @override
    def problems(self, data: DataSpec) -> Sequence[str]:
        return too_small_to_halve(data, self.depth)

    @override
    def preprocessing(self, data: DataSpec) -> Preprocessing:
        """Pixels stay in [0, 1], where reconstruction errors compare."""
        return Preprocessing(mean=(0.0,) * data.channels, std=(1.0,) * data.channels)

    @override
    def build(self, data: DataSpec) -> "CodeNet":
        return CodeNet(self, data)

    @override
    def phases(self, data: DataSpec, training: TrainingConfig) -> tuple[Phase | Fit, ...]:
        return (
            Phase(
                name="reconstruct",
                loss=_reconstruction_loss,
                parameters=_without_probe,
            ),
            Fit(name="probe", function=self._fit_probe),
        )

    @override
    def score(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        assert isinstance(model, CodeNet)
        error = torch.zeros((), dtype=torch.float64)
        pixels = 0

        def watched() -> Iterator[Batch]:
            nonlocal pixels
            for batch in batches:
                rebuilt = model.reconstruct(batch.inputs)
                error.add_((rebuilt - batch.inputs).square().double().sum())
                pixels += batch.inputs.numel()
                yield batch

        metrics = classification_metrics(model, watched())
        return {**metrics, "reconstruction_error": float(error) / pixels}

    def _fit_probe(self, model: nn.Module, train: Split) -> None:
        assert isinstance(model, CodeNet)
        codes = torch.cat([model.encoder(batch.inputs) for batch in train.in_order()])
        fit_logistic(
            model.probe,
            codes,
            train.targets,
            regularisation=self.probe_regularisation,
            max_steps=PROBE_STEPS,
        )


class CodeNet(nn.Module):
    """Encoder, decoder and probe; called, it classifies images by their code."""

    def __init__(self, config: AutoencoderProbe, data: DataSpec) -> None:
        super().__init__()
        widths = [data.channels, *(config.width * 2**level for level in range(config.depth))]
        sizes = [(data.height >> level, data.width >> level) for level in range(config.depth + 1)]
        top = (widths[-1], *sizes[-1])
        flat = top[0] * top[1] * top[2]
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for level in range(config.depth):
            down += _down(config, widths[level], widths[level + 1])
            is_last = level == 0
            up = _up(config, widths[level + 1], widths[level], sizes[level], is_last) + up
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(flat, config.code))
        self.decoder = nn.Sequential(nn.Linear(config.code, flat), nn.Unflatten(1, top), *up)
        self.probe = nn.Linear(config.code, data.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, num_classes) of images in [0, 1]."""
        logits: Tensor = self.probe(self.encoder(images))
        return logits

    def reconstruct(self, images: Tensor) -> Tensor:
        """The images as the code remembers them, in [0, 1]."""
        rebuilt: Tensor = self.decoder(self.encoder(images))
        return rebuilt


def _down(config: AutoencoderProbe, narrow: int, wide: int) -> list[nn.Module]:
    """Halve the image (rounding down), from `narrow` to `wide` channels."""
    convolution = nn.Conv2d(narrow, wide, 3, padding=1)
    return [
        convolution,
        *normalisation(config.normalisation, wide),
        *pooled_activation(config.activation, "max"),
    ]


def _up(
    config: AutoencoderProbe, wide: int, narrow: int, size: tuple[int, int], is_last: bool
) -> list[nn.Module]:
    """Back to `size` pixels and `narrow` channels; the last block ends in [0, 1]."""
    layers: list[nn.Module] = [nn.Upsample(size=size), nn.Conv2d(wide, narrow, 3, padding=1)]
    if is_last:
        return [*layers, nn.Sigmoid()]
    return [
        *layers,
        *normalisation(config.normalisation, narrow),
        activation(config.activation),
    ]


def _reconstruction_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean squared error per pixel; labels are not looked at."""
    assert isinstance(model, CodeNet)
    return nn.functional.mse_loss(model.reconstruct(batch.inputs), batch.inputs)


def _without_probe(model: nn.Module) -> Iterator[nn.Parameter]:
    assert isinstance(model, CodeNet)
    yield from model.encoder.parameters()
    yield from model.decoder.parameters()
