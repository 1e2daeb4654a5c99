"""Which configurations a study's limits leave: checked before anything is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from torchstudy.data.spec import DataSpec
from torchstudy.errors import StudyError
from torchstudy.families.base import Family
from torchstudy.fitting import instantiate
from torchstudy.models.costs import costs_of
from torchstudy.records import LATENCIES
from torchstudy.seeds import derive
from torchstudy.space import Config
from torchstudy.study import Study

TRIED = 1000  # random configurations before a limit counts as out of reach
FEW = 30  # of them where it is far: the bounds of the space, tried first, are its extremes
FAR = 2.0  # times the limit, and more


@dataclass(slots=True)
class Limits:
    """A study's limits on the costs of its networks, and the costs that are known so far."""

    study: Study
    data: DataSpec
    _known: dict[Family, dict[str, float]] = field(default_factory=dict)

    def excess(self, family: type[Family], config: Config) -> str | None:
        """What a configuration has too much of, or None."""
        if not self.study.cost_limits:
            return None
        costs = self.costs(family, config)
        for name, limit in self.study.cost_limits.items():
            if costs[name] > limit:
                return f"{name} {_shown(costs[name])}, above the limit of {_shown(limit)}"
        return None

    def costs(self, family: type[Family], config: Config) -> dict[str, float]:
        """The costs of a configuration's network, measured once."""
        network = instantiate(family, config).family
        if network not in self._known:
            with_latency = any(name in LATENCIES for name in self.study.cost_limits)
            self._known[network] = costs_of(network, self.data, with_latency=with_latency)
        return self._known[network]

    def check(self) -> None:
        """Raise StudyError for a family of which no configuration can be found within the limits.

        The recipe is tried first, then the bounds of the space, then random configurations.
        """
        problems = []
        for family in self.study.families if self.study.cost_limits else ():
            least = self._least(family)
            if least:
                shown = ", ".join(f"{name} {_shown(value)}" for name, value in least.items())
                allowed = ", ".join(f"{n} {_shown(v)}" for n, v in self.study.cost_limits.items())
                problems.append(
                    f"{family.__name__}: no configuration within the limits was found ({allowed}); "
                    f"the least found is {shown}: raise the limit or open the space"
                )
        if problems:
            raise StudyError(problems)

    def _least(self, family: type[Family]) -> Mapping[str, float]:
        """The least of every limited cost where nothing fits; empty as soon as something does."""
        least = dict.fromkeys(self.study.cost_limits, float("inf"))
        space = self.study.space_of(family)
        generator = np.random.default_rng(derive(self.study.seed, family.__name__, "limits"))
        tried: list[Config] = [space.recipe, *space.corners()]
        count = int(min(TRIED, space.size))
        for number in range(len(tried) + count):
            config = tried[number] if number < len(tried) else space.sample(generator)
            if self.excess(family, config) is None:
                return {}
            if number >= len(tried) + FEW and self._is_far(least):
                break
            costs = self.costs(family, config)
            least = {name: min(value, costs[name]) for name, value in least.items()}
        return least

    def _is_far(self, least: Mapping[str, float]) -> bool:
        """Whether nothing found comes near a limit."""
        return any(least[name] > FAR * limit for name, limit in self.study.cost_limits.items())


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:,.3g}"
