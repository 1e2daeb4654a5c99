"""What a search is asked, and what it answers: plain values."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchstudy.errors import TorchstudyError
from torchstudy.records import Bound, Objective
from torchstudy.search.rungs import Ladder
from torchstudy.search.tried import Tried
from torchstudy.space import Config, SearchSpace
from torchstudy.values import Value


class SearchOver(TorchstudyError):
    """Nothing is left to do: the budget is spent, or a discrete space is used up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Everything the next decision depends on.

    `tried` are all configurations so far, by trial number; `trials` is how many there may be in
    all; `number` is that of the decision, from 0; `spent` the share of the budget that is used, 0
    to 1; `is_last` says that time is up, and that one of the trials that wait must come to its end;
    `trusts_recipe` that the recipe is known to be good, and goes to its end at once.
    `good` are configurations to begin with, each with its origin (`good`, `warm`), after the
    recipe. `rejected` are earlier answers to this question that the study's limits forbid, in
    order. Of several objectives `objective` is the first, which decides between epochs, and
    `further` the others; `bounds` are what further metrics have to reach. `strategy` is a user's
    own Ax GenerationStrategy (or None), of which each question uses a fresh copy, so that it must
    be a value that can be copied.
    """

    name: str
    space: SearchSpace
    objective: Objective
    further: Sequence[Objective] = ()
    bounds: Sequence[Bound] = ()
    ladder: Ladder
    trials: int
    tried: Sequence[Tried]
    number: int
    seed: int
    method: str = "auto"
    spent: float = 0.0
    is_last: bool = False
    trusts_recipe: bool = False
    good: Sequence[tuple[Config, str]] = ()
    rejected: Sequence[Config] = ()
    strategy: Any = None

    @property
    def asks_ax(self) -> bool:
        """Whether Ax chooses what a model would."""
        return self.method == "ax" or self.strategy is not None

    @property
    def objectives(self) -> list[Objective]:
        """All of them, the first first."""
        return [self.objective, *self.further]

    @property
    def needs_torch(self) -> bool:
        """Whether an answer may need libraries that take seconds to load: Ax, or BoTorch."""
        return self.asks_ax or len(self.further) > 0

    @property
    def num_configs(self) -> int:
        """How many different configurations have been tried."""
        return distinct(trial.config for trial in self.tried)

    @property
    def known(self) -> list[Config]:
        """Every configuration that a model or chance must not propose again."""
        return [*(trial.config for trial in self.tried), *self.rejected]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A decision: train `config` as trial `trial` until epoch `until`.

    A trial that is there already goes on (`promotion`); any other origin begins a new one. `value`
    and `spread` are what a model expects of the objective after the last epoch, as median and half
    the width of the middle 68%, and `cost` of this leg, in the unit of `Tried.cost`: NaN without a
    model. `note` says if something went another way than usual.
    """

    trial: int
    config: Config
    until: int
    origin: str
    value: float = math.nan
    spread: float = math.nan
    cost: float = math.nan
    note: str = ""


def distinct(configs: Iterable[Mapping[str, Value]]) -> int:
    """How many different ones there are."""
    return len({key_of(config) for config in configs})


def key_of(config: Mapping[str, Value]) -> Hashable:
    """The same for equal configurations."""
    return tuple(sorted(config.items()))
