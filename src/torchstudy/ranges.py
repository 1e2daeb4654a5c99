"""What a range of numbers may be, and where in it a user expects the best: a bell."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from torchstudy.values import is_number

TINY = 1e-15  # a share of 0 or 1 lies infinitely far out
# Of the density at the centre: what users expect is never taken to be sure. With the tails of a
# normal distribution a function of three numbers, two of them with prior (0.1, 0.02) and the best
# at 0.9, was 0.53 from its best after 45 trials; so it is 0.0003 (4 seeds; 0.1 brings 0.0001, no
# prior 0.00001). With priors that are right both are about as far from it after 10 to 30 trials.
DOUBT = 0.01


@dataclass(frozen=True, slots=True)
class Bell:
    """A normal distribution on the unit scale, cut off at 0 and 1; `centre` lies between them."""

    centre: float
    spread: float

    def log_density(self, place: float) -> float:
        """The logarithm of the density at a place, as a difference from that at the centre.

        Nowhere is it below `DOUBT` of that at the centre.
        """
        distance = (place - self.centre) / self.spread
        return math.log((1 - DOUBT) * math.exp(-0.5 * distance**2) + DOUBT)

    def place(self, share: float) -> float:
        """The place below which `share` of the distribution lies, both in [0, 1]."""
        normal = NormalDist(self.centre, self.spread)
        low, high = normal.cdf(0.0), normal.cdf(1.0)
        within = min(max(low + share * (high - low), TINY), 1 - TINY)
        return min(max(normal.inv_cdf(within), 0.0), 1.0)


def as_prior(given: Any) -> Any:
    """A list made a tuple, so that a domain stays a value; all else as it is."""
    return tuple(given) if isinstance(given, list) else given


def bound_problems(low: float, high: float, *, log: bool) -> list[str]:
    """What is wrong with the bounds of a range, one phrase each."""
    found = []
    if low > high:
        found.append(f"has an inverted range: low {low!r} is above high {high!r}")
    if low == high:
        found.append(f"has an empty range: low and high are both {low!r}; write the value itself")
    if log and low <= 0:
        found.append(f"has a log scale from {low!r}: a log range must start above 0")
    return found


def prior_problem(given: object, low: float, high: float, *, log: bool) -> str | None:
    """What is wrong with the prior of a range [low, high], as one phrase; None if it has none."""
    if given is None:
        return None
    shown = f"has prior {given!r}"
    if not isinstance(given, tuple) or len(given) != 2:
        return f"{shown}, which is not a pair (mean, spread)"
    for value, name in zip(given, ("mean", "spread"), strict=True):
        if not is_number(value):
            return f"{shown}, whose {name} {value!r} is not a number"
    mean, spread = given
    if not low <= mean <= high:
        return f"{shown}, whose mean {mean!r} is not in [{low!r}, {high!r}]"
    if log and spread <= 1:
        return f"{shown}, whose spread {spread!r} must be a factor above 1 on a log scale"
    return f"{shown}, whose spread {spread!r} must be above 0" if spread <= 0 else None
