"""What a run writes down: trials, epochs, outcomes, and the schema of every table made of them."""

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

AT_MOST_ONE = ("accuracy", "r2", "ssim")  # metrics of which 1 is perfect
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


TRIAL_COLUMNS: dict[str, str] = {
    "study": "string",
    "family": "string",
    "trial": "Int64",
    "status": "string",
    "reason": "string",
    "diagnosis": "string",
    "origin": "string",
    "seed": "Int64",
    "epochs": "Int64",
    "best_epoch": "Int64",
    "parameters": "Int64",
    **{cost: "float64" for cost in COSTS if cost != "parameters"},
    "seconds": "float64",
    "started": "datetime64[us, UTC]",
    "finished": "datetime64[us, UTC]",
    "worker": "string",
    "environment": "string",
    "precision": "string",
    **dict.fromkeys(SECONDS, "float64"),
}
"""`trials`: then `config.<name>` per hyperparameter, `valid_<metric>` at the last epoch and
`best_valid_<objective>`, the best epoch's value. `seconds_<part>` are sums over the epochs and
`environment` the ids of what a trial was trained with, joined with "+" (see study.json)."""

EPOCH_COLUMNS: dict[str, str] = {
    "study": "string",
    "family": "string",
    "trial": "Int64",
    "seed": "Int64",
    "epoch": "Int64",
    "seconds": "float64",
    "finished": "datetime64[us, UTC]",
    "train_loss": "float64",
    "valid_loss": "float64",
    "learning_rate": "float64",
    "grad_norm": "float64",
    **dict.fromkeys(SECONDS, "float64"),
}
"""`epochs`: then `valid_<metric>` per metric, on the valid split after that epoch, and what was
measured in training: `train_loss_<phase>` where phases alternate, `health_<measure>`.
`seconds_<part>` add up to the time since the row before; the checkpoint is the one before."""

CONFIRMATION_COLUMNS: dict[str, str] = {
    "study": "string",
    "family": "string",
    "trial": "Int64",
    "seed": "Int64",
    "status": "string",
    "reason": "string",
    "chosen": "boolean",
    "epochs": "Int64",
    "parameters": "Int64",
    "seconds": "float64",
    "started": "datetime64[us, UTC]",
    "finished": "datetime64[us, UTC]",
    "worker": "string",
    "environment": "string",
    "tested": "datetime64[us, UTC]",
    "tested_by": "string",
    "readings": "Int64",
}
"""`confirmation`: one row per fresh training, then `select_<metric>` and `test_<metric>` (NaN
unless the configuration was chosen: test is read for those alone). `readings` counts how often the
test split was read for it, the last time at `tested` by the process `tested_by`."""

PROPOSAL_COLUMNS: dict[str, str] = {
    "study": "string",
    "family": "string",
    "decision": "Int64",
    "trial": "Int64",
    "origin": "string",
    "after": "Int64",
    "until": "Int64",
    "pending": "string",
    "expected": "float64",
    "spread": "float64",
    "expected_seconds": "float64",
    "decided": "datetime64[us, UTC]",
    "seen": "float64",
    "at_the_end": "float64",
}
"""`proposals`: one row per decision of the search, to train a trial from epoch `after` (0: a new
one) until epoch `until`. `pending` lists the decisions whose results were not known, `expected` and
`spread` what was expected of the objective after the last epoch (median, and half the width of the
middle 68%), of several objectives of the first.
`seen` is the objective of the best epoch up to `until`, `at_the_end` that of a completed trial."""

FRONT_COLUMNS: dict[str, str] = {"study": "string", "family": "string", "trial": "Int64"}
"""`front`: the completed trials that no other beats in all objectives, the first objective's best
first; then one column per objective, `valid_<metric>` or a cost, and `config.<name>`."""

READING_COLUMNS = ("tested", "tested_by", "readings")
LATER_COLUMNS = ("environment", "precision", "calibrated", *SECONDS, *READING_COLUMNS)
"""Columns that results of earlier versions may lack; they are read as empty."""

CLOCK_COLUMNS = (
    *("seconds", "started", "finished", "worker", *LATENCIES, *SECONDS),
    *("expected_seconds", "decided", "tested", "tested_by"),
)
"""Columns that differ between equal runs; all others are bit for bit the same with one worker."""
