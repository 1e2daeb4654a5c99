"""Autoencoder: images squeezed through a few numbers, and how much less is lost than by PCA."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from torchstudy.data.spec import DataSpec
from torchstudy.domains import Choice, Float, Int
from torchstudy.families.base import Family, Goal, family
from torchstudy.families.blocks import activation
from torchstudy.families.phases import Fit, Phase
from torchstudy.families.reconstruction import several_views, squared_error, unit_pixels
from torchstudy.training.batches import Batch, Preprocessing, Split
from torchstudy.training.optim import TrainingConfig

LEAST_ERROR = 1e-12  # of PCA, squared per pixel: where it loses nothing, a ratio says nothing


@family
class Autoencoder(Family):
    """Dense layers down to a code of a few numbers and back: dimensionality reduction.

    Principal components of the same number, fitted to the training images, are the yardstick:
    `pca_ratio` below 1 says how much smaller the autoencoder's error is on the same images.
    """

    metrics: ClassVar[tuple[str, ...]] = (
        "reconstruction_error",
        "pca_error",
        "pca_ratio",
        "loss",
    )
    goal: ClassVar[Goal] = "reconstruction"
    training_space: ClassVar[Mapping[str, object]] = {
        "learning_rate": Float(1e-4, 1e-1, log=True, default=5e-3),
        "batch_size": Int(16, 512, log=True, default=64),  # at 128 a thousand images lack steps
    }

    code: int = Int(2, 32, log=True, default=8)
    width: int = Int(64, 512, log=True, default=256)
    depth: int = Int(1, 3, default=2)
    activation: str = Choice("relu", "leaky-relu", "gelu", "silu", default="gelu")

    @override
    def problems(self, data: DataSpec) -> Sequence[str]:
        pixels = data.channels * data.height * data.width
        most = min(pixels, data.num_train)
        found = list(several_views(data))
        if self.code > most:
            found.append(
                f"code={self.code} is more than the {most} principal components that "
                f"{data.num_train} training images of {pixels} values have: narrow code"
            )
        return found

    @override
    def preprocessing(self, data: DataSpec) -> Preprocessing:
        return unit_pixels(data)

    @override
    def build(self, data: DataSpec) -> "CompressingNet":
        return CompressingNet(self, data)

    @override
    def phases(self, data: DataSpec, training: TrainingConfig) -> tuple[Phase | Fit, ...]:
        return (
            Fit(name="pca", function=_fit_components, at="start"),
            Phase(name="reconstruct", loss=_reconstruction_loss),
        )

    @override
    def score(self, model: nn.Module, data: DataSpec, batches: Iterable[Batch]) -> dict[str, float]:
        assert isinstance(model, CompressingNet)
        own, linear, pixels = 0.0, 0.0, 0
        for batch in batches:
            own += squared_error(model(batch.inputs), batch.inputs)
            linear += squared_error(model.components(batch.inputs), batch.inputs)
            pixels += batch.inputs.numel()
        error, pca_error = own / pixels, linear / pixels
        return {
            "reconstruction_error": error,
            "pca_error": pca_error,
            "pca_ratio": error / max(pca_error, LEAST_ERROR),
            "loss": error,
        }

    @override
    def predict(self, model: nn.Module, data: DataSpec, batch: Batch) -> Tensor | None:
        return None

    @override
    def pictures(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(model, CompressingNet)
        return {
            "original": batch.inputs,
            "reconstruction": model(batch.inputs),
            "pca": model.components(batch.inputs),
        }

    @override
    def codes(self, model: nn.Module, batch: Batch) -> Tensor | None:
        assert isinstance(model, CompressingNet)
        code: Tensor = model.encoder(batch.inputs)
        return code


class CompressingNet(nn.Module):
    """Encoder and decoder, and the principal components they are measured against."""

    def __init__(self, config: Autoencoder, data: DataSpec) -> None:
        super().__init__()
        pixels = data.channels * data.height * data.width
        widths = [config.width] * config.depth
        down = _dense([pixels, *widths, config.code], config.activation)
        up = _dense([config.code, *widths, pixels], config.activation)
        self.encoder = nn.Sequential(nn.Flatten(), *down)
        self.decoder = nn.Sequential(*up, nn.Sigmoid(), nn.Unflatten(1, data.shape))
        self.components = PrincipalComponents(pixels, config.code)

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1] as the code remembers them."""
        rebuilt: Tensor = self.decoder(self.encoder(images))
        return rebuilt


class PrincipalComponents(nn.Module):
    """The best linear code (Pearson 1901); its tensors are buffers, saved with the model."""

    mean: Tensor
    axes: Tensor

    def __init__(self, numbers: int, code: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("axes", torch.zeros(code, numbers))

    def fit(self, images: Tensor) -> None:
        """Take the mean and the first axes of (items, ...); at least as many items as axes."""
        from sklearn.decomposition import PCA

        # A seed for the solver that is used where images are large: it starts from random vectors.
        found = PCA(len(self.axes), random_state=0).fit(images.flatten(1).cpu().numpy())
        self.mean.copy_(torch.from_numpy(found.mean_))
        self.axes.copy_(torch.from_numpy(found.components_))

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, ...) as their components remember them; not kept within [0, 1]."""
        code = (images.flatten(1) - self.mean) @ self.axes.T
        return (code @ self.axes + self.mean).reshape(images.shape)


def _dense(widths: Sequence[int], name: str) -> list[nn.Module]:
    """Linear layers between these widths, activations between the layers."""
    layers: list[nn.Module] = []
    for given, made in pairwise(widths):
        layers += [nn.Linear(given, made), activation(name)]
    return layers[:-1]


def _fit_components(model: nn.Module, train: Split) -> None:
    assert isinstance(model, CompressingNet)
    model.components.fit(torch.cat([batch.inputs for batch in train.in_order()]))


def _reconstruction_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean squared error per pixel; targets are not looked at."""
    return nn.functional.mse_loss(model(batch.inputs), batch.inputs)
