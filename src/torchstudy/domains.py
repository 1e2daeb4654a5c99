"""What one hyperparameter may be: a range of floats or integers, a choice, or one value."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, ClassVar, Self, TypeAlias

from typing_extensions import override

from torchstudy.ranges import Bell, as_prior, bound_problems, prior_problem
from torchstudy.values import Value, is_integer, is_number, is_value, place_of, plain, value_at

When: TypeAlias = Mapping[str, Value] | None
Prior: TypeAlias = tuple[float, float] | None


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
    prior: Prior = None,
) -> Any:
    """A real hyperparameter in [low, high], searched on a linear or logarithmic scale.

    `when={"optimizer": "sgd"}` makes it exist only in configurations where that choice was made.
    `prior=(mean, spread)` says where the best is expected, as a normal distribution: the search
    looks there first and trusts it less as results come in. `mean` is a value in the range and
    `spread` the standard deviation; on a log scale a factor above 1: `(3e-3, 3)` is 1e-3 to 9e-3.
    """
    numbers = {"low": plain(low), "high": plain(high), "default": plain(default)}
    return FloatDomain(**numbers, log=log, when=_condition(when), prior=as_prior(prior))


def Int(
    low: int,
    high: int,
    *,
    log: bool = False,
    default: int | Missing = MISSING,
    when: When = None,
    prior: Prior = None,
) -> Any:
    """An integer hyperparameter in [low, high], both ends included; the rest as with `Float`."""
    numbers = {"low": plain(low), "high": plain(high), "default": plain(default)}
    return IntDomain(**numbers, log=log, when=_condition(when), prior=as_prior(prior))


def Choice(
    *values: Value, default: Value | Missing = MISSING, when: When = None, is_open: bool = False
) -> Any:
    """One of the given values: all text, all numbers or all booleans.

    Where it `is_open`, a study may put other values of the same kind in their place.
    """
    given: dict[str, Any] = {"values": tuple(map(plain, values)), "default": plain(default)}
    return ChoiceDomain(**given, when=_condition(when), is_open=is_open)


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

    def log_prior(self, value: Any) -> float:
        """The log density of the prior, less that at its mean; on the unit scale. 0 without one."""
        return 0.0

    def from_prior(self, place: float) -> Value:
        """The value below which a share `place` of the prior lies; `from_unit` without one."""
        return self.from_unit(place)

    def with_default(self) -> Self:
        """The domain with a default: its own, else the first choice, or the median of the range."""
        if self.default is not MISSING:
            return self
        place = 0.0 if isinstance(self, ChoiceDomain) else 0.5
        return replace(self, default=self.from_prior(place))

    def _condition(self) -> dict[str, object]:
        return {"when": dict(self.when)} if self.when else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeDomain(Domain):
    """What ranges of real numbers and of integers have in common: bounds, a scale and a prior."""

    low: float
    high: float
    log: bool = False
    prior: Prior = None

    _kind: ClassVar[tuple[str, Callable[[object], bool]]]
    _edge: ClassVar[float]  # how far the unit interval reaches beyond each bound

    @override
    def problems(self) -> list[str]:
        ends, (kind, is_kind) = (self.low, self.high), self._kind
        if wrong := [end for end in ends if not is_kind(end)]:
            return [f"has bound {end!r}, which is not {kind}" for end in wrong]
        if found := bound_problems(*ends, log=self.log):
            return found
        if self.default is not MISSING and (outside := self.problem(self.default)):
            found.append(f"has a default outside its range: {outside}")
        if problem := prior_problem(self.prior, *ends, log=self.log):
            found.append(problem)
        return found

    @override
    def problem(self, value: object) -> str | None:
        kind, is_kind = self._kind
        if not is_kind(value):
            return f"{value!r} is not {kind}"
        assert isinstance(value, int | float)
        is_inside = self.low <= value <= self.high
        return None if is_inside else f"{value!r} is not in [{self.low!r}, {self.high!r}]"

    @override
    def to_unit(self, value: float) -> float:
        return place_of(value, self.low - self._edge, self.high + self._edge, log=self.log)

    @override
    def from_unit(self, place: float) -> Value:
        low, high = self.low - self._edge, self.high + self._edge
        return self.nearest(value_at(place, low, high, log=self.log))

    @override
    def log_prior(self, value: float) -> float:
        return self._bell.log_density(self.to_unit(value)) if self.prior else 0.0

    @override
    def from_prior(self, place: float) -> Value:
        return self.from_unit(self._bell.place(place) if self.prior else place)

    @property
    @override
    def extremes(self) -> tuple[Value, ...]:
        return (self.nearest(self.low), self.nearest(self.high))

    @override
    def describe(self) -> dict[str, object]:
        low, high = self.extremes
        return {
            "type": kind_of(self),
            "low": low,
            "high": high,
            "scale": "log" if self.log else "linear",
            "default": self.nearest(self.default),
            **({"prior": [float(value) for value in self.prior]} if self.prior else {}),
            **self._condition(),
        }

    @property
    def _bell(self) -> Bell:
        assert self.prior is not None
        mean, spread = self.prior
        centre = self.to_unit(mean)
        return Bell(centre, self.to_unit(mean * spread if self.log else mean + spread) - centre)


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatDomain(RangeDomain):
    """Real numbers in [low, high]."""

    _kind: ClassVar[tuple[str, Callable[[object], bool]]] = ("a number", is_number)
    _edge: ClassVar[float] = 0.0

    @override
    def nearest(self, value: float) -> float:
        return float(min(max(value, self.low), self.high))

    @property
    @override
    def size(self) -> float:
        return 1 if self.low == self.high else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class IntDomain(RangeDomain):
    """Integers from low to high, both included."""

    low: int
    high: int

    _kind: ClassVar[tuple[str, Callable[[object], bool]]] = ("an integer", is_integer)
    _edge: ClassVar[float] = 0.5

    @override
    def nearest(self, value: float) -> int:
        return min(max(round(value), self.low), self.high)

    @property
    @override
    def size(self) -> float:
        return self.high - self.low + 1


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
    assert isinstance(domain, RangeDomain)
    return f"{'Int' if isinstance(domain, IntDomain) else 'Float'}({domain.low!r}, {domain.high!r})"


def _condition(when: When) -> tuple[tuple[str, Value], ...]:
    return tuple((when or {}).items())


def _of_one_kind(values: tuple[Value, ...]) -> bool:
    kinds = (bool, str)
    is_plain = any(all(isinstance(value, kind) for value in values) for kind in kinds)
    return is_plain or all(is_number(value) for value in values)


def _shown(values: tuple[Value, ...]) -> str:
    return ", ".join(repr(value) for value in values)
