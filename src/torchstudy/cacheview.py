"""What `optimize cache` prints: what is kept, of what, how large, and when it was last used."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from torchstudy.caching import Entry, entries
from torchstudy.eviction import cache_limit, clear
from torchstudy.files import cache_folder
from torchstudy.printing import print_table
from torchstudy.visible import visible

HEADER = ["kind", "of", "items", "size", "last used", "in use"]


def show_cache(*, as_json: bool) -> None:
    """Print a table of what is in the cache, or the same as JSON."""
    limit, found = cache_limit(), entries()
    total = sum(entry.num_bytes for entry in found)
    if as_json:
        stated = {"folder": str(cache_folder()), "bytes": total, "limit": limit}
        print(json.dumps({**stated, "entries": _stated(found)}, indent=2))
        return
    if found:
        print_table("", HEADER, [_line(entry) for entry in found])
    print(f"{as_size(total)} of at most {as_size(limit)} in {cache_folder()}")


def clear_cache(*, as_json: bool) -> None:
    """Remove what nobody uses, and print what that freed and what stayed."""
    cleared = clear()
    if as_json:
        stated = {"removed": _stated(cleared.removed), "kept": _stated(cleared.kept)}
        print(json.dumps({"freed": cleared.freed, **stated}, indent=2))
        return
    number = len(cleared.removed)
    print(f"removed {number} {'entry' if number == 1 else 'entries'}: {as_size(cleared.freed)}")
    for entry in cleared.kept:
        why = "in use" if entry.is_used else "it could not be removed"
        size = as_size(entry.num_bytes)
        print(visible(f"kept {entry.kind} of {entry.about} ({size}): {why}"))


def as_size(num_bytes: int) -> str:
    """Bytes in the unit that leaves the fewest digits: `512 B`, `1.5 MB`, `20.0 GB`."""
    size, unit = float(num_bytes), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if size < 999.5:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"


def _line(entry: Entry) -> list[str]:
    used = datetime.fromtimestamp(entry.last_used).strftime("%Y-%m-%d %H:%M")
    items = "" if entry.num_items is None else f"{entry.num_items:,}"
    size = as_size(entry.num_bytes)
    return [entry.kind, entry.about, items, size, used, "yes" if entry.is_used else ""]


def _stated(found: Iterable[Entry]) -> list[dict[str, Any]]:
    return [
        {
            "kind": entry.kind,
            "of": entry.about,
            "items": entry.num_items,
            "bytes": entry.num_bytes,
            "last_used": datetime.fromtimestamp(entry.last_used, UTC).isoformat(),
            "in_use": entry.is_used,
            "path": str(entry.path),
        }
        for entry in found
    ]
