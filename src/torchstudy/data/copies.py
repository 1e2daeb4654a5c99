"""Which items are copies of each other, by their images and columns, and a hash of each."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from torchstudy.data.decoding import Decoded, Progress
from torchstudy.data.duplicates import connected, duplicate_groups, without_crowds
from torchstudy.data.listing import Listing, Rows

Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """`hashes`: 64 bits per item over all there is of it; `groups`: its lowest copy.

    `pictures` (items, views) hashes the images. `alike` counts what resembles so much else that
    it says nothing: images, or rows where there are none.
    """

    hashes: Hashes
    groups: NDArray[np.int64]
    pictures: Hashes
    alike: int


def copies_among(
    listing: Listing, decoded: Decoded, kept: NDArray[np.int64], progress: Progress | None = None
) -> Copies:
    """Compare the items in `kept`.

    Items are copies when they share an image, exactly or nearly, in the same column. Without
    images, rows are copies when all entries are equal; a few categories are equal in many rows
    that are no copies, as `without_crowds` tells.
    """
    rows = None if listing.rows is None else listing.rows.take(kept)
    labels = listing.labels[kept]
    if not listing.has_images:
        assert rows is not None
        nothing = np.zeros((len(kept), 0), dtype=np.uint64)
        hashes = row_hashes(rows, labels, listing.classes, nothing)
        _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        groups, crowded = without_crowds(first[inverse].astype(np.int64))
        return Copies(hashes=hashes, groups=groups, pictures=nothing, alike=int(crowded.sum()))
    if progress is not None:
        progress("compare", 0, len(kept))
    groups, alike = _shared_images(listing.views, decoded, kept)
    if progress is not None:
        progress("compare", len(kept), len(kept))
    pictures = decoded.hashes[images_of(kept, listing.views)].reshape(len(kept), listing.views)
    hashes = pictures[:, 0] if rows is None else row_hashes(rows, labels, listing.classes, pictures)
    return Copies(hashes=hashes, groups=groups, pictures=pictures, alike=alike)


def images_of(items: NDArray[np.int64], views: int) -> NDArray[np.int64]:
    """The numbers of the images of some items, in order."""
    return (items[:, None] * views + np.arange(views)).ravel()


def row_hashes(
    rows: Rows, labels: NDArray[np.int64], classes: Sequence[str], pictures: Hashes
) -> Hashes:
    """64 bits per item over its images' hashes (items, views), its columns and its target."""
    hashes = np.empty(len(labels), dtype=np.uint64)
    for item, label in enumerate(labels.tolist()):
        digest = hashlib.sha256(pictures[item].tobytes() + rows.numbers[item].tobytes())
        target = classes[label] if rows.values is None else float(rows.values[item])
        digest.update(repr((rows.words[item].tolist(), target)).encode())
        hashes[item] = int.from_bytes(digest.digest()[:8], "little")
    return hashes


def _shared_images(
    views: int, decoded: Decoded, kept: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int]:
    """The group of each item, linked by any of its views, and how many images look alike.

    Where items have several views, one image in very many of them stands for a missing one.
    """
    everyone, alike = np.arange(len(kept)), 0
    groups = everyone
    for view in range(views):
        chosen = kept * views + view
        found = duplicate_groups(decoded.hashes[chosen], decoded.thumbs[chosen])
        own, crowded = found.groups, np.zeros(len(kept), dtype=bool)
        if views > 1:
            own, crowded = without_crowds(own)
        groups = connected(len(kept), np.tile(everyone, 2), np.concatenate([groups, own]))
        alike += found.alike + int(crowded.sum())
    return groups, alike
