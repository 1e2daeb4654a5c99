"""GAN: a generator of images, taught by a discriminator that tells them from real ones."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from torchstudy.data.spec import DataSpec
from torchstudy.domains import Choice, Float, Int
from torchstudy.families.base import Family, Goal, family
from torchstudy.families.blocks import normalisation
from torchstudy.families.image_features import image_features
from torchstudy.families.phases import Phase
from torchstudy.families.reconstruction import doubling, level_sizes, several_views
from torchstudy.training.batches import SCORING_BATCH, Batch, Preprocessing
from torchstudy.training.gallery import SHOWN
from torchstudy.training.generation import (
    AVERAGED_EPOCHS,
    METRICS,
    evenly_chosen,
    generation_metrics,
)
from torchstudy.training.optim import TrainingConfig

LEAST_SIDE = 4  # pixels: images are not halved below it
MOST_WIDTHS = 8  # channels are at most 8 times `width`, as in Radford et al. 2016
LEAK = 0.2  # slope of the discriminator's LeakyReLU (same source)
WEIGHT_SPREAD = 0.02  # of the normal distribution that weights are drawn from (same source)


@family
class GAN(Family):
    """Transposed convolutions make images from noise, convolutions tell them from real ones.

    A DCGAN (Radford et al. 2016): both learn in turn, batch by batch, the generator on the
    non-saturating loss (Goodfellow et al. 2014). No labels are used. `label_smoothing` lowers the
    target of real images only (Salimans et al. 2016).
    """

    metrics: ClassVar[tuple[str, ...]] = (
        "generation_distance",
        *METRICS,
        "real_score",
        "fake_score",
    )
    goal: ClassVar[Goal] = "generation"
    averaged: ClassVar[Mapping[str, tuple[str, int]]] = {
        "generation_distance": ("guarded_distance", AVERAGED_EPOCHS)
    }
    training_space: ClassVar[Mapping[str, object]] = {
        "optimizer": "adam",
        "learning_rate": Float(5e-5, 2e-3, log=True, default=5e-4),
        "beta1": Float(0.0, 0.9, default=0.5),
        "weight_decay": 0.0,
        "batch_size": Int(16, 256, log=True, default=64),
        "schedule": "constant",
    }

    latent: int = Int(8, 128, log=True, default=64)
    width: int = Int(8, 64, log=True, default=32)
    discriminator_width: int = Int(8, 64, log=True, default=32)
    discriminator_normalisation: str = Choice("none", "batch", default="batch")

    @override
    def problems(self, data: DataSpec) -> Sequence[str]:
        found = [*several_views(data)]
        if min(data.height, data.width) < 2 * LEAST_SIDE:
            found.append(
                f"needs images of at least {2 * LEAST_SIDE} px, but these have {data.height} x "
                f"{data.width}: raise the image size"
            )
        return found

    @override
    def preprocessing(self, data: DataSpec) -> Preprocessing:
        """Pixels in [-1, 1], the range of tanh."""
        return Preprocessing(mean=(0.5,) * data.channels, std=(0.5,) * data.channels)

    @override
    def build(self, data: DataSpec) -> "Adversaries":
        return Adversaries(self, data)

    @override
    def phases(self, data: DataSpec, training: TrainingConfig) -> tuple[Phase, ...]:
        real_target = 1 - training.label_smoothing

        def discriminator_loss(model: nn.Module, batch: Batch) -> Tensor:
            assert isinstance(model, Adversaries)
            with torch.no_grad():
                made = model(model.noise(len(batch)))
            judged_real, judged_made = model.discriminator(batch.inputs), model.discriminator(made)
            return (_judgement(judged_real, real_target) + _judgement(judged_made, 0.0)) / 2

        return (
            Phase(
                name="discriminator",
                loss=discriminator_loss,
                parameters=_discriminator_parameters,
            ),
            Phase(name="generator", loss=_generator_loss, parameters=_generator_parameters),
        )

    @override
    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """As many new images, in [-1, 1], as the batch has items."""
        assert isinstance(model, Adversaries)
        images: Tensor = model(model.noise(len(batch)))
        return images

    @override
    def score(self, model: nn.Module, data: DataSpec, batches: Iterable[Batch]) -> dict[str, float]:
        """Distances, coverage, and the mean probabilities of being real that are given to both.

        At most 2,000 images of the split are compared, with as many generated from noise that
        torch's global generator draws.
        """
        assert isinstance(model, Adversaries)
        real = evenly_chosen(batch.inputs for batch in batches)
        noise = model.noise(len(real))
        made = torch.cat([model(part) for part in torch.split(noise, SCORING_BATCH)])
        scores = {"real_score": model.judged(real), "fake_score": model.judged(made)}
        features = [_features(images) for images in (real, made)]
        return {**generation_metrics(*features), **scores}

    @override
    def predict(self, model: nn.Module, data: DataSpec, batch: Batch) -> Tensor | None:
        return None

    @override
    def pictures(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """What becomes of the same noise over the epochs, whatever the batch."""
        assert isinstance(model, Adversaries)
        return {"samples": model(model.fixed_noise) / 2 + 0.5}


class Adversaries(nn.Module):
    """A generator and a discriminator; called, it makes images in [-1, 1] of noise (batch, latent).

    `fixed_noise` (8, latent) belongs to the weights.
    """

    fixed_noise: Tensor

    def __init__(self, config: GAN, data: DataSpec) -> None:
        super().__init__()
        self.latent = config.latent
        self.generator = generator_of(config, data)
        self.discriminator = discriminator_of(config, data)
        self.apply(_draw_weights)
        self.register_buffer("fixed_noise", self.noise(SHOWN))

    def forward(self, noise: Tensor) -> Tensor:
        """Images (batch, channels, height, width) in [-1, 1]."""
        images: Tensor = self.generator(noise[:, :, None, None])
        return images

    def noise(self, count: int) -> Tensor:
        """Standard normal noise (count, latent) from torch's global generator."""
        return torch.randn(count, self.latent).to(next(self.generator.parameters()).device)

    def judged(self, images: Tensor) -> float:
        """The mean probability of being real that the discriminator gives to the images."""
        parts = [self.discriminator(part).sigmoid() for part in torch.split(images, SCORING_BATCH)]
        return float(torch.cat(parts).double().mean())


def depth_of(data: DataSpec) -> int:
    """How often the images can be halved without a side of less than 4 pixels."""
    return (min(data.height, data.width) // LEAST_SIDE).bit_length() - 1


def generator_of(config: GAN, data: DataSpec) -> nn.Sequential:
    """From noise (batch, latent, 1, 1) to images, doubling from the smallest size on."""
    depth = depth_of(data)
    sizes = level_sizes(data, depth)
    widths = [data.channels, *_widths(config.width, depth)]
    wide = widths[-1]
    layers: list[nn.Module] = [nn.ConvTranspose2d(config.latent, wide, sizes[-1], bias=False)]
    for level in reversed(range(depth)):
        layers += [*normalisation("batch", widths[level + 1]), nn.ReLU(inplace=True)]
        layers.append(doubling(widths[level + 1], widths[level], sizes[level]))
    return nn.Sequential(*layers, nn.Tanh())


def discriminator_of(config: GAN, data: DataSpec) -> nn.Sequential:
    """From images to logits (batch, 1) of being real, halving down to the smallest size.

    The first layer is never normalised, as in Radford et al. 2016. Batches are normalised by
    themselves even in eval mode: real and generated ones differ too much for statistics of both.
    """
    depth = depth_of(data)
    widths = [data.channels, *_widths(config.discriminator_width, depth)]
    layers: list[nn.Module] = []
    for level in range(depth):
        layers.append(nn.Conv2d(widths[level], widths[level + 1], 4, stride=2, padding=1))
        if level and config.discriminator_normalisation == "batch":
            layers.append(nn.BatchNorm2d(widths[level + 1], track_running_stats=False))
        layers.append(nn.LeakyReLU(LEAK, inplace=True))
    height, width = level_sizes(data, depth)[-1]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * height * width, 1))


def _widths(width: int, depth: int) -> list[int]:
    return [width * min(2**level, MOST_WIDTHS) for level in range(depth)]


def _draw_weights(layer: nn.Module) -> None:
    """As in Radford et al. 2016; the scales of normalisations are drawn around 1."""
    with torch.no_grad():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.normal_(1.0, WEIGHT_SPREAD)
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            layer.weight.normal_(0.0, WEIGHT_SPREAD)
            if layer.bias is not None:
                layer.bias.zero_()


def _generator_loss(model: nn.Module, batch: Batch) -> Tensor:
    """How far the discriminator is from taking generated images for real."""
    assert isinstance(model, Adversaries)
    with _held(model.discriminator):
        return _judgement(model.discriminator(model(model.noise(len(batch)))), 1.0)


def _judgement(logits: Tensor, target: float) -> Tensor:
    wanted = torch.full_like(logits, target)
    return nn.functional.binary_cross_entropy_with_logits(logits, wanted)


def _discriminator_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    assert isinstance(model, Adversaries)
    return model.discriminator.parameters()


def _generator_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    assert isinstance(model, Adversaries)
    return model.generator.parameters()


@contextmanager
def _held(network: nn.Module) -> Iterator[None]:
    """Gradients pass through the network but are not taken for its own weights."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def _features(images: Tensor) -> Tensor:
    """Features of images in [-1, 1]."""
    return image_features(images / 2 + 0.5)
