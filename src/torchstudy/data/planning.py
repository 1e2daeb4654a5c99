"""How many images each split gets, from what is asked and what is there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from torchstudy.data.images import SPLITS, Images
from torchstudy.data.listing import Part

DEFAULT_SHARE = 0.15  # of what is available, for each of valid, select and test
AT_LEAST = {"train": 2, "valid": 1, "select": 1, "test": 1}  # images of each class
LEAST_ROWS = 20  # items with a quantity to predict
FIXED = {"valid": Part.VALID, "test": Part.TEST}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`sizes`: images per split; `cut`: the splits taken from the pool; `problems`: sentences."""

    sizes: dict[str, int]
    cut: tuple[str, ...]
    problems: tuple[str, ...]


def class_counts(
    labels: NDArray[np.int64], parts: NDArray[np.int8], num_classes: int
) -> NDArray[np.int64]:
    """(part, class): how many images there are."""
    cells = parts.astype(np.int64) * num_classes + labels
    return np.bincount(cells, minlength=len(Part) * num_classes).reshape(len(Part), num_classes)


def planned(
    images: Images,
    counts: NDArray[np.int64],
    classes: Sequence[str],
    *,
    are_classes: bool = True,
) -> Plan:
    """The sizes that `images` asks for, given `counts` of (part, class).

    The `classes` may be bins of a quantity: there may be one only.
    """
    if not counts.any():
        return Plan(sizes={}, cut=(), problems=("data: there are no images that can be used",))
    fixed = {name: part for name, part in FIXED.items() if counts[part].any()}
    cut = tuple(name for name in SPLITS if name not in fixed)
    pool = int(counts[Part.POOL].sum())
    sizes = {}
    for name in ("valid", "select", "test"):
        available = int(counts[fixed[name]].sum()) if name in fixed else pool
        default = available if name in fixed else max(round(DEFAULT_SHARE * pool), len(classes))
        sizes[name] = _asked(getattr(images, name), available, default)
    rest = pool - sum(sizes[name] for name in cut if name != "train")
    sizes = {"train": _asked(images.train, pool, rest), **sizes}
    problems = [
        *(_class_problems(counts, cut, fixed, classes) if are_classes else _too_few(pool)),
        *_size_problems(images, sizes, counts, cut, fixed),
    ]
    return Plan(sizes=sizes, cut=cut, problems=tuple(problems))


def _asked(value: int | float | None, available: int, default: int) -> int:
    if value is None:
        return default
    return round(value * available) if isinstance(value, float) else value


def _class_problems(
    counts: NDArray[np.int64], cut: tuple[str, ...], fixed: dict[str, Part], classes: Sequence[str]
) -> Iterable[str]:
    if len(classes) < 2:
        yield f"data: there is one class only, {classes[0]!r}; a study needs at least two"
    need = sum(AT_LEAST[name] for name in cut)
    if few := [label for label, count in enumerate(counts[Part.POOL]) if count < need]:
        parts = ", ".join(f"{AT_LEAST[name]} for {name}" for name in cut)
        yield (
            f"data: every class needs at least {need} images ({parts}), but "
            f"{listed(few, counts[Part.POOL], classes)}; add images or remove the class"
        )
    for name, part in fixed.items():
        if missing := [label for label, count in enumerate(counts[part]) if count == 0]:
            yield (
                f"data: every class needs an image for {name}, but "
                f"{listed(missing, counts[part], classes)}"
            )


def _too_few(pool: int) -> Iterable[str]:
    if pool < LEAST_ROWS:
        yield f"data: {pool} items are too few to be split four ways; give at least {LEAST_ROWS}"


def _size_problems(
    images: Images,
    sizes: dict[str, int],
    counts: NDArray[np.int64],
    cut: tuple[str, ...],
    fixed: dict[str, Part],
) -> Iterable[str]:
    num_classes = counts.shape[1]
    for name, part in fixed.items():
        if sizes[name] > (available := int(counts[part].sum())):
            yield f"data: {name} = {sizes[name]} is more than the {available} images available"
    pool = int(counts[Part.POOL].sum())
    if (wanted := sum(sizes[name] for name in cut)) > pool or sizes["train"] < 1:
        listed_sizes = " + ".join(f"{name} {sizes[name]}" for name in cut if sizes[name] > 0)
        taken = f"= {wanted}" if sizes["train"] > 0 else "and leave none for train"
        yield (
            f"data: the splits ask for {listed_sizes} {taken}, but {pool} images are available; "
            "ask for less, or name a number for each split"
        )
        return
    for name, size in sizes.items():
        need = AT_LEAST[name] * num_classes
        if size < need and pool >= AT_LEAST["train"] * num_classes:
            given = getattr(images, name)
            asked = f" (asked for {given:g})" if isinstance(given, float) else ""
            yield (
                f"data: {name} gets {size} images{asked}, but {num_classes} classes need at "
                f"least {need}"
            )


def listed(
    labels: Sequence[int], counts: NDArray[np.int64], classes: Sequence[str], limit: int = 8
) -> str:
    """`'ants' has 3, 'bees' has 1 and 4 more`."""
    shown = ", ".join(f"{classes[label]!r} has {counts[label]}" for label in labels[:limit])
    more = f" and {len(labels) - limit} more" if len(labels) > limit else ""
    return shown + more
