"""How values of any unit and any skew become ones that a Gaussian process can model, and back."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from torchstudy.search.cube import Array

WORST = 5.0  # interquartile ranges below the median at which what is worse counts as no worse
POWERS = (-2.0, 6.0)  # accuracies close to their ceiling need more than 2
FEWEST = 6  # values for a power of their own


@dataclass(frozen=True, slots=True, kw_only=True)
class Warp:
    """Clipping from below, the Yeo-Johnson transform, and standardisation.

    Yeo and Johnson, "A new family of power transformations to improve normality or symmetry",
    Biometrika 87 (2000). Larger values are better and stay so.
    """

    floor: float
    centre: float
    width: float
    power: float
    mean: float
    spread: float

    @classmethod
    def of(cls, values: Array) -> "Warp":
        """Fitted to at least one value by maximum likelihood."""
        bottom, low, centre, high, top = np.quantile(values, [0.1, 0.25, 0.5, 0.75, 0.9])
        width = max(high - low, (top - bottom) / 4) or np.ptp(values) or 1.0
        floor = float(centre - WORST * width)
        scaled = (np.maximum(values, floor) - centre) / width
        power = _power(scaled) if len(values) >= FEWEST and np.ptp(values) > 0 else 1.0
        warped = _yeo_johnson(scaled, power)
        return cls(
            floor=floor,
            centre=float(centre),
            width=float(width),
            power=power,
            mean=float(warped.mean()),
            spread=float(warped.std()) or 1.0,
        )

    def warped(self, values: Array) -> Array:
        """The values as the process sees them."""
        scaled = (np.maximum(values, self.floor) - self.centre) / self.width
        return (_yeo_johnson(scaled, self.power) - self.mean) / self.spread

    def unwarped(self, warped: Array) -> Array:
        """The values that look so; infinite where the transform ends."""
        scaled = _inverse(warped * self.spread + self.mean, self.power)
        return scaled * self.width + self.centre

    def middle(self, mean: float, spread: float) -> tuple[float, float]:
        """The median of the values behind a normal distribution of warped ones, and their spread.

        The spread is half the width of the middle 68%: that of a normal distribution is its
        standard deviation. Means and deviations of values so skewed say little about them. NaN
        where the transform ends before the median.
        """
        low, centre, high = self.unwarped(mean + spread * np.array([-1.0, 0.0, 1.0])).tolist()
        if not math.isfinite(centre):
            return math.nan, math.nan
        ends = [abs(end - centre) for end in (low, high) if math.isfinite(end)]
        return centre, sum(ends) / len(ends) if ends else math.nan


def _power(scaled: Array) -> float:
    """The most likely power: of the normal density of the transformed values."""
    slopes = np.sign(scaled) * np.log1p(np.abs(scaled))

    def loss(power: float) -> float:
        spread = _yeo_johnson(scaled, power).std()
        return float(len(scaled) * np.log(spread + 1e-12) - (power - 1) * slopes.sum())

    return float(minimize_scalar(loss, bounds=POWERS, method="bounded").x)


def _yeo_johnson(values: Array, power: float) -> Array:
    above, below = np.maximum(values, 0.0), np.maximum(-values, 0.0)
    return _box_cox(above, power) - _box_cox(below, 2.0 - power)


def _box_cox(values: Array, power: float) -> Array:
    """((1 + v)^p - 1) / p of values from 0 on."""
    logarithms = np.log1p(values)
    return np.expm1(power * logarithms) / power if abs(power) > 1e-9 else logarithms


def _inverse(values: Array, power: float) -> Array:
    above, below = np.maximum(values, 0.0), np.maximum(-values, 0.0)
    return _inverse_box_cox(above, power) - _inverse_box_cox(below, 2.0 - power)


def _inverse_box_cox(values: Array, power: float) -> Array:
    if abs(power) <= 1e-9:
        return np.expm1(values)
    inside = 1.0 + power * values
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(inside > 0, np.expm1(np.log(np.maximum(inside, 0.0)) / power), np.inf)
