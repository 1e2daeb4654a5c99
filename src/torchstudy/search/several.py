"""A model for each objective and bound of a search, and where they expect results to lie."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import log_ndtr

from torchstudy.search.cube import Array, Cube
from torchstudy.search.questions import Question
from torchstudy.search.surrogate import Surrogate
from torchstudy.search.tried import Tried


@dataclass(frozen=True, slots=True)
class Surrogates:
    """What has been learned of every objective, the first first. All values are warped.

    `bounded` are models of the metrics that have bounds, and `least` those bounds, warped too.
    """

    models: tuple[Surrogate, ...]
    bounded: tuple[Surrogate, ...] = ()
    least: tuple[float, ...] = ()

    @classmethod
    def of(cls, question: Question) -> "Surrogates":
        """Fitted to the values of a question; raises ValueError where a metric has none."""
        num_objectives = 1 + len(question.further)
        num_others = len(question.further) + len(question.bounds)
        views = [question, *(view(question, place) for place in range(num_others))]
        for each in views:
            if not any(
                map(math.isfinite, (v for trial in each.tried for v in trial.values.values()))
            ):
                raise ValueError(f"no trial has a value of {each.objective.metric}")
        models = tuple(map(Surrogate.of, views))
        bounded = models[num_objectives:]
        return cls(
            models=models[:num_objectives],
            bounded=bounded,
            least=tuple(
                float(model.warp.warped(np.array([model.sign * bound.value]))[0])
                for model, bound in zip(bounded, question.bounds, strict=True)
            ),
        )

    @property
    def first(self) -> Surrogate:
        """The model of the first objective, which also knows costs and failures."""
        return self.models[0]

    @property
    def cube(self) -> Cube:
        """The cube that all models share."""
        return self.first.cube

    def predicted(self, points: Array, *, is_begun: bool = False) -> tuple[Array, Array]:
        """Means and standard deviations at the last epoch of (n, d) points, (n, m) each."""
        found = [model.predicted(points, is_begun=is_begun) for model in self.models]
        means, spreads = zip(*found, strict=True)
        return np.stack(means, axis=1), np.stack(spreads, axis=1)

    def reached(self, tried: Sequence[Tried]) -> Array:
        """What the models believe that trials, which have values, have reached by now, (n, m).

        Of trials that probably keep within the bounds alone.
        """
        found = np.stack([model.reached(tried) for model in self.models], axis=1)
        is_within = np.ones(len(found), dtype=bool)
        for model, least in zip(self.bounded, self.least, strict=True):
            is_within &= model.reached(tried) >= least
        return found[is_within]

    def log_within(self, points: Array) -> Array:
        """The logarithm of the probability that (n, d) points keep within all bounds, (n,).

        Gardner et al., "Bayesian optimization with inequality constraints", 2014.
        """
        found = np.zeros(len(points))
        for model, least in zip(self.bounded, self.least, strict=True):
            mean, spread = model.predicted(points)
            found += log_ndtr((mean - least) / spread)
        return found

    def lacking(self, points: Array, *, optimism: float) -> Array:
        """How far trials that have begun, at (n, d) points, are below the bounds in all, (n,).

        Each is taken to be `optimism` spreads better than expected.
        """
        found = np.zeros(len(points))
        for model, least in zip(self.bounded, self.least, strict=True):
            mean, spread = model.predicted(points, is_begun=True)
            found += np.maximum(least - mean - optimism * spread, 0.0)
        return found

    def believing(self) -> "Surrogates":
        """The models once what they expect of the trials under way has been seen."""
        return replace(
            self,
            models=tuple(model.believing() for model in self.models),
            bounded=tuple(model.believing() for model in self.bounded),
        )


def view(question: Question, place: int) -> Question:
    """The question as if the metric at `place` of `Tried.further` were its only objective."""
    metrics = [*question.further, *(bound.objective for bound in question.bounds)]
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
    return replace(question, objective=metrics[place], further=(), bounds=(), tried=tried)
