"""The search as a node for any Ax client: what it proposes, Ax gets.

To be imported where Ax is wanted: it loads it.
"""

import math
from collections.abc import Sequence
from typing import Any

from ax.core.data import Data
from ax.core.experiment import Experiment
from ax.core.types import TParameterization
from ax.generation_strategy.external_generation_node import ExternalGenerationNode
from ax.generation_strategy.generation_strategy import GenerationStrategy
from typing_extensions import override

from torchstudy.records import Bound, Objective
from torchstudy.search.proposer import decide
from torchstudy.search.questions import Question
from torchstudy.search.rungs import without_rungs
from torchstudy.search.tried import State, Tried
from torchstudy.space import Config, SearchSpace


class SearchNode(ExternalGenerationNode):
    """Proposes the recipe first, then points spread evenly, then what a model thinks worth most.

    Ax has no trials that pause and go on: every trial counts as trained to its end.
    """

    def __init__(
        self,
        space: SearchSpace,
        objective: Objective,
        *,
        seed: int,
        trials: int = 100,
        further: Sequence[Objective] = (),
        bounds: Sequence[Bound] = (),
    ) -> None:
        super().__init__(name="torchstudy", should_deduplicate=False)  # a replicate shares its arm
        self._space, self._objectives, self._seed = space, [objective, *further], seed
        self._trials, self._bounds = trials, bounds
        self._tried: list[Tried] = []

    @override
    def update_generator_state(self, experiment: Experiment, data: Data) -> None:
        """Read the trials of the experiment, and their values of the objectives."""
        means = data.df.set_index(["trial_index", "metric_name"])["mean"].to_dict()
        names = [each.metric for each in self._objectives]
        names += [bound.metric for bound in self._bounds]
        self._tried = [
            _tried(
                number,
                self._config(trial.arms[0].parameters),
                trial,
                [float(means.get((index, name), math.nan)) for name in names],
            )
            for number, (index, trial) in enumerate(sorted(experiment.trials.items()))
            if trial.arms
        ]

    @override
    def get_next_candidate(self, pending_parameters: list[TParameterization]) -> TParameterization:
        """The varying hyperparameters of the next configuration; raises SearchOver for the last."""
        known = [trial.config for trial in self._tried]
        more = [config for config in map(self._config, pending_parameters) if config not in known]
        tried = [*self._tried, *(_under_way(len(known) + n, c) for n, c in enumerate(more))]
        question = Question(
            name="ax",
            space=self._space,
            objective=self._objectives[0],
            further=self._objectives[1:],
            bounds=self._bounds,
            ladder=without_rungs(1),
            trials=self._trials,
            tried=tried,
            number=len(tried),
            seed=self._seed,
            spent=min(1.0, len(tried) / self._trials),
        )
        config = decide(question).config
        self._tried = [*tried, _under_way(len(tried), config)]
        return {name: config[name] for name in self._space.dimensions if name in config}

    def _config(self, parameters: TParameterization) -> Config:
        given: Any = {name: value for name, value in parameters.items() if value is not None}
        return self._space.completed(given)


def generation_strategy(
    space: SearchSpace,
    objective: Objective,
    *,
    seed: int,
    trials: int = 100,
    further: Sequence[Objective] = (),
    bounds: Sequence[Bound] = (),
) -> GenerationStrategy:
    """For `Client.set_generation_strategy`, on a client that has this space and these objectives.

    `bounds` are its outcome constraints. `trials` is the budget: cost and curiosity count less
    towards its end. Such a client cannot be saved as JSON, as Ax does not know the node.
    """
    node = SearchNode(space, objective, seed=seed, trials=trials, further=further, bounds=bounds)
    return GenerationStrategy(name="torchstudy", nodes=[node])


def _under_way(number: int, config: Config) -> Tried:
    return Tried(number=number, config=config, state="pending", until=1)


def _tried(number: int, config: Config, trial: Any, values: Sequence[float]) -> Tried:
    is_failed = trial.status.is_failed or trial.status.is_abandoned
    if not is_failed and not trial.status.is_completed:
        return _under_way(number, config)
    state: State = "failed" if is_failed or not all(map(math.isfinite, values)) else "completed"
    first, *others = values
    return Tried(
        number=number,
        config=config,
        state=state,
        until=1,
        values={1: first} if state == "completed" else {},
        further={1: tuple(others)} if state == "completed" and others else {},
    )
