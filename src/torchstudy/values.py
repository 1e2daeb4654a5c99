"""What a hyperparameter's value may be, and where it lies on a scale."""

import math
from typing import Any, TypeAlias, TypeGuard

Value: TypeAlias = int | float | str | bool

DIGITS = 12  # significant ones of a proposed number: 0.003 on a log scale and back is 0.003 again
FINE = 1e-9  # of a range: what rounding may move a number by


def plain(value: Any) -> Any:
    """A NumPy scalar as the Python value that it stands for; all else as it is."""
    is_numpys = type(value).__module__ == "numpy" and getattr(value, "shape", None) == ()
    return value.item() if is_numpys else value


def is_number(value: object) -> TypeGuard[int | float]:
    """True for finite ints and floats; a bool is not a number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_integer(value: object) -> TypeGuard[int]:
    """True for ints; a bool is not an integer."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_value(value: object) -> TypeGuard[Value]:
    """True for what a configuration may hold: int, finite float, str, bool."""
    return isinstance(value, str | bool) or is_number(value)


def place_of(value: float, low: float, high: float, *, log: bool) -> float:
    """Where `value` lies between low (0) and high (1), on a linear or logarithmic scale."""
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low)


def value_at(place: float, low: float, high: float, *, log: bool) -> float:
    """The value at `place`; the inverse of `place_of`, but for what lies beyond `DIGITS`.

    A range that is narrow for its size, as that of integers from 10**15 on, keeps all its digits.
    """
    if log:
        value = math.exp(math.log(low) + place * (math.log(high) - math.log(low)))
    else:
        value = low + place * (high - low)
    rounded = float(f"{value:.{DIGITS}g}")
    return rounded if abs(rounded - value) <= FINE * (high - low) else value
