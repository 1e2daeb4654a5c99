"""Denoiser: convolutions that take noise out of images."""

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from torchstudy.data.spec import DataSpec
from torchstudy.domains import Choice, Int
from torchstudy.errors import SpaceError
from torchstudy.families.base import Family, Goal, family
from torchstudy.families.blocks import too_small_to_halve
from torchstudy.families.phases import Phase
from torchstudy.families.reconstruction import (
    activated,
    doubling,
    level_sizes,
    level_widths,
    several_views,
    unit_pixels,
)
from torchstudy.training.batches import Batch, Preprocessing
from torchstudy.training.optim import TrainingConfig
from torchstudy.training.restoration import Restored, restoration_metrics

NOISE_SEED = 0  # of the noise on which every denoiser is scored, whatever its own seed
LEAST_SIDE = 6  # pixels: what the window of structural similarity needs


@family
class Denoiser(Family):
    """Convolutions down, transposed convolutions up: from noisy images to clean ones.

    Gaussian noise of spread `noise` is added to pixels in [0, 1], which are then cut off there. It
    is drawn anew in every step of training, and is always the same where models are scored.
    With `skips` each level up also gets what its level down saw (Mao et al. 2016).
    """

    metrics: ClassVar[tuple[str, ...]] = (
        "psnr",
        "ssim",
        "psnr_gain",
        "noisy_psnr",
        "noisy_ssim",
        "median_psnr",
        "loss",
    )
    goal: ClassVar[Goal] = "restoration"

    noise: float = 0.3
    depth: int = Int(1, 3, default=2)
    width: int = Int(8, 64, log=True, default=16)
    skips: bool = Choice(True, False, default=True)
    normalisation: str = Choice("none", "batch", default="batch")
    activation: str = Choice("relu", "leaky-relu", "gelu", "silu", default="relu")

    def __post_init__(self) -> None:
        if not 0 < self.noise <= 1:
            raise SpaceError([f"noise must be above 0 and at most 1, not {self.noise:g}"])

    @override
    def problems(self, data: DataSpec) -> Sequence[str]:
        found = [*several_views(data), *too_small_to_halve(data, self.depth)]
        if min(data.height, data.width) < LEAST_SIDE:
            found.append(
                f"structural similarity needs images of at least {LEAST_SIDE} px, but these have "
                f"{data.height} x {data.width}: raise the image size"
            )
        return found

    @override
    def preprocessing(self, data: DataSpec) -> Preprocessing:
        return unit_pixels(data)

    @override
    def build(self, data: DataSpec) -> "DenoisingNet":
        return DenoisingNet(self, data)

    @override
    def phases(self, data: DataSpec, training: TrainingConfig) -> tuple[Phase, ...]:
        return (Phase(name="denoise", loss=self._loss),)

    @override
    def score(self, model: nn.Module, data: DataSpec, batches: Iterable[Batch]) -> dict[str, float]:
        return restoration_metrics(self._restored(model, batches))

    @override
    def predict(self, model: nn.Module, data: DataSpec, batch: Batch) -> Tensor | None:
        return None

    @override
    def pictures(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        ((clean, noisy, restored),) = self._restored(model, [batch])
        return {"noisy": noisy, "restored": restored, "clean": clean}

    def _loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean squared error per pixel; targets are not looked at."""
        drawn = torch.randn_like(batch.inputs)
        return nn.functional.mse_loss(model(self._noisy(batch.inputs, drawn)), batch.inputs)

    def _restored(self, model: nn.Module, batches: Iterable[Batch]) -> Iterator[Restored]:
        generator = torch.Generator().manual_seed(NOISE_SEED)
        for batch in batches:
            # Image by image: one draw for a batch would depend on how many images it has.
            drawn = [torch.randn(image.shape, generator=generator) for image in batch.inputs]
            noisy = self._noisy(batch.inputs, torch.stack(drawn).to(batch.inputs.device))
            yield batch.inputs, noisy, model(noisy)

    def _noisy(self, images: Tensor, drawn: Tensor) -> Tensor:
        return (images + self.noise * drawn).clamp(0, 1)


class DenoisingNet(nn.Module):
    """Noisy images in [0, 1] -> restored ones of the same shape, in [0, 1]."""

    def __init__(self, config: Denoiser, data: DataSpec) -> None:
        super().__init__()
        norm, act = config.normalisation, config.activation
        widths = level_widths(data.channels, config.width, config.depth)
        sizes = level_sizes(data, config.depth)
        self.skips = config.skips
        self.pool = nn.MaxPool2d(2)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level in range(config.depth):
            narrow, wide = widths[level], widths[level + 1]
            down = [nn.Conv2d(narrow, wide, 3, padding=1), *activated(wide, norm=norm, act=act)]
            self.down.append(nn.Sequential(*down))
            below = widths[min(level + 2, config.depth)]
            up = [doubling(below, wide, sizes[level]), *activated(wide, norm=norm, act=act)]
            self.up.append(nn.Sequential(*up))
        self.last = nn.Sequential(
            nn.Conv2d(config.width, data.channels, 3, padding=1), nn.Sigmoid()
        )

    def forward(self, images: Tensor) -> Tensor:
        """Restored images (batch, channels, height, width)."""
        seen, maps = [], images
        for down in self.down:
            seen.append(down(maps))
            maps = self.pool(seen[-1])
        for up in reversed(self.up):
            before = seen.pop()
            maps = up(maps) + before if self.skips else up(maps)
        restored: Tensor = self.last(maps)
        return restored
