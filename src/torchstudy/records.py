"""What a run writes down: trials, epochs and outcomes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from torchstudy.values import Value


class Status(StrEnum):
    """How a training stands or ended."""

    RUNNING = "running"
    PAUSED = "paused"  # interrupted, or waits at a rung; goes on from its checkpoint
    COMPLETED = "completed"  # all epochs, or early stopping by patience
    STOPPED = "stopped"  # not promoted by the search
    DIVERGED = "diverged"  # a loss, metric or weight was not finite
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"  # an exception, or a worker that died

    @property
    def is_final(self) -> bool:
        """Whether nothing more will be trained."""
        return self not in (Status.RUNNING, Status.PAUSED)

    @property
    def is_failure(self) -> bool:
        """Whether the training ended without a usable result."""
        failures = (Status.DIVERGED, Status.OUT_OF_MEMORY, Status.TIMED_OUT, Status.CRASHED)
        return self in failures


LATENCIES = {"latency_p50": 50, "latency_p95": 95}  # percentiles of milliseconds for one item
COUNTS = ("parameters", "flops", "memory")  # of a whole network, whatever its weights
COSTS = (*COUNTS, *LATENCIES)

PARTS = ("load", "augment", "forward", "backward", "step", "evaluate", "checkpoint", "other")
SECONDS = tuple(f"seconds_{part}" for part in PARTS)  # columns: where an epoch's time went

UNTRAINED = "before any step"  # in the reason of a training that diverged with its first weights
AT_MOST_ONE = ("accuracy", "r2", "ssim")  # metrics of which 1 is perfect
AT_LEAST_ZERO = ("accuracy", "mae", "mse", "pca_error", "pca_ratio", *COSTS)  # never below it
METHODS = ("auto", "ax", "sobol", "random")  # of searching a space

Purpose: TypeAlias = Literal["search", "confirmation"]
Direction: TypeAlias = Literal["maximize", "minimize"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The metric that decides, and whether more or less of it is better."""

    metric: str
    direction: Direction

    def is_better(self, value: float, than: float) -> bool:
        """Whether `value` beats `than`; anything beats NaN, NaN beats nothing."""
        if math.isnan(than):
            return not math.isnan(value)
        return value > than if self.direction == "maximize" else value < than

    def is_better_epoch(self, value: float, loss: float, *, than: float, than_loss: float) -> bool:
        """Whether an epoch beats the best before it; the lower loss decides between equals.

        Accuracy on few images takes few values, and the first epoch to reach one is rarely the
        best.
        """
        return loss < than_loss if value == than else self.is_better(value, than)

    @property
    def sign(self) -> int:
        """+1 to maximize, -1 to minimize: `sign * value` is always better when larger."""
        return 1 if self.direction == "maximize" else -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A metric that a result has to reach (`maximize`: at least `value`), or not to exceed."""

    metric: str
    direction: Direction
    value: float

    @property
    def objective(self) -> Objective:
        """The metric as if it were to be made better without end."""
        return Objective(metric=self.metric, direction=self.direction)

    def shortfall(self, value: float) -> float:
        """By how much `value` misses it, as a share of the bound; 0 if it is met, inf for NaN."""
        if math.isnan(value):
            return math.inf
        missing = self.objective.sign * (self.value - value)
        return max(0.0, missing / (abs(self.value) or 1.0))

    def __str__(self) -> str:
        side = "at least" if self.direction == "maximize" else "at most"
        return f"{self.metric} of {side} {self.value:g}"


def bounds_in(summary: Mapping[str, Any]) -> list[Bound]:
    """The bounds on learned metrics that a study's summary (`study.json`) names."""
    return [
        Bound(metric=str(each["metric"]), direction=each["direction"], value=float(each["value"]))
        for each in summary.get("bounds", ())
    ]


def objectives_in(summary: Mapping[str, Any]) -> list[Objective]:
    """Every objective that a study's summary (`study.json`) names, the one that decides first."""
    given = summary.get("objectives") or [summary["objective"]]
    return [Objective(metric=str(each["metric"]), direction=each["direction"]) for each in given]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a search decided of a trial: that it is trained until an epoch, and why.

    Decisions of a family are counted from 0. Those in `pending` came before, and their results were
    not known to this one. `value` and `spread` are what was expected of the objective after the
    last epoch (median, and half the width of the middle 68%), `seconds` what this part of the
    training was expected to take; NaN where no model was asked.
    """

    number: int
    until: int  # the epoch after which the trial waits, or is at its end
    origin: str  # recipe | good | warm | sobol | near | model | random | replicate | promotion
    pending: tuple[int, ...] = ()
    value: float = math.nan
    spread: float = math.nan
    seconds: float = math.nan
    decided: str = ""  # UTC, ISO 8601


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One configuration of one family, as proposed; promotions are further decisions.

    Trials of a version that trained all to their end have no decisions.
    """

    family: str
    number: int
    config: Mapping[str, Value]
    origin: str  # that of its first decision
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingKey:
    """Which training of a study: a trial with a seed."""

    family: str
    number: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """The row of metrics written after one pass over the training split."""

    epoch: int  # from 1
    seconds: float
    finished: str  # UTC, ISO 8601
    train_loss: float
    valid_loss: float  # NaN where the family has none
    learning_rate: float
    grad_norm: float  # mean over the epoch's steps, before clipping
    metrics: Mapping[str, float] = field(default_factory=dict)  # on the valid split
    measured: Mapping[str, float] = field(default_factory=dict)  # in training, by column name
    parts: Mapping[str, float] = field(default_factory=dict)  # seconds, by column name
    precision: str = ""  # of the matrix products in its steps: bf16 or fp32

    def valid(self, objective: Objective) -> float:
        """The objective on the valid split; NaN where the family has no loss there."""
        return self.valid_loss if objective.metric == "loss" else self.metrics[objective.metric]

    def values(self) -> dict[str, float]:
        """Every number but seconds by its column name; validation metrics carry `valid_`."""
        valid = {f"valid_{name}": value for name, value in self.metrics.items()}
        own = ("train_loss", "valid_loss", "learning_rate", "grad_norm")
        return {**{name: getattr(self, name) for name in own}, **valid, **self.measured}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a training (or one leg of it) ended."""

    status: Status
    reason: str = ""
    epochs: int = 0  # finished so far, over all legs
    best_epoch: int = 0
    parameters: int = 0  # numbers in the network, frozen parts included
    diagnosis: str = ""  # what ails the training, with the remedy; derived, not kept
    metrics: Mapping[str, float] = field(default_factory=dict)  # <split>_<metric>, and costs


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What had become of a training before it began again: it crashed, and its cause was mended."""

    number: int  # the last of the attempts that it took
    status: Status
    reason: str
    seconds: float
    started: str
    finished: str
    worker: str
    environment: str
    losses: int
    epochs: tuple[Epoch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One training as the ledger holds it: a trial with a seed, its standing and its numbers."""

    trial: Trial
    seed: int
    purpose: Purpose
    status: Status
    attempt: int
    reason: str
    epochs: int
    best_epoch: int
    parameters: int
    seconds: float  # sum over legs
    started: str
    finished: str
    worker: str
    metrics: Mapping[str, float]
    losses: int = 0  # attempts whose worker died or hung
    environment: str = ""  # ids of the environments that worked on it, joined with "+"
    tested: str = ""  # when the test split was last read for it, UTC, ISO 8601
    tested_by: str = ""
    readings: int = 0  # of the test split
    earlier: tuple[Attempt, ...] = ()  # that crashed, before it began again

    @property
    def key(self) -> TrainingKey:
        """Which training of its study this is."""
        return TrainingKey(family=self.trial.family, number=self.trial.number, seed=self.seed)

    def is_resting(self, full: int) -> bool:
        """Whether it waits at a rung, below the `full` length, until it is promoted."""
        until = self.trial.decisions[-1].until if self.trial.decisions else full
        return self.status is Status.PAUSED and until < full and self.epochs >= until

    def shortfall(self, bounds: Sequence[Bound]) -> float:
        """By how much the best epoch misses the bounds on the valid split, 0 if it meets all."""
        return sum(bound.shortfall(self.valid(bound.objective)) for bound in bounds)

    def valid(self, objective: Objective) -> float:
        """An objective on the valid split at the best epoch, or a cost; NaN when there is none."""
        cost = self.metrics.get(objective.metric, math.nan)
        if objective.metric == "parameters" and self.parameters:
            cost = float(self.parameters)
        return self.metrics.get(f"valid_{objective.metric}", cost)
