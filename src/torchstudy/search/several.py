"""A model for each objective of a search, and where they expect the results to lie."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from torchstudy.search.cube import Array, Cube
from torchstudy.search.questions import Question
from torchstudy.search.surrogate import Surrogate
from torchstudy.search.tried import Tried


@dataclass(frozen=True, slots=True)
class Surrogates:
    """What has been learned of every objective, the first first. All values are warped."""

    models: tuple[Surrogate, ...]

    @classmethod
    def of(cls, question: Question) -> "Surrogates":
        """Fitted to the values of a question; raises ValueError where an objective has none."""
        others = [view(question, place) for place in range(len(question.further))]
        views = [question, *others]
        for each in views:
            if not any(
                map(math.isfinite, (v for trial in each.tried for v in trial.values.values()))
            ):
                raise ValueError(f"no trial has a value of {each.objective.metric}")
        return cls(tuple(map(Surrogate.of, views)))

    @property
    def first(self) -> Surrogate:
        """The model of the first objective, which also knows costs and failures."""
        return self.models[0]

    @property
    def cube(self) -> Cube:
        """The cube that all models share."""
        return self.first.cube

    def predicted(self, points: Array) -> tuple[Array, Array]:
        """Means and standard deviations at the last epoch of (n, d) points, (n, m) each."""
        found = [model.predicted(points) for model in self.models]
        means, spreads = zip(*found, strict=True)
        return np.stack(means, axis=1), np.stack(spreads, axis=1)

    def reached(self, tried: Sequence[Tried]) -> Array:
        """What the models believe that trials, which have values, have reached by now, (n, m)."""
        found = [model.reached(tried) for model in self.models]
        return np.stack(found, axis=1)

    def believing(self) -> "Surrogates":
        """The models once what they expect of the trials under way has been seen."""
        return Surrogates(tuple(model.believing() for model in self.models))


def view(question: Question, place: int) -> Question:
    """The question as if the further objective at `place` were its only one."""
    tried = [
        replace(
            trial,
            values={
                epoch: values[place]
                for epoch, values in trial.further.items()
                if math.isfinite(values[place])
            },
            further={},
        )
        for trial in question.tried
    ]
    return replace(question, objective=question.further[place], further=(), tried=tried)
