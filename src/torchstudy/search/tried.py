"""What a search knows of one of its trials."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from torchstudy.space import Config

State: TypeAlias = Literal["pending", "waiting", "completed", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A configuration of the search and what is known of it.

    `values` holds the objective of the best epoch so far, by epochs: one entry for each rung that
    was reached, and `further` those of the other objectives and then of the metrics that have
    bounds, where a search has such, at the same epochs. `pending` is under way until epoch `until`,
    and `values` know nothing of that leg; `waiting` has got to `until` and may be promoted;
    `completed` and `failed` are at their end. `cost` is that of one epoch, in a unit that all
    trials of the search share; NaN if not known.
    """

    number: int
    config: Config
    state: State
    until: int
    values: Mapping[int, float] = field(default_factory=dict)
    further: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    cost: float = math.nan

    @property
    def epochs(self) -> int:
        """The highest rung that it is known to have reached, 0 before the first."""
        return max(self.values, default=0)

    def at(self, epochs: int) -> tuple[float, ...]:
        """Every objective at a rung that it has reached, then every metric that has a bound."""
        return self.values[epochs], *self.further.get(epochs, ())
