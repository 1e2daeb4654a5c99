"""How numbers are written for people: scores, differences, durations, hyperparameters."""

import math
from dataclasses import dataclass

from torchstudy.records import COSTS, Direction, Objective
from torchstudy.visible import visible

ABSENT = "\u2013"  # en dash
MINUS = "\u2212"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How the numbers of one metric are read: its name in words, its unit, what is worth seeing."""

    words: str
    unit: str = ""
    decimals: int | None = None  # None: four significant digits
    is_share: bool = False  # 1 is perfect, so what is missing from 1 is its error


KINDS = {
    "accuracy": Kind(words="accuracy", is_share=True),
    "mse": Kind(words="mean squared error"),
    "mae": Kind(words="mean absolute error"),
    "r2": Kind(words="R\u00b2", decimals=3, is_share=True),
    "psnr": Kind(words="PSNR", unit="dB", decimals=2),
    "psnr_gain": Kind(words="gain in PSNR", unit="dB", decimals=2),
    "noisy_psnr": Kind(words="PSNR of the noisy images", unit="dB", decimals=2),
    "median_psnr": Kind(words="PSNR of a median filter", unit="dB", decimals=2),
    "ssim": Kind(words="SSIM", decimals=3, is_share=True),
    "noisy_ssim": Kind(words="SSIM of the noisy images", decimals=3, is_share=True),
    "pca_error": Kind(words="reconstruction error of PCA"),
    "pca_ratio": Kind(words="error as a multiple of PCA's"),
    "frechet_distance": Kind(words="Fr\u00e9chet distance"),
    "coverage": Kind(words="share of real images covered", decimals=3),
    "real_score": Kind(words="discriminator's score of real images", decimals=3),
    "fake_score": Kind(words="discriminator's score of generated images", decimals=3),
    "parameters": Kind(words="parameters", decimals=0),
    "flops": Kind(words="operations for one item", unit="FLOPs"),
    "memory": Kind(words="memory for one item", unit="bytes", decimals=0),
    "latency_p50": Kind(words="median latency", unit="ms"),
    "latency_p95": Kind(words="latency, 95th percentile", unit="ms"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """How one metric is written: accuracy as a percentage, others with their unit if they have one.

    `direction` is that of an objective; without one nothing is said about better and worse.
    """

    name: str
    direction: Direction | None = None

    @property
    def is_accuracy(self) -> bool:
        """Whether the metric is a share of correct answers."""
        return self.name == "accuracy"

    @property
    def is_share(self) -> bool:
        """Whether 1 is perfect, so that `1 - value` is an error."""
        return self._kind.is_share

    @property
    def is_cost(self) -> bool:
        """Whether it is of the network alone, whatever it has learned."""
        return self.name in COSTS

    @property
    def words(self) -> str:
        """The metric's name as it is read."""
        return self._kind.words

    @property
    def unit(self) -> str:
        """`dB`, `ms` or nothing."""
        return self._kind.unit

    @property
    def better(self) -> str:
        """`lower is better`; nothing where it goes without saying."""
        if self.direction is None or self.is_accuracy:
            return ""
        return f"{'higher' if self.direction == 'maximize' else 'lower'} is better"

    def on(self, split: str) -> str:
        """`test accuracy`; a cost is the same on every split."""
        return self.words if self.is_cost else f"{split} {self.words}"

    def title(self, split: str) -> str:
        """What an axis or a column says: `Test PSNR (dB)`, with the split's words before it."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{capital(self.on(split))}{unit}"

    def axis(self, split: str) -> str:
        """As `title`, with the direction: `Test PSNR (dB, higher is better)`."""
        said = ", ".join(part for part in (self.unit, self.better) if part)
        return capital(self.on(split)) + (f" ({said})" if said else "")

    def score(self, value: float, decimals: int = 1) -> str:
        """`98.9%`, `24.31 dB`, or four significant digits."""
        if math.isnan(value):
            return ABSENT
        if self.is_accuracy:
            return f"{100 * value:.{decimals}f}%"
        return self._with_unit(self._number(value))

    def measured(self, split: str, value: float) -> str:
        """`valid accuracy 0.9333` or `test PSNR 24.31 dB`: for lines below one another."""
        return f"{self.on(split)} {self.precise(value)}"

    def precise(self, value: float) -> str:
        """A share with four decimals, anything else as in sentences."""
        is_known = math.isfinite(value)
        return (
            f"{value:.4f}".replace("-", MINUS) if self.is_share and is_known else self.score(value)
        )

    def difference(self, value: float) -> str:
        """`1.2 points` of accuracy, or a number; a minus sign where it is negative."""
        if math.isnan(value):
            return ABSENT
        number = self.bound(value + 0.0)  # -0.0 becomes 0.0
        if self.name == "parameters":
            return f"{number} {'parameter' if number == '1' else 'parameters'}"
        if not self.is_accuracy:
            return self._with_unit(number)
        return f"{number} {'point' if number in ('1.0', '1.00') else 'points'}"

    def bound(self, value: float) -> str:
        """As `difference`, without the unit."""
        if not self.is_accuracy:
            return self._number(value)
        points = 100 * value
        text = f"{points:.1f}" if abs(points) >= 10 else f"{points:.2f}"
        return text.replace("-", MINUS)

    def span(self, low: float, high: float) -> str:
        """`97.2% to 99.1%`, `24.1 to 24.6 dB`, or why there is none."""
        if math.isnan(low) or math.isnan(high):
            return "no interval"
        if self.is_accuracy:
            return f"{self.score(low)} to {self.score(high)}"
        return f"{self._number(low)} to {self.score(high)}"

    @property
    def _kind(self) -> Kind:
        return KINDS.get(self.name) or Kind(words=called(self.name.replace("_", " ")))

    def _number(self, value: float) -> str:
        decimals = self._kind.decimals
        text = quantity(value) if decimals is None else f"{value:,.{decimals}f}"
        if decimals is not None and 0 < abs(value) < 10**-decimals:
            text = f"{value:.1g}"  # rather than 0.00
        return signed(text)

    def _with_unit(self, number: str) -> str:
        return f"{number} {self.unit}" if self.unit else number


def metric_of(objective: Objective) -> Metric:
    """How the objective is written."""
    return Metric(name=objective.metric, direction=objective.direction)


def signed(number: str) -> str:
    """The number with a minus sign for its hyphen; an exponent keeps its own: `1e-07`."""
    return number.replace("-", MINUS, 1) if number.startswith("-") else number


def capital(text: str) -> str:
    """The text with its first letter large."""
    return text[:1].upper() + text[1:]


def quantity(value: float) -> str:
    """A number with four significant digits, or whole with its thousands marked."""
    if math.isnan(value):
        return ABSENT
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e8 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """`0 s`, `12 ms`, `0.4 s`, `12 s`, `3.4 min` or `2.1 h`."""
    if math.isnan(seconds):
        return ABSENT
    if 0 < seconds < 0.05:
        return f"{max(1, round(1000 * seconds))} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds else "0 s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3570 else f"{seconds / 3600:.1f} h"


def percent(share: float) -> str:
    """`34%`, `<1%`, or a dash for nothing at all."""
    if math.isnan(share) or share == 0:
        return ABSENT
    return "<1%" if share < 0.01 else f"{share:.0%}"


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
    """The text, cut to `length` characters with an ellipsis; line breaks become spaces.

    Hidden characters become escapes.
    """
    flat = visible(" ".join(text.split()))
    return flat if len(flat) <= length else f"{flat[: length - 1]}…"


def called(name: object) -> str:
    """A name as it appears in a sentence: whole, unless it is absurdly long."""
    return shortened(str(name), 60)
