"""AutoencoderProbe: an autoencoder that sees no labels, and a linear probe on its code."""

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from torchstudy.data.spec import DataSpec, Task
from torchstudy.domains import Choice, Int
from torchstudy.families.base import Family, family
from torchstudy.families.blocks import too_small_to_halve
from torchstudy.families.logistic import fit_logistic
from torchstudy.families.phases import Fit, Phase
from torchstudy.families.reconstruction import (
    activated,
    halving,
    level_sizes,
    level_widths,
    several_views,
    squared_error,
    unit_pixels,
)
from torchstudy.training.batches import Batch, Preprocessing, Split
from torchstudy.training.metrics import classification_metrics
from torchstudy.training.optim import TrainingConfig

PROBE_STEPS = 300  # L-BFGS steps of the probe; it is fitted afresh after every epoch


@family
class AutoencoderProbe(Family):
    """A convolutional autoencoder trained on the images alone, then a linear probe on its code."""

    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "loss", "reconstruction_error")
    tasks: ClassVar[tuple[Task, ...]] = ("classification",)

    depth: int = Int(1, 3, default=2)
    width: int = Int(8, 32, log=True, default=16)
    code: int = Int(4, 64, log=True, default=16)
    normalisation: str = Choice("none", "batch", default="batch")
    activation: str = Choice("relu", "leaky-relu", "gelu", "silu", default="gelu")
    probe_regularisation: float = 1.0

    @override
    def problems(self, data: DataSpec) -> Sequence[str]:
        return (*several_views(data), *too_small_to_halve(data, self.depth))

    @override
    def preprocessing(self, data: DataSpec) -> Preprocessing:
        return unit_pixels(data)

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
    def score(self, model: nn.Module, data: DataSpec, batches: Iterable[Batch]) -> dict[str, float]:
        assert isinstance(model, CodeNet)
        error, pixels = 0.0, 0

        def outputs(batch: Batch) -> Tensor:
            nonlocal error, pixels
            code = model.encoder(batch.inputs)
            error += squared_error(model.decoder(code), batch.inputs)
            pixels += batch.inputs.numel()
            logits: Tensor = model.probe(code)
            return logits

        metrics = classification_metrics(outputs, batches)
        return {**metrics, "reconstruction_error": error / pixels}

    @override
    def pictures(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(model, CodeNet)
        return {"original": batch.inputs, "reconstruction": model.reconstruct(batch.inputs)}

    @override
    def codes(self, model: nn.Module, batch: Batch) -> Tensor | None:
        assert isinstance(model, CodeNet)
        code: Tensor = model.encoder(batch.inputs)
        return code

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
        norm, act = config.normalisation, config.activation
        widths = level_widths(data.channels, config.width, config.depth)
        sizes = level_sizes(data, config.depth)
        top = (widths[-1], *sizes[-1])
        flat = top[0] * top[1] * top[2]
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for level in range(config.depth):
            narrow, wide = widths[level], widths[level + 1]
            down += halving(narrow, wide, norm=norm, act=act)
            layers = [nn.Upsample(size=sizes[level]), nn.Conv2d(wide, narrow, 3, padding=1)]
            layers += activated(narrow, norm=norm, act=act) if level else [nn.Sigmoid()]
            up = layers + up
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


def _reconstruction_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean squared error per pixel; labels are not looked at."""
    assert isinstance(model, CodeNet)
    return nn.functional.mse_loss(model.reconstruct(batch.inputs), batch.inputs)


def _without_probe(model: nn.Module) -> Iterator[nn.Parameter]:
    assert isinstance(model, CodeNet)
    yield from model.encoder.parameters()
    yield from model.decoder.parameters()
