"""What may be expected of a configuration: its value at the last epoch, its cost, its failing.

A Gaussian process over (configuration, epoch) learns from every rung that any trial has reached
(Swersky, Snoek and Adams, "Freeze-thaw Bayesian optimization", 2014; Klein et al., "Model-based
asynchronous hyperparameter and neural architecture search", 2020). Larger is better throughout:
values to be minimised are negated.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from torchstudy.search.cube import Array, Cube
from torchstudy.search.gaussian import MOST_FITTED, Data, Process, fitted
from torchstudy.search.questions import Question
from torchstudy.search.tried import Tried
from torchstudy.search.warping import Warp
from torchstudy.space import Config

MOST_SEEN = 500  # observations that the process keeps; a proposal takes time with their square
RIDGE = 0.3  # of the regression of costs
LEAST_ODDS = 0.01  # of ending well: nothing is ruled out by a model
# What is told of a trial is so many times as wide as the process believes: without it 44% and 70%
# of 271 trials of LCBench (4 data sets) ended in the middle 50% and 90%, with it 51% and 84%; of
# 157 trials of 6 other data sets 67% and 91%.
TOLD = 1.4
FEWEST_ENDS = 4  # trials at the last epoch before their errors say how sure the process may be


@dataclass(frozen=True, slots=True, kw_only=True)
class Surrogate:
    """What has been learned from the trials of a question.

    `pending` are the points of the trials under way. `doubt` is how much larger the errors at the
    last epoch are than the process believes, as a factor of its standard deviations: of what
    nothing is known about, and of trials that have reached a rung.
    """

    cube: Cube
    top: int  # the last epoch
    sign: int
    warp: Warp
    process: Process
    doubt: "Doubt"
    best: float  # warped: the best that the process believes to have been reached
    costs: Array | None  # coefficients of the logarithm of an epoch's cost, None if not known
    pending: Array
    odds: "Odds | None"  # of ending well, None while nothing has failed

    @classmethod
    def of(cls, question: Question) -> "Surrogate":
        """Fitted to the values of a question, of which there must be one at least."""
        cube = Cube(question.space)
        points = cube.points([trial.config for trial in question.tried])
        features = cube.features(points)
        warp, trials, data = _observations(question, features, cube.axes)
        process = Process.seeing(data, fitted(data.chosen(_telling(data, MOST_FITTED))))
        reached, _ = process.predicted(data.features, data.times)
        is_pending = [trial.state == "pending" for trial in question.tried]
        return cls(
            cube=cube,
            top=question.ladder.top,
            sign=question.objective.sign,
            warp=warp,
            process=process,
            doubt=_doubts(process, trials),
            best=float(reached.max()),
            costs=_costs(question.tried, features),
            pending=points[np.array(is_pending, dtype=bool)],
            odds=Odds.of(question, cube),
        )

    def predicted(self, points: Array, *, is_begun: bool = False) -> tuple[Array, Array]:
        """Mean and standard deviation at the last epoch, warped, of (n, d) points.

        `is_begun` says that they are those of trials that have reached a rung.
        """
        mean, spread = self.process.predicted(self.cube.features(points), np.ones(len(points)))
        return mean, spread * self.doubt.of(is_begun)

    def believing(self) -> "Surrogate":
        """The model once what it expects of the trials under way has been seen."""
        if not len(self.pending):
            return self
        features = self.cube.features(self.pending)
        process = self.process.believing(features, np.ones(len(self.pending)))
        return replace(self, process=process)

    def reached(self, tried: Sequence[Tried]) -> Array:
        """What the process believes that trials, which have values, have reached by now, (n,)."""
        features = self.cube.features(self.cube.points([trial.config for trial in tried]))
        times = np.array([_time(trial.epochs, self.top) for trial in tried])
        return self.process.predicted(features, times)[0]

    def expected(self, config: Config, *, is_begun: bool) -> tuple[float, float]:
        """Median and spread of the objective at the last epoch, in its own unit: `Warp.middle`."""
        mean, spread = self.predicted(self.cube.points([config]), is_begun=is_begun)
        noise = math.sqrt(self.process.scales.noise) * self.doubt.of(is_begun)
        width = TOLD * math.hypot(float(spread[0]), noise)
        value, deviation = self.warp.middle(float(mean[0]), width)
        return self.sign * value, deviation

    def log_cost(self, points: Array) -> Array:
        """The logarithm of an epoch's cost; zero where no cost is known."""
        if self.costs is None:
            return np.zeros(len(points))
        logarithms: Array = _with_ones(self.cube.features(points)) @ self.costs
        return logarithms

    def cost(self, config: Config) -> float:
        """The cost of an epoch, in the unit of the trials' own; NaN where none is known."""
        if self.costs is None:
            return math.nan
        return float(np.exp(self.log_cost(self.cube.points([config]))[0]))

    def log_odds(self, points: Array) -> Array:
        """The logarithm of the probability that a training does not fail; zero if none has."""
        if self.odds is None:
            return np.zeros(len(points))
        return self.odds.logarithms(self.cube.features(points))


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Errors at the last epoch in standard deviations of the process: what it should multiply by.

    `new` is for configurations of which nothing has been seen, `begun` for trials of which all but
    the end is known.
    """

    new: float
    begun: float

    def of(self, is_begun: bool) -> float:
        """The factor for one of the two."""
        return self.begun if is_begun else self.new


@dataclass(frozen=True, slots=True)
class Odds:
    """How probable it is that a training does not fail, and that its configuration is allowed.

    A Gaussian process of its own over 0 and 1, since what fails need not be what is bad (least
    squares classification: Rasmussen and Williams, 2006, 6.5).
    """

    process: Process
    share: float  # of all that did not fail
    spread: float

    @classmethod
    def of(cls, question: Question, cube: Cube) -> "Odds | None":
        """From the last trials whose end or first rung is known, and rejected configurations."""
        known = [trial for trial in question.tried if trial.values or trial.state == "failed"]
        labels = np.array(
            [float(trial.state != "failed") for trial in known] + [0.0] * len(question.rejected)
        )[-MOST_FITTED:]
        if labels.all() or not labels.any():
            return None
        points = cube.points([*(trial.config for trial in known), *question.rejected])
        share, spread = float(labels.mean()), float(labels.std())
        data = Data(
            features=cube.features(points[-MOST_FITTED:]),
            axes=cube.axes,
            times=np.ones(len(labels)),
            values=(labels - share) / spread,
        )
        return cls(Process.seeing(data, fitted(data)), share, spread)

    def logarithms(self, features: Array) -> Array:
        """The logarithm of the probability at (n, m) features, (n,)."""
        mean, _ = self.process.predicted(features, np.ones(len(features)))
        odds: Array = np.log(np.clip(self.share + self.spread * mean, LEAST_ODDS, 1.0))
        return odds


def _observations(
    question: Question, features: Array, axes: NDArray[np.int64]
) -> tuple[Warp, NDArray[np.intp], Data]:
    """What was seen at every rung that was reached, with the place of its trial; no more than
    `MOST_SEEN` observations.
    """
    seen = [
        (place, _time(epoch, question.ladder.top), question.objective.sign * value)
        for place, trial in enumerate(question.tried)
        for epoch, value in sorted(trial.values.items())
        if math.isfinite(value)
    ]
    trials = np.array([place for place, _, _ in seen])
    values = np.array([value for _, _, value in seen])
    warp = Warp.of(values)
    data = Data(
        features=features[trials],
        axes=axes,
        times=np.array([time for _, time, _ in seen]),
        values=warp.warped(values),
    )
    rows = _telling(data, MOST_SEEN)
    return warp, trials[rows], data.chosen(rows)


def _time(epoch: int, top: int) -> float:
    """How far an epoch is on the way to the last, from 0 to 1, on a logarithmic scale."""
    return math.log(epoch) / math.log(top) if epoch < top else 1.0


def _telling(data: Data, most: int) -> NDArray[np.intp]:
    """The rows to learn from where there are more than `most`: one half newest, one half best."""
    size = len(data.values)
    if size <= most:
        return np.arange(size)
    newest = np.arange(size - most // 2, size)
    rest = np.arange(size - most // 2)
    order = np.lexsort((-data.values[rest], -data.times[rest]))
    return np.sort(np.concatenate([rest[order[: most - most // 2]], newest]))


def _doubts(process: Process, trials: NDArray[np.intp]) -> Doubt:
    """From the errors at the last epoch when a whole trial, or its end alone, is held out."""
    ends, inverse = np.flatnonzero(process.data.times == 1.0), process.inverse()
    alone = np.arange(len(trials))
    return Doubt(
        new=_doubt(process.held_out(trials, ends, inverse)),
        begun=_doubt(process.held_out(alone, ends, inverse)),
    )


def _doubt(errors: Array) -> float:
    """The size of standardised errors.

    Shrunk to 1 as if as many trials as `FEWEST_ENDS` had been predicted just so.
    """
    return math.sqrt((FEWEST_ENDS + float(errors @ errors)) / (FEWEST_ENDS + len(errors)))


def _costs(tried: Sequence[Tried], features: Array) -> Array | None:
    """A ridge regression of the logarithm of an epoch's cost; None where no cost is known."""
    known = [place for place, trial in enumerate(tried) if trial.cost > 0]
    if len(known) < 2:
        return None
    design = _with_ones(features[known])
    penalty = np.eye(design.shape[1]) * RIDGE
    penalty[0, 0] = 1e-6
    logarithms = np.log([tried[place].cost for place in known])
    return np.asarray(np.linalg.solve(design.T @ design + penalty, design.T @ logarithms))


def _with_ones(features: Array) -> Array:
    return np.concatenate([np.ones((len(features), 1)), features], axis=1)
