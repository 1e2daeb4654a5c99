"""What a family's network is shown of each split: pixels, or a frozen encoder's features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchstudy.data.dataset import ImageData
from torchstudy.data.spec import DataSpec
from torchstudy.data.streaming import StreamedPixels
from torchstudy.families.base import Family
from torchstudy.training.batches import Preprocessing, Split
from torchstudy.training.features import cached_features


def splits_of(
    family: Family,
    data: ImageData,
    names: Sequence[str],
    on_note: Callable[[str], None] = lambda text: None,
    check_stop: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Split], DataSpec]:
    """Splits as the family's network takes them: pixels, or features computed once."""
    encoder = family.encoder(data.spec)
    if encoder is None:
        pixels, preprocessing = inputs_for(family, data)
        return {
            name: split_of(data, pixels, rows, rows, preprocessing)
            for name, rows in data.splits.items()
            if name in names
        }, data.spec
    splits, width = {}, 0
    for group in encoded_together(data):
        if group.names.isdisjoint(names):
            continue
        features = cached_features(
            encoder,
            data.pixels,
            group.items,
            data_key=data.handle.folder.name,
            on_note=on_note,
            check_stop=check_stop,
        )
        width = features.shape[1]
        for name in group.names.intersection(names):
            rows = data.splits[name]
            splits[name] = split_of(data, features, np.searchsorted(group.items, rows), rows)
    return splits, replace(data.spec, num_features=width)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Splits whose features are computed and kept together: those of `items`, in rising order."""

    names: frozenset[str]
    items: NDArray[np.int64]


def encoded_together(data: ImageData) -> list[Encoded]:
    """All splits, so that studies which cut them otherwise find the same features.

    A test split that the source fixes is the same for all: it waits until it is looked at.
    """
    groups = [frozenset(data.splits)]
    if data.has_fixed_test:
        groups = [groups[0] - {"test"}, frozenset({"test"})]
    return [
        Encoded(names=names, items=np.unique(np.concatenate([data.splits[n] for n in names])))
        for names in groups
    ]


def inputs_for(
    family: Family, data: ImageData
) -> tuple[NDArray[Any] | StreamedPixels, Preprocessing | None]:
    """The pixels that a family looks at, and what is done to them; none where it does not look."""
    if family.uses_images(data.spec):
        return data.pixels, family.preprocessing(data.spec)
    return np.zeros((len(data.targets), 0), dtype=np.float32), None


def split_of(
    data: ImageData,
    array: NDArray[Any] | StreamedPixels,
    places: NDArray[np.int64],
    rows: NDArray[np.int64],
    preprocessing: Preprocessing | None = None,
) -> Split:
    """The items `rows` of the data, whose inputs stand at `places` of `array`."""
    return Split.of(
        array,
        places,
        data.targets[rows],
        preprocessing,
        numbers=None if data.numbers is None else data.numbers[rows],
        categories=None if data.categories is None else data.categories[rows],
    )
