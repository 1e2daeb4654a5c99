"""Batches by gather: uint8 pixels or ready features, read straight from a memory map."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SCORING_BATCH = 512  # items per batch where nothing is learned

Augment: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True, slots=True)
class Batch:
    """What a network is given, and what it should answer.

    `inputs` are images (batch, channels, height, width), with several views (batch, views,
    channels, height, width), features (batch, features), or (batch, 0) without images. `targets`
    (batch,) are class numbers or, for regression, values in their own unit. `numbers` (batch,
    columns) are standardised, `categories` (batch, columns) are codes, 0 for unknown.
    """

    inputs: Tensor
    targets: Tensor
    numbers: Tensor | None = None
    categories: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """What is done to pixels in [0, 255] before a network sees them: (x / 255 - mean) / std."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalised float32 of uint8 pixels (batch, [views,] channels, height, width).

        Where the statistics are of three channels, grey images become three equal ones; where
        they are of one, colours are averaged. Without views, channels come last in memory.
        """
        if pixels.ndim == 5:
            images = self(pixels.flatten(0, 1))
            return images.reshape(*pixels.shape[:2], *images.shape[1:])
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

    `array` holds uint8 pixels (items, [views,] channels, height, width), float32 features (items,
    features) or nothing (items, 0); `rows` selects this split's items. `targets`, `numbers` and
    `categories` have one row per selected item, in the same order. `augment` changes the pixels of
    shuffled batches, and of no others.
    """

    array: Tensor
    rows: Tensor
    targets: Tensor
    preprocessing: Preprocessing | None = None
    numbers: Tensor | None = None
    categories: Tensor | None = None
    augment: Augment | None = None

    @classmethod
    def of(
        cls,
        array: NDArray[np.uint8] | NDArray[np.float32],
        rows: NDArray[np.int64],
        targets: NDArray[Any],
        preprocessing: Preprocessing | None = None,
        *,
        numbers: NDArray[np.float32] | None = None,
        categories: NDArray[np.int64] | None = None,
        augment: Augment | None = None,
    ) -> "Split":
        """The split of NumPy arrays, which are shared, not copied."""
        return cls(
            array=torch.from_numpy(array),
            rows=torch.from_numpy(rows),
            targets=torch.from_numpy(targets),
            preprocessing=preprocessing,
            numbers=None if numbers is None else torch.from_numpy(numbers),
            categories=None if categories is None else torch.from_numpy(categories),
            augment=augment,
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
            yield self._batch(chosen, generator)

    def in_order(self, batch_size: int = SCORING_BATCH) -> Iterator[Batch]:
        """The items in their own order, never augmented."""
        for chosen in torch.split(torch.arange(len(self)), batch_size):
            yield self._batch(chosen)

    def take(self, chosen: Tensor) -> "Split":
        """The split of the items at these places (int64), in this order."""
        return replace(
            self,
            rows=self.rows[chosen],
            targets=self.targets[chosen],
            numbers=None if self.numbers is None else self.numbers[chosen],
            categories=None if self.categories is None else self.categories[chosen],
        )

    def spread(self, count: int) -> Batch:
        """At most `count` items at even distances, as one batch."""
        places = torch.linspace(0, len(self) - 1, min(count, len(self))).round().long()
        return self._batch(places)

    def _batch(self, chosen: Tensor, generator: torch.Generator | None = None) -> Batch:
        items = self.array[self.rows[chosen]]
        if self.augment is not None and generator is not None:
            items = self.augment(items, generator)
        return Batch(
            self.preprocessing(items) if self.preprocessing else items,
            self.targets[chosen],
            None if self.numbers is None else self.numbers[chosen],
            None if self.categories is None else self.categories[chosen],
        )
