"""What a user should know of prepared data: what was left out, or kept together."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from torchstudy.data.cache import Entry
from torchstudy.data.listing import Listing
from torchstudy.data.splits import Items, Split


def item_notes(listing: Listing, entry: Entry, items: Items, split: Split) -> Iterator[str]:
    """One sentence for each kind of thing that was left out or kept together."""
    yield from listing.notes
    yield from _bad_notes(listing, entry)
    if entry.alike:
        yield _alike_note(listing, entry.alike)
    _, sizes = np.unique(items.groups, return_counts=True)
    if not (shared := sizes > 1).any():
        return
    num_groups = _counted(int(shared.sum()), "group", "groups")
    yield (
        f"{sizes[shared].sum()} {listing.noun} are copies or near copies of each other, in "
        f"{num_groups} (the largest of {sizes.max()}); no group straddles two splits"
    )
    names = entry.names()
    yield from _dropped_notes(split.dropped, names)
    if not items.are_bins:
        yield from _torn_notes(items, names)


def _bad_notes(listing: Listing, entry: Entry) -> Iterator[str]:
    if bad := (*listing.bad, *entry.bad):
        shown = f"{bad[0].name!r}: {bad[0].reason}"
        what = _counted(len(bad), "unreadable image was", "unreadable images were")
        how = "left out" if listing.noun == "images" else f"left out with {_their(bad)}"
        yield f"{what} {how}, {'the first ' if len(bad) > 1 else ''}{shown}"


def _their(bad: Sequence[object]) -> str:
    return "its row" if len(bad) == 1 else "their rows"


def _alike_note(listing: Listing, alike: int) -> str:
    if not listing.has_images:
        return (
            f"{alike} rows are equal to so many others that they are not taken for copies; they "
            "are in any split"
        )
    return (
        f"{alike} images look so much alike that near copies cannot be told apart; only exact "
        "copies of them are kept together"
        if listing.views == 1
        else f"{alike} images look so much like many others that their rows are not kept together"
    )


def _dropped_notes(dropped: NDArray[np.int64], names: Sequence[str]) -> Iterator[str]:
    if len(dropped) == 1:
        yield (
            "1 image was left out because it repeats an image of a split that the data fix: "
            f"{names[dropped[0]]!r}"
        )
    elif len(dropped):
        yield (
            f"{len(dropped)} images were left out because they repeat images of a split that the "
            f"data fix, the first {names[dropped[0]]!r}"
        )


def _torn_notes(items: Items, names: Sequence[str]) -> Iterator[str]:
    """Groups of copies with more than one class: somebody labelled them wrong."""
    other = items.labels != items.labels[items.groups]
    torn = np.unique(items.groups[other])
    if len(torn):
        first = int(torn[0])
        second = int(np.flatnonzero(other & (items.groups == first))[0])
        shown = f"{names[first]!r} and {names[second]!r}"
        yield _counted(len(torn), "group of copies carries", "groups of copies carry") + (
            f" different classes: {shown}" if len(torn) == 1 else f" different classes, as {shown}"
        )


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
