"""A training once more, from its recorded configuration and seed: are its numbers the same?"""

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torchstudy.analysis.environments import Facts, changes, ids_of, recorded
from torchstudy.data.dataset import ImageData
from torchstudy.errors import StudyError
from torchstudy.execution.comparison import (
    ENOUGH_DIGITS,
    EXACT,
    SAME,
    Fact,
    Measure,
    compared_endings,
    compared_epochs,
    compared_metrics,
    level_of,
)
from torchstudy.execution.confirm import confirmation_seeds
from torchstudy.execution.environment import environment_of
from torchstudy.execution.job import Companion, Job
from torchstudy.execution.joint import goes_together
from torchstudy.execution.ledger import Ledger, StudyState
from torchstudy.execution.retraining import OnEpoch, retrained
from torchstudy.records import Epoch, Objective, Outcome, Status, Training, TrainingKey
from torchstudy.scratch import REPLAYS, scratch_folder
from torchstudy.study import Study
from torchstudy.training.compute import device_named, devices_of

BY_CHANCE = 2.0  # standard deviations between seeds within which a value counts as reproduced
LOST = "the worker "  # how the last line of a reason begins whose worker died


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the ledger holds of a training and of where it was made."""

    training: Training
    rows: Sequence[Epoch]
    facts: Facts  # of the environment that worked on it last; empty where none was recorded
    num_environments: int

    @property
    def is_whole(self) -> bool:
        """Whether it ended as it had to: it would end so again."""
        if self.training.status is Status.CRASHED:
            return not self.training.reason.strip().rpartition("\n")[2].startswith(LOST)
        return self.training.status in (Status.COMPLETED, Status.DIVERGED)

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        training = self.training
        return Outcome(
            status=training.status,
            reason=training.reason,
            epochs=len(self.rows),
            best_epoch=training.best_epoch,
            parameters=training.parameters,
            metrics=training.metrics,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How nearly a training and its replay agree."""

    measures: tuple[Measure, ...]
    facts: tuple[Fact, ...]  # the first decides whether the two ended alike

    @property
    def level(self) -> str:
        """`bit for bit`, `equal to 5 digits` or `different`."""
        return level_of(self.measures, self.facts)

    @property
    def rank(self) -> tuple[bool, float]:
        """Larger for a nearer replay."""
        is_alike = all(fact.is_same for fact in self.facts)
        return is_alike, min((measure.digits for measure in self.measures), default=SAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A training, recorded and replayed.

    `changed` is what differs between the environment that trained it and this one, `notes` what
    else may explain a difference. `spread` is the standard deviation of the objective between
    seeds of one configuration in the study's confirmation, NaN without one.
    """

    study: str
    training: Training
    metric: str
    epochs: int  # compared
    agreement: Agreement
    spread: float
    changed: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def level(self) -> str:
        """How nearly all numbers agree."""
        return self.agreement.level

    @property
    def value(self) -> Measure | None:
        """The objective at the best epoch, else after each; None where there was none."""
        found = {measure.name: measure for measure in self.agreement.measures}
        return found.get(f"best_valid_{self.metric}") or found.get(f"valid_{self.metric}")

    @property
    def is_reproduced(self) -> bool:
        """Whether the training came out as it should.

        Bit for bit with the processor, versions, code and settings that it was recorded with.
        Where something may explain a difference (`changed`, `notes`), it is enough that the two
        ended alike with numbers equal to three digits, or with an objective that differs by no
        more than two standard deviations between seeds.
        """
        if self.level == EXACT:
            return True
        ended_alike = all(fact.is_same for fact in self.agreement.facts[:1])
        if not (self.changed or self.notes) or not ended_alike:
            return False
        if self.level != "different" or self.value is None:
            return self.level != "different"
        is_near = self.value.digits >= ENOUGH_DIGITS
        return is_near or self.value.difference <= BY_CHANCE * self.spread


def replay_training(
    study: Study,
    data: ImageData,
    ledger: Ledger,
    state: StudyState,
    key: TrainingKey,
    *,
    place: Path,
    on_epoch: OnEpoch = lambda row: None,
) -> Replay:
    """Train once more what the ledger holds under `key`, in a folder of its own in `place`.

    Neither the ledger nor a file of the run is touched. What ended as it had to (completed,
    diverged, crashed by an exception) is trained to its end; what was stopped, paused, cut off or
    ran out of memory as far as it had come. Raises StudyError where there is nothing to compare.
    """
    began = time.monotonic()
    told = _recorded(ledger, state, key)
    job, threads = _job(study, data, state, told)
    group = _group(job, state.summary)
    agreement = None
    for each in [*([group] if group else []), job]:
        with scratch_folder(place, REPLAYS) as folder:
            there = _placed(each, folder)
            last = None if told.is_whole else len(told.rows)
            found = retrained(there, key, threads=threads, last=last, on_epoch=on_epoch)
        latest = _agreement(told, *found)
        agreement = latest if agreement is None else max(agreement, latest, key=_rank)
        if agreement.level == EXACT:
            break
    assert agreement is not None
    declared = replace(study, precision=job.precision)
    now = environment_of(declared, device=job.device, threads=threads)
    return Replay(
        study=state.name,
        training=told.training,
        metric=job.objective.metric,
        epochs=max((measure.epochs for measure in agreement.measures), default=0),
        agreement=agreement,
        spread=seed_spread(ledger.trainings(state.name, "confirmation"), job.objective),
        changed=changes(told.facts, now.facts) if told.facts else (),
        notes=tuple(_notes(told, job, group)),
        seconds=time.monotonic() - began,
    )


def seed_spread(trainings: Sequence[Training], objective: Objective) -> float:
    """The standard deviation of the objective on `valid` between seeds of one configuration.

    Pooled over the configurations that were confirmed with several; NaN without one.
    """
    values: dict[tuple[str, int], list[float]] = {}
    for training in trainings:
        value = training.valid(objective)
        if math.isfinite(value):
            values.setdefault((training.key.family, training.key.number), []).append(value)
    groups = [group for group in values.values() if len(group) > 1]
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum(statistics.variance(group) * (len(group) - 1) for group in groups)
    return math.sqrt(squares / freedom) if freedom else math.nan


def _recorded(ledger: Ledger, state: StudyState, key: TrainingKey) -> Recorded:
    training = ledger.training(state.name, key)
    known, ids = recorded(state.summary), ids_of(training.environment)
    told = Recorded(
        training=training,
        rows=[row for _, row in ledger.epochs(state.name, key)],
        facts=known.get(ids[-1], {}) if ids else {},
        num_environments=len(ids),
    )
    if not told.rows and not told.is_whole:
        raise StudyError(
            f"{key.family} #{key.number} is {training.status} and none of its epochs was finished: "
            "there is nothing to compare"
        )
    return told


def _job(study: Study, data: ImageData, state: StudyState, told: Recorded) -> tuple[Job, int]:
    """The work of the training as it was recorded, and how many threads it had."""
    training, summary = told.training, state.summary
    return Job(
        action="train",
        key=training.key,
        family=study.family(training.key.family),
        config=dict(training.trial.config),
        objective=Objective(**summary["objective"]),
        epochs=int(summary["budget"]["epochs"]),
        purpose=training.purpose,
        data=data.handle,
        folder=Path(),
        precision=told.facts.get("precision", study.precision),
        device=_device(study, told.facts),
    ), int(told.facts.get("threads", "1"))


def _device(study: Study, facts: Facts) -> str:
    """The kind of device that it was trained on if there is one here, else the study's."""
    kind = facts.get("device", study.device).partition(",")[0]
    try:
        return devices_of(device_named(kind))[0]
    except StudyError:
        return devices_of(study.device)[0]


def _group(job: Job, summary: Mapping[str, Any]) -> Job | None:
    """The job with the seeds that a run trains as one network with it; None where there are none.

    A run gives each of its workers so many seeds of a configuration, in their order.
    """
    confirm, workers = summary["budget"]["confirm"], summary["machine"]["workers"]
    if job.purpose != "confirmation" or not confirm:
        return None
    seeds = confirmation_seeds(int(summary["seed"]), confirm[1])
    if job.key.seed not in seeds:
        return None
    size = -(-len(seeds) // workers)
    first = seeds.index(job.key.seed) // size * size
    own = [replace(job.key, seed=seed) for seed in seeds[first : first + size]]
    if len(own) < 2 or not goes_together(job):
        return None
    others = tuple(Companion(key=key, folder=Path(), attempt=1) for key in own[1:])
    return replace(job, key=own[0], companions=others)


def _placed(job: Job, folder: Path) -> Job:
    """The job with a folder for each of its trainings."""
    return replace(
        job,
        folder=folder / str(job.key.seed),
        companions=tuple(
            replace(other, folder=folder / str(other.key.seed)) for other in job.companions
        ),
    )


def _agreement(told: Recorded, rows: Sequence[Epoch], outcome: Outcome) -> Agreement:
    measures = compared_epochs(told.rows, rows)
    outcome = replace(outcome, epochs=len(rows))
    if told.is_whole:
        measures += compared_metrics(told.training.metrics, outcome.metrics)
        facts = compared_endings(told.outcome, outcome)
    else:
        facts = [Fact(name="epochs", recorded=str(len(told.rows)), replayed=str(len(rows)))]
    return Agreement(measures=tuple(measures), facts=tuple(facts))


def _rank(agreement: Agreement) -> tuple[bool, float]:
    return agreement.rank


def _notes(told: Recorded, job: Job, group: Job | None) -> Iterator[str]:
    """What besides a changed environment may make numbers differ."""
    if not told.facts:
        yield "the environment that it was trained in was not recorded"
    if told.num_environments > 1:
        yield f"it was trained in {told.num_environments} environments, one after the other"
    if job.device != "cpu":
        yield f"sums on {job.device.partition(':')[0]} are not always formed in the same order"
    if group is not None:
        seeds = 1 + len(group.companions)
        yield f"a run trains {seeds} seeds of it as one network, which sums in another order"
