"""How many items each split gets, from what is asked and what is there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from torchstudy.data.images import SPLITS, Images
from torchstudy.data.listing import Part

DEFAULT_SHARE = 0.15  # of what is available, for each of valid, select and test
AT_LEAST = {"train": 2, "valid": 1, "select": 1, "test": 1}  # items of each class
ALIKE_AT_LEAST = 2  # items in a split of quantities: the spread of a single one is 0
LEAST_ITEMS = 20  # with a quantity to predict
FIXED = {"valid": Part.VALID, "test": Part.TEST}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`sizes`: items per split; `cut`: the splits taken from the pool; `problems`: sentences."""

    sizes: dict[str, int]
    cut: tuple[str, ...]
    problems: tuple[str, ...]


def class_counts(
    labels: NDArray[np.int64], parts: NDArray[np.int8], num_classes: int
) -> NDArray[np.int64]:
    """(part, class): how many items there are."""
    cells = parts.astype(np.int64) * num_classes + labels
    return np.bincount(cells, minlength=len(Part) * num_classes).reshape(len(Part), num_classes)


def planned(
    images: Images, counts: NDArray[np.int64], classes: Sequence[str], *, noun: str = "images"
) -> Plan:
    """The sizes that `images` asks for, given `counts` of (part, class).

    Without `classes` a quantity is predicted, and the counts are those of its bins.
    """
    if not counts.any():
        return Plan(sizes={}, cut=(), problems=(f"data: there are no {noun} that can be used",))
    fixed = {name: part for name, part in FIXED.items() if counts[part].any()}
    cut = tuple(name for name in SPLITS if name not in fixed)
    pool = int(counts[Part.POOL].sum())
    sizes = {}
    for name in ("valid", "select", "test"):
        available = int(counts[fixed[name]].sum()) if name in fixed else pool
        least = len(classes) or ALIKE_AT_LEAST
        default = available if name in fixed else max(round(DEFAULT_SHARE * pool), least)
        sizes[name] = _asked(getattr(images, name), available, default)
    rest = pool - sum(sizes[name] for name in cut if name != "train")
    sizes = {"train": _asked(images.train, pool, rest), **sizes}
    plan = Plan(sizes=sizes, cut=cut, problems=())
    few = _class_problems(counts, cut, fixed, classes, noun) if classes else _too_few(pool, noun)
    sizes_wrong = _room_problems(plan, pool, noun) or [
        *_small_splits(images, plan, pool, classes, noun)
    ]
    problems = [*few, *_fixed_problems(plan, counts, fixed, noun), *sizes_wrong]
    return Plan(sizes=sizes, cut=cut, problems=tuple(problems))


def _asked(value: int | float | None, available: int, default: int) -> int:
    if value is None:
        return default
    return round(value * available) if isinstance(value, float) else value


def _class_problems(
    counts: NDArray[np.int64],
    cut: tuple[str, ...],
    fixed: dict[str, Part],
    classes: Sequence[str],
    noun: str,
) -> Iterable[str]:
    if len(classes) < 2:
        yield f"data: there is one class only, {classes[0]!r}; a study needs at least two"
    need = sum(AT_LEAST[name] for name in cut)
    if few := [label for label, count in enumerate(counts[Part.POOL]) if count < need]:
        parts = ", ".join(f"{AT_LEAST[name]} for {name}" for name in cut)
        yield (
            f"data: every class needs at least {need} {noun} ({parts}), but "
            f"{listed(few, counts[Part.POOL], classes)}; add {noun} or remove the class"
        )
    for name, part in fixed.items():
        if missing := [label for label, count in enumerate(counts[part]) if count == 0]:
            yield (
                f"data: every class needs an image for {name}, but "
                f"{listed(missing, counts[part], classes)}"
            )


def _too_few(pool: int, noun: str) -> Iterable[str]:
    if pool < LEAST_ITEMS:
        yield f"data: {pool} {noun} are too few to be split four ways; give at least {LEAST_ITEMS}"


def _fixed_problems(
    plan: Plan, counts: NDArray[np.int64], fixed: dict[str, Part], noun: str
) -> Iterable[str]:
    for name, part in fixed.items():
        if plan.sizes[name] > (available := int(counts[part].sum())):
            size = plan.sizes[name]
            yield f"data: {name} = {size} is more than the {available} {noun} available"


def _room_problems(plan: Plan, pool: int, noun: str) -> list[str]:
    sizes = {name: plan.sizes[name] for name in plan.cut}
    wanted = sum(sizes.values())
    if wanted <= pool and sizes["train"] >= 1:
        return []
    listed_sizes = " + ".join(f"{name} {size}" for name, size in sizes.items() if size > 0)
    taken = f"= {wanted}" if sizes["train"] > 0 else "and leave none for train"
    return [
        f"data: the splits ask for {listed_sizes} {taken}, but {pool} {noun} are available; "
        "ask for less, or name a number for each split"
    ]


def _small_splits(
    images: Images, plan: Plan, pool: int, classes: Sequence[str], noun: str
) -> Iterable[str]:
    for name, size in plan.sizes.items():
        need = AT_LEAST[name] * len(classes) if classes else ALIKE_AT_LEAST
        if size < need and pool >= AT_LEAST["train"] * len(classes):
            given = getattr(images, name)
            asked = f" (asked for {given:g})" if isinstance(given, float) else ""
            needed = f"{len(classes)} classes need" if classes else "a measure of it needs"
            what = noun.removesuffix("s") if size == 1 else noun
            yield f"data: {name} gets {size} {what}{asked}, but {needed} at least {need}"


def listed(
    labels: Sequence[int], counts: NDArray[np.int64], classes: Sequence[str], limit: int = 8
) -> str:
    """`'ants' has 3, 'bees' has 1 and 4 more`."""
    shown = ", ".join(f"{classes[label]!r} has {counts[label]}" for label in labels[:limit])
    more = f" and {len(labels) - limit} more" if len(labels) > limit else ""
    return shown + more
