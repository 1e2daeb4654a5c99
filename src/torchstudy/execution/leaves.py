"""Which rows the pages of a SQLite table hold, as far as its tree can be followed.

The file format: https://www.sqlite.org/fileformat2.html, section 1.6 (B-tree pages).
"""

from pathlib import Path

PAGE = 4096  # bytes, as this library's ledgers are made
BRANCH, LEAF = 5, 13  # kinds of pages of a table
BRANCH_HEADER, LEAF_HEADER = 12, 8  # bytes


def row_numbers(path: Path, root: int) -> list[int]:
    """The numbers of the rows below page `root`, in order; what is damaged is passed over."""
    found: set[int] = set()
    seen: set[int] = set()
    left = [root]
    with open(path, "rb") as file:
        while left:
            number = left.pop()
            if number in seen or number < 1:
                continue
            seen.add(number)
            file.seek((number - 1) * PAGE)
            page = file.read(PAGE)
            if page[:1] == bytes([BRANCH]):
                left += [int.from_bytes(page[at : at + 4], "big") for at in _cells(page)]
                left.append(int.from_bytes(page[8:BRANCH_HEADER], "big"))
            elif page[:1] == bytes([LEAF]):
                found.update(_row_number(page, at) for at in _cells(page))
    return sorted(found)


def _cells(page: bytes) -> list[int]:
    """Where the cells of a page begin."""
    header = BRANCH_HEADER if page[0] == BRANCH else LEAF_HEADER
    end = min(header + 2 * int.from_bytes(page[3:5], "big"), PAGE)
    return [int.from_bytes(page[at : at + 2], "big") for at in range(header, end, 2)]


def _row_number(page: bytes, at: int) -> int:
    """The second of the two variable-length numbers that a cell begins with."""
    _, at = _number(page, at)
    return _number(page, at)[0]


def _number(page: bytes, at: int) -> tuple[int, int]:
    """A variable-length number, and where it ends; 63 bits at most, however damaged."""
    value = 0
    for length, byte in enumerate(page[at : at + 9], start=1):
        value = value << 7 | byte & 0x7F
        if byte < 0x80 or length == 9:
            return value & (2**63 - 1), at + length
    return value, PAGE
