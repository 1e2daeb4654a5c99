"""Which item goes into which split: by content and seed, stratified, duplicates kept together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from torchstudy.data.images import SPLITS
from torchstudy.data.listing import Part
from torchstudy.data.planning import ALIKE_AT_LEAST, AT_LEAST, FIXED, Plan, listed
from torchstudy.errors import DataError

UNUSED = -1
ORDER = ("test", "select", "valid", "train")  # who is served first when duplicates tie items up

Ints: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """What a split depends on, one entry per item.

    `groups` is equal for duplicates; `ranks` is a random order that depends on content and seed.
    `labels` may be bins of a quantity: then a split may lack one of them.
    """

    labels: Ints
    parts: NDArray[np.int8]
    groups: Ints
    ranks: NDArray[np.uint64]
    classes: Sequence[str]
    are_bins: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Sorted item numbers per split, and the items left out because a fixed split repeats them."""

    splits: dict[str, Ints]
    dropped: Ints


def random_ranks(hashes: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """A random number per hash (SplitMix64, Steele et al. 2014), equal for equal images."""
    with np.errstate(over="ignore"):
        mixed = hashes ^ (np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15))
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))


def split_items(items: Items, plan: Plan) -> Split:
    """Cut `items` as planned; DataError when duplicates leave too few distinct ones."""
    repeats = _repeats_of_fixed(items)
    owner = np.full(len(items.labels), UNUSED, dtype=np.int64)
    for name, part in FIXED.items():
        if name not in plan.cut:
            inside = (items.parts == part) & ~repeats
            _take_fixed(owner, items, inside, name, plan.sizes[name])
    pool = (items.parts == Part.POOL) & ~repeats
    _cut_pool(owner, items, pool, plan)
    splits = {name: np.flatnonzero(owner == number) for number, name in enumerate(SPLITS)}
    return Split(splits=splits, dropped=np.flatnonzero(repeats))


def allocation(counts: Ints, total: int, lower: Ints, upper: Ints) -> Ints:
    """`total` spread over classes in proportion to `counts`, by largest remainder, within bounds.

    When the bounds leave no room for `total`, the nearest sum that they allow.
    """
    quota = counts * (total / max(counts.sum(), 1))
    took: Ints = np.clip(np.floor(quota).astype(np.int64), lower, upper)
    while short := total - int(took.sum()):
        step = 1 if short > 0 else -1
        room = np.flatnonzero(took < upper if step > 0 else took > lower)
        if not len(room):
            break
        wish = step * (quota - took)[room]
        took[room[np.argsort(-wish, kind="stable")[: abs(short)]]] += step
    return took


def _repeats_of_fixed(items: Items) -> Mask:
    """Items outside a fixed split that repeat one inside it; test comes before valid."""
    in_test, in_valid = (
        np.isin(items.groups, items.groups[items.parts == part]) for part in (Part.TEST, Part.VALID)
    )
    repeats: Mask = in_test & (items.parts != Part.TEST)
    repeats |= in_valid & (items.parts == Part.POOL)
    return repeats


def _take_fixed(owner: Ints, items: Items, inside: Mask, name: str, size: int) -> None:
    counts = np.bincount(items.labels[inside], minlength=len(items.classes))
    if not counts.all():
        missing = listed(np.flatnonzero(counts == 0).tolist(), counts, items.classes)
        raise DataError(f"data: {name} holds only images that repeat the test split: {missing}")
    target = allocation(counts, min(size, int(counts.sum())), np.ones_like(counts), counts)
    for number, ordered in zip(target, _by_class(items, inside), strict=True):
        owner[ordered[:number]] = SPLITS.index(name)


def _cut_pool(owner: Ints, items: Items, pool: Mask, plan: Plan) -> None:
    names = [name for name in ORDER if name in plan.cut]
    _check_enough(items, pool, names)
    left = _targets(items, pool, plan, names)
    numbers, sizes = np.unique(items.groups[pool], return_counts=True)
    shared = np.isin(items.groups, numbers[sizes > 1]) & pool
    for members in _groups_by_size(items, shared):
        counts = np.bincount(items.labels[members], minlength=len(items.classes))
        place = _place(left, counts, items.ranks[members].min())
        left[place] -= counts
        owner[members] = SPLITS.index(names[place]) if place < len(names) else UNUSED
    for label, ordered in enumerate(_by_class(items, pool & ~shared)):
        stops = np.cumsum(np.maximum(left[: len(names), label], 0))
        for name, chosen in zip(names, np.split(ordered, stops)[:-1], strict=True):
            owner[chosen] = SPLITS.index(name)
    if items.are_bins:  # no split may be empty, but any may lack a bin
        items = replace(items, labels=np.zeros_like(items.labels), classes=("all",))
    _fill_empty(owner, items, pool, names)


def _by_class(items: Items, chosen: Mask) -> list[Ints]:
    """The chosen items of each class, in the order of their ranks."""
    members = np.flatnonzero(chosen)
    members = members[np.lexsort((items.ranks[members], items.labels[members]))]
    counts = np.bincount(items.labels[members], minlength=len(items.classes))
    return np.split(members, np.cumsum(counts)[:-1])


def _targets(items: Items, pool: Mask, plan: Plan, names: list[str]) -> Ints:
    """(split, class) counts in the order of `names`; a last row if some are in no split."""
    left = np.bincount(items.labels[pool], minlength=len(items.classes))
    least = dict.fromkeys(names, 0) if items.are_bins else AT_LEAST
    rows = []
    for position, name in enumerate(names):
        reserved = sum(least[later] for later in names[position + 1 :])
        size = min(plan.sizes[name], int(left.sum()))
        lower = np.minimum(least[name], left)
        rows.append(allocation(left, size, lower, np.maximum(left - reserved, lower)))
        left = left - rows[-1]
    return np.stack([*rows, left] if left.any() else rows)


def _check_enough(items: Items, pool: Mask, names: list[str]) -> None:
    if items.are_bins:
        different, least = len(np.unique(items.groups[pool])), ALIKE_AT_LEAST * len(names)
        if different < least:
            raise DataError(
                f"data: counting copies once there are {different}, too few to be cut into "
                f"{', '.join(names)}; at least {least} must be different"
            )
        return
    counts = np.bincount(items.labels[pool], minlength=len(items.classes))
    pairs = np.unique(items.groups[pool] * len(items.classes) + items.labels[pool])
    distinct = np.bincount(pairs % len(items.classes), minlength=len(items.classes))
    need = sum(AT_LEAST[name] for name in names)
    if few := np.flatnonzero((distinct < len(names)) | (counts < need)).tolist():
        raise DataError(
            f"data: every class needs at least {need} images, {len(names)} of them different, to "
            f"be cut into {', '.join(names)}; counting copies once, "
            f"{listed(few, distinct, items.classes)}"
        )


def _groups_by_size(items: Items, shared: Mask) -> list[Ints]:
    """The items of each group of duplicates, largest group first, then in random order."""
    members = np.flatnonzero(shared)
    members = members[np.argsort(items.groups[members], kind="stable")]
    starts = np.flatnonzero(np.diff(items.groups[members])) + 1
    groups = np.split(members, starts) if len(members) else []
    return sorted(groups, key=lambda group: (-len(group), int(items.ranks[group].min())))


def _place(left: Ints, counts: Ints, rank: np.uint64) -> int:
    """The row with room for a group, drawn in proportion to the room; else the least overfull."""
    present = np.flatnonzero(counts)
    room = left[:, present]
    fits = (room >= counts[present]).all(axis=1)
    if not fits.any():
        excess = np.maximum(counts[present] - np.maximum(room, 0), 0).sum(axis=1)
        return len(left) - 1 - int(np.argmin(excess[::-1]))
    weights = np.where(fits, room.sum(axis=1), 0)
    draw = int(random_ranks(np.array([rank]), 1)[0] >> np.uint64(11)) / 2**53  # in [0, 1)
    return int(np.searchsorted(np.cumsum(weights), draw * weights.sum(), side="right"))


def _fill_empty(owner: Ints, items: Items, pool: Mask, names: list[str]) -> None:
    """Give each class that duplicates kept out of a split its smallest group from elsewhere."""
    for name in names:
        number = SPLITS.index(name)
        inside = np.bincount(items.labels[owner == number], minlength=len(items.classes))
        for label in np.flatnonzero(inside == 0):
            mine = pool & (items.labels == label)
            owner[_spare_group(owner, items, mine)] = number
    for name in names:
        inside = np.bincount(
            items.labels[owner == SPLITS.index(name)], minlength=len(items.classes)
        )
        if missing := np.flatnonzero(inside == 0).tolist():
            raise DataError(
                f"data: copies of each other leave too few different images for {name}: "
                f"{listed(missing, inside, items.classes)}"
            )


def _spare_group(owner: Ints, items: Items, mine: Mask) -> Ints:
    """The smallest group of `mine` in the split that has most of its groups."""
    numbers = np.unique(items.groups[mine])
    homes = np.array([owner[mine & (items.groups == group)][0] for group in numbers])
    crowded = np.bincount(homes - UNUSED).argmax() + UNUSED
    sizes = [int((items.groups == group).sum()) for group in numbers]
    candidates = [at for at, home in enumerate(homes) if home == crowded]
    chosen = min(candidates, key=lambda at: sizes[at])
    return np.flatnonzero(items.groups == numbers[chosen])
