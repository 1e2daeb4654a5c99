"""What one hyperparameter may be: a range of floats or integers, a choice, or one value."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Self, TypeAlias

from typing_extensions import override

from torchstudy.values import Value, is_integer, is_number, is_value, place_of, value_at

When: TypeAlias = Mapping[str, Value] | None


class Missing(Enum):
    """Stands for a default that was not given."""

    MISSING = "missing"


MISSING = Missing.MISSING


def Float(
    low: float,
    high: float,
    *,
    log: bool = False,
    default: float | Missing = MISSING,
    when: When = None,
) -> Any:
    """A real hyperparameter in [low, high], searched on a linear or logarithmic scale.

    `when={"optimizer": "sgd"}` makes it exist only in configurations where that choice was made.
    """
    return FloatDomain(low=low, high=high, log=log, default=default, when=_condition(when))


def Int(
    low: int, high: int, *, log: bool = False, default: int | Missing = MISSING, when: When = None
) -> Any:
    """An integer hyperparameter in [low, high], both ends included."""
    return IntDomain(low=low, high=high, log=log, default=default, when=_condition(when))


def Choice(
    *values: Value, default: Value | Missing = MISSING, when: When = None, is_open: bool = False
) -> Any:
    """One of the given values: all text, all numbers or all booleans.

    Where it `is_open`, a study may put other values of the same kind in their place.
    """
    return ChoiceDomain(values=values, default=default, when=_condition(when), is_open=is_open)


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain(ABC):
    """The values that one hyperparameter may take, and when it exists.

    A domain does not know the hyperparameter's name, so it never raises: `problems` says what is
    wrong with the declaration and `problem` what is wrong with a value; who knows the name raises.
    """

    default: Any = MISSING
    when: tuple[tuple[str, Value], ...] = ()

    @abstractmethod
    def problems(self) -> list[str]:
        """What is wrong with this declaration, one phrase each."""

    @abstractmethod
    def problem(self, value: object) -> str | None:
        """Why `value` is not allowed, or None."""

    @abstractmethod
    def to_unit(self, value: Any) -> float:
        """The place of a value in [0, 1], on the domain's own scale."""

    @abstractmethod
    def from_unit(self, place: float) -> Value:
        """The value at a place in [0, 1]; integers and choices own intervals of equal length."""

    @abstractmethod
    def nearest(self, value: Any) -> Value:
        """The allowed value closest to `value`."""

    @property
    @abstractmethod
    def size(self) -> float:
        """How many different values there are (`inf` for a real range)."""

    @property
    @abstractmethod
    def extremes(self) -> tuple[Value, ...]:
        """The values at which a network is most likely not to fit: both bounds, or every choice."""

    @abstractmethod
    def describe(self) -> dict[str, object]:
        """The declaration as JSON values, for tables and for noticing a change."""

    def with_default(self) -> Self:
        """The domain with a default: its own, else the middle of a range or the first choice."""
        if self.default is not MISSING:
            return self
        return replace(self, default=self.from_unit(0.0 if isinstance(self, ChoiceDomain) else 0.5))

    def _condition(self) -> dict[str, object]:
        return {"when": dict(self.when)} if self.when else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatDomain(Domain):
    """Real numbers in [low, high]."""

    low: float
    high: float
    log: bool = False

    @override
    def problems(self) -> list[str]:
        return _range_problems(self, is_number, "a number")

    @override
    def problem(self, value: object) -> str | None:
        return _outside(value, self.low, self.high, is_number, "a number")

    @override
    def to_unit(self, value: float) -> float:
        return place_of(value, self.low, self.high, log=self.log)

    @override
    def from_unit(self, place: float) -> float:
        return self.nearest(value_at(place, self.low, self.high, log=self.log))

    @override
    def nearest(self, value: float) -> float:
        return float(min(max(value, self.low), self.high))

    @property
    @override
    def size(self) -> float:
        return 1 if self.low == self.high else math.inf

    @property
    @override
    def extremes(self) -> tuple[Value, ...]:
        return (float(self.low), float(self.high))

    @override
    def describe(self) -> dict[str, object]:
        scale = "log" if self.log else "linear"
        bounds = {"low": float(self.low), "high": float(self.high), "scale": scale}
        return {"type": "float", **bounds, "default": float(self.default), **self._condition()}


@dataclass(frozen=True, slots=True, kw_only=True)
class IntDomain(Domain):
    """Integers from low to high, both included."""

    low: int
    high: int
    log: bool = False

    @override
    def problems(self) -> list[str]:
        return _range_problems(self, is_integer, "an integer")

    @override
    def problem(self, value: object) -> str | None:
        return _outside(value, self.low, self.high, is_integer, "an integer")

    @override
    def to_unit(self, value: int) -> float:
        return place_of(value, self.low - 0.5, self.high + 0.5, log=self.log)

    @override
    def from_unit(self, place: float) -> int:
        return self.nearest(value_at(place, self.low - 0.5, self.high + 0.5, log=self.log))

    @override
    def nearest(self, value: float) -> int:
        return min(max(round(value), self.low), self.high)

    @property
    @override
    def size(self) -> float:
        return self.high - self.low + 1

    @property
    @override
    def extremes(self) -> tuple[Value, ...]:
        return (self.low, self.high)

    @override
    def describe(self) -> dict[str, object]:
        scale = "log" if self.log else "linear"
        bounds = {"low": self.low, "high": self.high, "scale": scale}
        return {"type": "int", **bounds, "default": self.default, **self._condition()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceDomain(Domain):
    """One of a few values; where it `is_open`, a study may put others of the same kind there."""

    values: tuple[Value, ...] = field(default=())
    is_open: bool = False

    @classmethod
    def fixed(cls, value: Value, when: tuple[tuple[str, Value], ...] = ()) -> "ChoiceDomain":
        """The domain of a hyperparameter that does not vary."""
        return cls(values=(value,), default=value, when=when)

    @override
    def problems(self) -> list[str]:
        if not self.values:
            return ["has no values to choose from"]
        if strange := [value for value in self.values if not is_value(value)]:
            return [f"has value {strange[0]!r}, which is not a number, a text or a boolean"]
        found = []
        if not _of_one_kind(self.values):
            found.append(f"mixes kinds of values: {_shown(self.values)}")
        if len(set(self.values)) < len(self.values):
            found.append(f"lists a value twice: {_shown(self.values)}")
        if self.default is not MISSING and self.problem(self.default):
            found.append(f"has default {self.default!r}, which is not among {_shown(self.values)}")
        return found

    @override
    def problem(self, value: object) -> str | None:
        is_like = is_number(value) and kind_of(self) == "float"  # 1 is as good as 1.0 there
        if any(value == known and (is_like or type(value) is type(known)) for known in self.values):
            return None
        return f"{value!r} is not one of {_shown(self.values)}"

    @override
    def to_unit(self, value: Value) -> float:
        return (self.values.index(value) + 0.5) / len(self.values)

    @override
    def from_unit(self, place: float) -> Value:
        return self.values[min(int(place * len(self.values)), len(self.values) - 1)]

    @override
    def nearest(self, value: Value) -> Value:
        if value in self.values:
            return value
        if is_number(value) and all(is_number(known) for known in self.values):
            return min(self.values, key=lambda known: abs(float(known) - value))
        return self.values[0]

    @property
    @override
    def size(self) -> float:
        return len(self.values)

    @property
    @override
    def extremes(self) -> tuple[Value, ...]:
        return self.values

    @override
    def describe(self) -> dict[str, object]:
        values = {"values": list(self.values), "default": self.default}
        return {"type": "choice", **values, **self._condition()}


def kind_of(domain: Domain) -> str:
    """`"float"`, `"int"`, `"str"` or `"bool"`: the type of a domain's values."""
    if isinstance(domain, FloatDomain):
        return "float"
    if isinstance(domain, IntDomain):
        return "int"
    assert isinstance(domain, ChoiceDomain)
    for kind, name in ((bool, "bool"), (str, "str")):
        if all(isinstance(value, kind) for value in domain.values):
            return name
    return "int" if all(is_integer(value) for value in domain.values) else "float"


def spelled(domain: Domain) -> str:
    """The domain as its user wrote it, for messages."""
    if isinstance(domain, ChoiceDomain):
        return _shown(domain.values)
    assert isinstance(domain, FloatDomain | IntDomain)
    return f"{'Int' if isinstance(domain, IntDomain) else 'Float'}({domain.low!r}, {domain.high!r})"


def _condition(when: When) -> tuple[tuple[str, Value], ...]:
    return tuple((when or {}).items())


def _of_one_kind(values: tuple[Value, ...]) -> bool:
    kinds = (bool, str)
    is_plain = any(all(isinstance(value, kind) for value in values) for kind in kinds)
    return is_plain or all(is_number(value) for value in values)


def _range_problems(domain: FloatDomain | IntDomain, is_kind: Any, kind: str) -> list[str]:
    low, high = domain.low, domain.high
    wrong = [f"has bound {end!r}, which is not {kind}" for end in (low, high) if not is_kind(end)]
    if wrong:
        return wrong
    found = []
    if low > high:
        found.append(f"has an inverted range: low {low!r} is above high {high!r}")
    if low == high:
        found.append(f"has an empty range: low and high are both {low!r}; write the value itself")
    if domain.log and low <= 0:
        found.append(f"has a log scale from {low!r}: a log range must start above 0")
    outside = domain.default is not MISSING and not found and domain.problem(domain.default)
    return [*found, f"has a default outside its range: {outside}"] if outside else found


def _outside(value: object, low: float, high: float, is_kind: Any, kind: str) -> str | None:
    if not is_kind(value):
        return f"{value!r} is not {kind}"
    assert isinstance(value, int | float)
    return None if low <= value <= high else f"{value!r} is not in [{low!r}, {high!r}]"


def _shown(values: tuple[Value, ...]) -> str:
    return ", ".join(repr(value) for value in values)
