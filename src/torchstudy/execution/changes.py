"""What differs between the declaration that results belong to and the one given now."""

import json
from collections.abc import Mapping
from typing import Any


def difference(study: str, stored: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """The message that refuses a changed study: every difference, then what can be done."""
    old, new = _flat(stored), _flat(given)
    lines = [
        f"  - {name}: was {old.get(name, 'absent')}, now {new.get(name, 'absent')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    return (
        f"study {study!r} differs from the one its stored results belong to:\n"
        + "\n".join(lines)
        + "\nUndo the change, give the study another name, or start over with --fresh "
        "(which deletes those results)."
    )


def _flat(value: Any, path: str = "") -> dict[str, str]:
    if isinstance(value, Mapping) and value:
        return {
            name: text
            for key, inner in value.items()
            for name, text in _flat(inner, f"{path}.{key}" if path else str(key)).items()
        }
    return {path: json.dumps(value)}
