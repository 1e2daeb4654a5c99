"""How numbers are written for people: scores, differences, durations, hyperparameters."""

import math
from dataclasses import dataclass

from torchstudy.records import Objective

ABSENT = "\u2013"  # en dash
MINUS = "\u2212"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """How one metric is written: accuracy as a percentage, anything else as a plain number."""

    name: str

    @property
    def is_accuracy(self) -> bool:
        """Whether the metric is a share of correct answers."""
        return self.name == "accuracy"

    @property
    def words(self) -> str:
        """The metric's name without underscores."""
        return self.name.replace("_", " ")

    def score(self, value: float, decimals: int = 1) -> str:
        """`98.9%`, or four significant digits."""
        if math.isnan(value):
            return ABSENT
        return f"{100 * value:.{decimals}f}%" if self.is_accuracy else quantity(value)

    def difference(self, value: float) -> str:
        """`1.2 points` of accuracy, or a plain number; a minus sign where it is negative."""
        if math.isnan(value):
            return ABSENT
        number = self.bound(value)
        if not self.is_accuracy:
            return number
        return f"{number} {'point' if number in ('1.0', '1.00') else 'points'}"

    def bound(self, value: float) -> str:
        """As `difference`, without the unit."""
        if not self.is_accuracy:
            return quantity(value).replace("-", MINUS)
        points = 100 * value
        text = f"{points:.1f}" if abs(points) >= 10 else f"{points:.2f}"
        return text.replace("-", MINUS)

    def span(self, low: float, high: float) -> str:
        """`97.2% to 99.1%`, or why there is none."""
        if math.isnan(low) or math.isnan(high):
            return "no interval from one seed"
        return f"{self.score(low)} to {self.score(high)}"


def metric_of(objective: Objective) -> Metric:
    """How the objective is written."""
    return Metric(name=objective.metric)


def quantity(value: float) -> str:
    """A number with four significant digits."""
    return ABSENT if math.isnan(value) else f"{value:.4g}"


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3.4 min` or `2.1 h`."""
    if math.isnan(seconds):
        return ABSENT
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3570 else f"{seconds / 3600:.1f} h"


def p_value(p: float) -> str:
    """`p = 0.031` or `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def setting(value: object) -> str:
    """The value of a hyperparameter."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return quantity(value) if isinstance(value, float) else str(value)


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 trial`, `2 trials`, `1,234 trials`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def joined(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def shortened(text: str, length: int) -> str:
    """The text, cut to `length` characters with an ellipsis; line breaks become spaces."""
    flat = " ".join(text.split())
    return flat if len(flat) <= length else f"{flat[: length - 1]}…"


def called(name: object) -> str:
    """A name as it appears in a sentence: whole, unless it is absurdly long."""
    return shortened(str(name), 60)
