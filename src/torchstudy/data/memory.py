"""How large a decoded array of images may be: half of the machine's memory, or what is set."""

import math
import os
import re

from torchstudy.errors import DataError

VARIABLE = "TORCHSTUDY_MEMORY"
POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)


def are_too_large(num_images: int, shape: tuple[int, int, int]) -> bool:
    """Whether images of `shape`, a byte per value, are to be read again instead of kept.

    Not where a single image would be too much already: then no way of reading helps.
    """
    size = math.prod(shape)
    return num_images * size > memory_limit() and size <= _half_of_machine()


def memory_limit() -> int:
    """Bytes: `$TORCHSTUDY_MEMORY`, else half of the machine's memory. DataError if malformed."""
    given = os.environ.get(VARIABLE, "").strip()
    if not given:
        return _half_of_machine()
    found = AMOUNT.fullmatch(given)
    if found is None:
        raise DataError(
            f"data: {VARIABLE} is {given!r}, which is no amount of memory; give a number of bytes, "
            "or one with a unit as in 8GB or 512MiB"
        )
    number, unit, is_binary = found.groups()
    base = 1024 if is_binary else 1000
    return int(float(number) * base ** POWERS[unit.lower()])


def _half_of_machine() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
