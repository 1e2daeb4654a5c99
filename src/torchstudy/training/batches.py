"""Batches by gather: uint8 pixels or ready features, read straight from a memory map."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SCORING_BATCH = 512  # items per batch where nothing is learned


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs (batch, channels, height, width) or (batch, features), and targets (batch,)."""

    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """What is done to pixels in [0, 255] before a network sees them: (x / 255 - mean) / std."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalised float32 of uint8 pixels (batch, channels, height, width), channels last.

        Where the statistics are of three channels, grey images become three equal ones; where
        they are of one, colours are averaged.
        """
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        images = pixels.float().mul_(1 / 255)
        if len(self.mean) == 3 and pixels.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        if len(self.mean) == 1 and pixels.shape[1] == 3:
            images = images.mean(dim=1, keepdim=True)
        images = (images - mean[:, None, None]) / std[:, None, None]
        return images.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The items of one split: rows of an array, and what makes inputs of them.

    `array` holds uint8 pixels (items, channels, height, width) or float32 features (items,
    features); `rows` selects this split's items and `targets` their classes, in the same order.
    """

    array: Tensor
    rows: Tensor
    targets: Tensor
    preprocessing: Preprocessing | None = None

    @classmethod
    def of(
        cls,
        array: NDArray[np.uint8] | NDArray[np.float32],
        rows: NDArray[np.int64],
        targets: NDArray[np.int64],
        preprocessing: Preprocessing | None = None,
    ) -> "Split":
        """The split of NumPy arrays, which are shared, not copied."""
        return cls(
            array=torch.from_numpy(array),
            rows=torch.from_numpy(rows),
            targets=torch.from_numpy(targets),
            preprocessing=preprocessing,
        )

    def __len__(self) -> int:
        return len(self.rows)

    def num_batches(self, batch_size: int) -> int:
        """How many batches of at most `batch_size` an epoch has."""
        return max(1, math.ceil(len(self) / batch_size))

    def shuffled(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """The items in random order, in batches of nearly equal size (none of a single item)."""
        order = torch.randperm(len(self), generator=generator)
        for chosen in torch.tensor_split(order, self.num_batches(batch_size)):
            yield self._batch(chosen)

    def in_order(self, batch_size: int = SCORING_BATCH) -> Iterator[Batch]:
        """The items in their own order."""
        for chosen in torch.split(torch.arange(len(self)), batch_size):
            yield self._batch(chosen)

    def _batch(self, chosen: Tensor) -> Batch:
        items = self.array[self.rows[chosen]]
        inputs = self.preprocessing(items) if self.preprocessing else items
        return Batch(inputs, self.targets[chosen])
