"""Batches by gather: uint8 pixels or ready features, read straight from a memory map."""

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from torchstudy.data.streaming import StreamedPixels

SCORING_BATCH = 512  # items per batch where nothing is learned
UNTIMED = nullcontext()

Augment: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]


class Parts(Protocol):
    """Something that counts where time goes: `training.clock.Clock`."""

    def part(self, name: str) -> AbstractContextManager[None]:
        """Count the time inside as `name`."""


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
        if len(self.mean) == 3 and pixels.shape[1] == 1:
            pixels = pixels.expand(-1, 3, -1, -1)
        images = pixels.float().mul_(1 / 255)
        if len(self.mean) == 1 and pixels.shape[1] == 3:
            images = images.mean(dim=1, keepdim=True)
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        # One multiply-add is no quicker and rounds otherwise: benchmarks/loader.json.
        return images.sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The items of one split: rows of an array, and what makes inputs of them.

    `array` holds uint8 pixels (items, [views,] channels, height, width), float32 features (items,
    features) or nothing (items, 0), or reads pixels from their files; `rows` selects this split's
    items. `targets`, `numbers` and `categories` have one row per selected item, in the same order.
    `augment` changes the pixels of shuffled batches, and of no others. Batches lie where `targets`
    do; `array` and `rows` lie there too, or on the CPU.
    """

    array: "Tensor | StreamedPixels"
    rows: Tensor
    targets: Tensor
    preprocessing: Preprocessing | None = None
    numbers: Tensor | None = None
    categories: Tensor | None = None
    augment: Augment | None = None

    @classmethod
    def of(
        cls,
        array: "NDArray[np.uint8] | NDArray[np.float32] | StreamedPixels",
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
            array=torch.from_numpy(array) if isinstance(array, np.ndarray) else array,
            rows=torch.from_numpy(rows),
            targets=torch.from_numpy(targets),
            preprocessing=preprocessing,
            numbers=None if numbers is None else torch.from_numpy(numbers),
            categories=None if categories is None else torch.from_numpy(categories),
            augment=augment,
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def device(self) -> torch.device:
        """Where batches lie."""
        return self.targets.device

    def to(self, device: str | torch.device, *, room: float | None = None) -> "Split":
        """The split whose batches lie on `device`; of random draws, none changes.

        Inputs of at most `room` bytes (default: a third of a GPU's free memory) are moved there
        once and for all, else batch by batch, one ahead of use.
        """
        targets = self.targets.to(device)
        device = targets.device  # with its number, which "cuda" lacks
        moved = replace(
            self,
            targets=targets,
            numbers=None if self.numbers is None else self.numbers.to(device),
            categories=None if self.categories is None else self.categories.to(device),
        )
        if not isinstance(self.array, Tensor) or self.array.device == device:
            return moved
        size = len(self) * math.prod(self.array.shape[1:]) * self.array.element_size()
        if size > (_room(device) if room is None else room):
            return moved
        own = self.array.index_select(0, self.rows).to(device)
        return replace(moved, array=own, rows=torch.arange(len(self), device=device))

    def num_batches(self, batch_size: int) -> int:
        """How many batches of at most `batch_size` an epoch has."""
        return max(1, math.ceil(len(self) / batch_size))

    def shuffled(
        self, batch_size: int, generator: torch.Generator, clock: Parts | None = None
    ) -> Iterator[Batch]:
        """The items in random order, in batches of nearly equal size (none of a single item).

        `clock` counts what is done here as `load` and `augment`.
        """
        order = torch.randperm(len(self), generator=generator)
        chunks = torch.tensor_split(order, self.num_batches(batch_size))
        yield from self._batches(chunks, generator, clock)

    def in_order(
        self, batch_size: int = SCORING_BATCH, clock: Parts | None = None
    ) -> Iterator[Batch]:
        """The items in their own order, never augmented."""
        return self._batches(torch.split(torch.arange(len(self)), batch_size), None, clock)

    def take(self, chosen: Tensor) -> "Split":
        """The split of the items at these places (int64), in this order."""
        return replace(
            self,
            rows=_at(self.rows, chosen),
            targets=_at(self.targets, chosen),
            numbers=None if self.numbers is None else _at(self.numbers, chosen),
            categories=None if self.categories is None else _at(self.categories, chosen),
        )

    def spread(self, count: int) -> Batch:
        """At most `count` items at even distances, as one batch."""
        places = torch.linspace(0, len(self) - 1, min(count, len(self))).round().long()
        (batch,) = self._batches([places], None, None)
        return batch

    def _batches(
        self, chunks: Sequence[Tensor], generator: torch.Generator | None, clock: Parts | None
    ) -> Iterator[Batch]:
        """One batch of the items at each chunk's places; augmented with a generator."""

        def timed(part: str) -> AbstractContextManager[None]:
            return UNTIMED if clock is None else clock.part(part)

        with closing(self._items(chunks)) as inputs:
            for chosen in chunks:
                with timed("load"):
                    items = next(inputs)
                if self.augment is not None and generator is not None:
                    with timed("augment"):
                        items = self.augment(items, generator)
                with timed("load"):
                    batch = self._batch(chosen, items)
                yield batch

    def _batch(self, chosen: Tensor, items: Tensor) -> Batch:
        return Batch(
            self.preprocessing(items) if self.preprocessing else items,
            _at(self.targets, chosen),
            None if self.numbers is None else _at(self.numbers, chosen),
            None if self.categories is None else _at(self.categories, chosen),
        )

    def _items(self, chunks: Sequence[Tensor]) -> Generator[Tensor]:
        """What `array` holds for each chunk, on the split's device."""
        with closing(self._gathered(chunks)) as gathered:
            if isinstance(self.array, Tensor) and self.array.device == self.device:
                yield from gathered
                return
            ahead: Tensor | None = None
            for items in gathered:
                begun = _begun_copy(items, self.device)
                if ahead is not None:
                    yield ahead
                ahead = begun
            if ahead is not None:
                yield ahead

    def _gathered(self, chunks: Sequence[Tensor]) -> Generator[Tensor]:
        """What `array` holds for each chunk, where it lies."""
        if isinstance(self.array, Tensor):
            for chosen in chunks:
                yield _at(self.array, _at(self.rows, chosen))
            return
        rows = (_at(self.rows, chosen).numpy() for chosen in chunks)
        with closing(self.array.ahead(rows, torch.get_num_threads())) as pixels:
            yield from map(torch.from_numpy, pixels)


def _at(table: Tensor, places: Tensor) -> Tensor:
    """`table[places]`, which is several times slower on a CPU: it looks at every pixel."""
    return table.index_select(0, places.to(table.device))


def _begun_copy(items: Tensor, device: torch.device) -> Tensor:
    """`items` on their way to `device`: a GPU copies pinned memory while it computes."""
    source = items.pin_memory() if device.type == "cuda" else items
    return source.to(device, non_blocking=device.type == "cuda")


def _room(device: torch.device) -> float:
    """Bytes that a split may take there; what is no GPU of its own shares the array's memory."""
    return torch.cuda.mem_get_info(device)[0] / 3 if device.type == "cuda" else math.inf
