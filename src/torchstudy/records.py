"""What a run writes down: trials, epochs, outcomes, and the schema of every table made of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, TypeAlias

from torchstudy.values import Value


class Status(StrEnum):
    """How a training stands or ended."""

    RUNNING = "running"
    PAUSED = "paused"  # stopped cleanly, goes on from its checkpoint
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
COSTS = ("parameters", "flops", "memory", *LATENCIES)  # of a whole network, whatever its weights

PARTS = ("load", "augment", "forward", "backward", "step", "evaluate", "checkpoint", "other")
SECONDS = tuple(f"seconds_{part}" for part in PARTS)  # columns: where an epoch's time went

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

    @property
    def sign(self) -> int:
        """+1 to maximize, -1 to minimize: `sign * value` is always better when larger."""
        return 1 if self.direction == "maximize" else -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One configuration of one family, as proposed."""

    family: str
    number: int
    config: Mapping[str, Value]
    origin: str  # recipe | sobol | model | random


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

    @property
    def key(self) -> TrainingKey:
        """Which training of its study this is."""
        return TrainingKey(family=self.trial.family, number=self.trial.number, seed=self.seed)

    def valid(self, objective: Objective) -> float:
        """The objective on the valid split at the best epoch; NaN when there is none."""
        return self.metrics.get(f"valid_{objective.metric}", float("nan"))


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
}
"""`confirmation`: one row per fresh training, then `select_<metric>` and `test_<metric>` (NaN
unless the configuration was chosen: test is read for those alone)."""

LATER_COLUMNS = ("environment", "precision", *SECONDS)
"""Columns that results of earlier versions may lack; they are read as empty."""

CLOCK_COLUMNS = ("seconds", "started", "finished", "worker", *LATENCIES, *SECONDS)
"""Columns that differ between equal runs; all others are bit for bit the same with one worker."""
