"""Pictures to watch over the epochs: when they are taken, and how they are kept."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from torchstudy.training.batches import Batch

SHOWN = 8  # validation items; pictures are taken untrained, after 1, 2, 4, ... epochs and the last


def is_due(epoch: int, num_epochs: int) -> bool:
    """Whether pictures are taken after this epoch; 0 is the untrained network."""
    return epoch in (0, num_epochs) or epoch & (epoch - 1) == 0


def taken(
    pictures: Callable[[nn.Module, Batch], dict[str, Tensor]], model: nn.Module, batch: Batch
) -> dict[str, Tensor]:
    """The pictures as uint8 (items, channels, height, width), by caption."""
    return as_bytes(pictures(model, batch))


def as_bytes(pictures: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Images in [0, 1] as uint8, on the CPU."""
    return {
        caption: images.float().clamp(0, 1).mul(255).round().to(torch.uint8).cpu().contiguous()
        for caption, images in pictures.items()
    }
