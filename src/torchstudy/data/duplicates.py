"""Which images are copies of each other: the same pixels, or the same picture saved again."""

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from torchstudy.data.pictures import THUMB

# Measured: these limits find all of 396 photographs (short side 256) again after JPEG quality 30,
# after 0.9x with quality 70 and after 0.25x, and 99% of 28 x 28 images after quality 70. They put
# 100 of the 70,000 images of Fashion-MNIST in 43 groups, of six at most, and none of the digits.
MAX_BITS = 8
MAX_DIFFERENCE = 2.5  # grey levels, mean over the thumbnail
MAX_RELATIVE = 0.07  # of the thumbnail's standard deviation
MAX_COLOUR_DIFFERENCE = 3.0
MAX_NEAR = 10  # different pictures in a group of near copies
BANDS = 5  # of 12 bits each: up to four changed bits leave one band untouched
BAND_BITS = 12
BAND_MASK = np.uint64(2**BAND_BITS - 1)
WINDOW = 64  # neighbours compared within a band: the work grows linearly with the images
CHUNK = 8192
_ODD = np.uint64(0x9E3779B97F4A7C15)

Groups: TypeAlias = NDArray[np.int64]


class Duplicates(NamedTuple):
    """`groups` holds the lowest item of its group for every item; one without copies is its own.

    `alike` counts images that resemble so many others that only exact copies are kept together.
    """

    groups: Groups
    alike: int


def duplicate_groups(hashes: NDArray[np.uint64], thumbs: NDArray[np.uint8]) -> Duplicates:
    """The groups of copies and near copies among all items.

    `hashes` are of exact pixels; `thumbs` as `pictures.summary` makes them. When more than
    `MAX_NEAR` (or a fiftieth) of the pictures are linked, they are a scene seen many times (one
    camera, one pose) and no copies: thumbnails cannot tell, and such links are given up.
    """
    first, exact = _exact_groups(hashes, thumbs)
    left, right = near_pairs(thumbs[first])
    near, alike = without_crowds(connected(len(first), left, right))
    return Duplicates(groups=first[near][exact], alike=int(alike[exact].sum()))


def without_crowds(groups: Groups) -> tuple[Groups, NDArray[np.bool_]]:
    """Groups of at most `MAX_NEAR` (or a fiftieth of all), and whose larger group was given up."""
    sizes = np.bincount(groups, minlength=len(groups))
    crowded = sizes[groups] > max(MAX_NEAR, len(groups) // 50)
    return np.where(crowded, np.arange(len(groups)), groups), crowded


def near_pairs(thumbs: NDArray[np.uint8]) -> tuple[Groups, Groups]:
    """Pairs of items whose thumbnails agree, among those that share a band of their hashes."""
    codes = perceptual_hashes(thumbs)
    brightness = thumbs[:, : THUMB * THUMB].mean(axis=1, dtype=np.float32)
    found = [_pairs_in_band(band, codes, brightness, thumbs) for band in range(BANDS)]
    return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])


def connected(count: int, left: Groups, right: Groups) -> Groups:
    """The lowest member of the connected component of each of `count` nodes."""
    parent = np.arange(count)
    while True:
        one, other = parent[left], parent[right]
        differ = one != other
        if not differ.any():
            return parent
        one, other = one[differ], other[differ]
        np.minimum.at(parent, np.maximum(one, other), np.minimum(one, other))
        while (parent[parent] != parent).any():
            parent = parent[parent]


def perceptual_hashes(thumbs: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """64 bits per thumbnail: the signs of its 64 lowest frequencies against their median."""
    cosines = _cosines()
    weights = np.uint64(1) << np.arange(64, dtype=np.uint64)
    codes = np.empty(len(thumbs), dtype=np.uint64)
    for start in range(0, len(thumbs), CHUNK):
        grey = thumbs[start : start + CHUNK, : THUMB * THUMB].astype(np.float32)
        waves = cosines @ grey.reshape(-1, THUMB, THUMB) @ cosines.T
        low = waves.reshape(len(grey), -1)[:, _LOWEST]
        bits = low > np.median(low, axis=1, keepdims=True)
        codes[start : start + CHUNK] = (bits * weights).sum(axis=1, dtype=np.uint64)
    return codes


def _exact_groups(
    hashes: NDArray[np.uint64], thumbs: NDArray[np.uint8]
) -> tuple[Groups, NDArray[np.int64]]:
    """(first item of each group, group number of each item), by hash and colours together."""
    keys = hashes.copy()
    for column in range(THUMB * THUMB, thumbs.shape[1]):
        keys = keys * _ODD + thumbs[:, column]  # modulo 2**64
    _, first, number = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)  # groups numbered by their first item, so that lowest is first
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    return first[order], position[number]


def _pairs_in_band(
    band: int,
    codes: NDArray[np.uint64],
    brightness: NDArray[np.float32],
    thumbs: NDArray[np.uint8],
) -> tuple[Groups, Groups]:
    """Compare each item with the next `WINDOW` of equal band in the order of brightness."""
    keys = (codes >> np.uint64(BAND_BITS * band)) & BAND_MASK
    order = np.lexsort((brightness, keys))
    keys, light = keys[order], brightness[order]
    at = np.arange(len(order) - 1)
    found = [np.empty((2, 0), dtype=np.int64)]
    for step in range(1, WINDOW + 1):
        at = at[at + step < len(order)]
        near = light[at + step] - light[at] <= MAX_DIFFERENCE  # a mean cannot differ by more
        at = at[near & (keys[at] == keys[at + step])]
        if not len(at):
            break
        left, right = order[at], order[at + step]
        close = np.bitwise_count(codes[left] ^ codes[right]) <= MAX_BITS
        left, right = left[close], right[close]
        same = agree(thumbs, left, right)
        found.append(np.stack([left[same], right[same]]))
    left, right = np.concatenate(found, axis=1)
    return left, right


def agree(thumbs: NDArray[np.uint8], left: Groups, right: Groups) -> NDArray[np.bool_]:
    """Whether the thumbnails of each pair differ by no more than saving an image again does."""
    results = [np.empty(0, dtype=np.bool_)]
    for start in range(0, len(left), CHUNK):
        one = thumbs[left[start : start + CHUNK]].astype(np.float32)
        gaps = np.abs(one - thumbs[right[start : start + CHUNK]])
        grey = gaps[:, : THUMB * THUMB].mean(axis=1)
        contrast = one[:, : THUMB * THUMB].std(axis=1)
        colour = gaps[:, THUMB * THUMB :].mean(axis=1)
        limit = np.minimum(MAX_DIFFERENCE, MAX_RELATIVE * contrast)
        results.append((grey <= limit) & (colour <= MAX_COLOUR_DIFFERENCE))
    return np.concatenate(results)


def _cosines() -> NDArray[np.float32]:
    """The first rows of the discrete cosine transform (type II) of `THUMB` points."""
    rows = np.arange(_SIDE)[:, None] * (2 * np.arange(THUMB) + 1)[None, :]
    cosines: NDArray[np.float32] = np.cos(rows * (np.pi / (2 * THUMB))).astype(np.float32)
    return cosines


_SIDE = 11  # frequencies a side, of which the 64 lowest after the mean are used
_LOWEST = np.argsort(np.add.outer(np.arange(_SIDE), np.arange(_SIDE)).ravel(), kind="stable")[1:65]
