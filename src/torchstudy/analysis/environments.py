"""Which environments results come from, and what differs between two of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import pandas as pd

    from torchstudy.analysis.tables import Results

Facts: TypeAlias = Mapping[str, str]
"""What an environment consists of: `torch` -> `2.15.0`, `code of Tiny` -> a digest ..."""

KEY = "environments"  # in a study's summary: facts by id, the last to be used last
CODE = "code of "  # begins the name of a fact that is a digest of source text
JOINED = "+"  # between the ids of the environments that worked on one training


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What came out of one environment: its facts, and trial numbers by family."""

    id: str
    facts: Facts
    trials: Mapping[str, Sequence[int]]


def recorded(summary: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The environments that a study's summary knows, by id, the last to be used last."""
    found = summary.get(KEY)
    return {str(key): dict(facts) for key, facts in found.items()} if found else {}


def changes(before: Facts, after: Facts) -> tuple[str, ...]:
    """What differs: `torch 2.14.0 -> 2.15.0`, `the code of Tiny`; empty where nothing does."""
    names = [*before, *(name for name in after if name not in before)]
    return tuple(
        f"the {name}" if name.startswith(CODE) else f"{name} {_shown(before, after, name)}"
        for name in names
        if before.get(name, "") != after.get(name, "")
    )


def ids_of(environment: object) -> list[str]:
    """The ids in a cell of the column `environment`; none where it is missing or empty."""
    if not isinstance(environment, str):  # NA where a version before had no such column
        return []
    return [part for part in environment.split(JOINED) if part]


def origins(results: "Results") -> list[Origin]:
    """The environments that trained something, in the order of their first trial.

    A training that went on in another environment counts for both. What an earlier version
    trained has none recorded and is left out.
    """
    numbers: dict[str, dict[str, dict[int, None]]] = {}
    for table in (results.trials, results.confirmation):
        for family, number, environment in _trained(table):
            for part in ids_of(environment):
                numbers.setdefault(part, {}).setdefault(family, {})[number] = None
    known = recorded(results.summary)
    return [
        Origin(id=id, facts=known.get(id, {}), trials={name: list(n) for name, n in own.items()})
        for id, own in numbers.items()
    ]


def spans(numbers: Sequence[int]) -> str:
    """`0 to 7, 9, 12 to 30` for trial numbers in any order."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(f"{low} to {high}" if low < high else str(low) for low, high in found)


def _trained(table: "pd.DataFrame") -> Iterator[tuple[str, int, object]]:
    columns = (table[name].tolist() for name in ("family", "trial", "environment"))
    for family, number, environment in zip(*columns, strict=True):
        yield str(family), int(number), environment


def _shown(before: Facts, after: Facts, name: str) -> str:
    return f"{before.get(name) or 'none'} -> {after.get(name) or 'none'}"
