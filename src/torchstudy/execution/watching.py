"""What a run tells whoever watches it: a silent watcher and one that prints plain lines."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from typing_extensions import override

from torchstudy.data.dataset import ImageData
from torchstudy.records import Epoch, Objective, Outcome, Purpose, Status, Trial
from torchstudy.repeats import repeat_of, repeat_words
from torchstudy.report.formats import metric_of
from torchstudy.study import Study
from torchstudy.visible import visible

if TYPE_CHECKING:
    from torchstudy.execution.schedule import Schedule, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is about to do.

    `done` and `left` count trainings by family; while a family searches, what is left is the most
    that it can be: `confirmations` are fewer where the recipe is among the best. `others` are
    further objectives, and metrics that have bounds.
    """

    study: str
    families: tuple[str, ...]
    objective: Objective
    trials: int
    epochs: int
    confirmations: int
    num_workers: int
    done: Mapping[str, int]
    left: Mapping[str, int]
    repeat: str = ""  # `, repeat 2 of 3` where the search is one of several
    others: tuple[Objective, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The training that news is about; where it pauses, and goes on if it is promoted."""

    trial: Trial
    seed: int
    purpose: Purpose
    action: str
    until: int | None = None
    turn: tuple[int, int] | None = None  # of a confirmation: which seed, of how many

    @property
    def title(self) -> str:
        """`CNN #7`, `confirm CNN #7, seed 2 of 3`, `test CNN #7, seed 2 of 3` and the like."""
        words = {"search": "", "confirmation": "confirm "}
        prefix = words[self.purpose] if self.action == "train" else f"{self.action} "
        place, count = self.turn or (1, 1)
        seed = f", seed {place} of {count}" if count > 1 else ""
        return f"{prefix}{self.trial.family} #{self.trial.number}{seed}"

    def is_resting(self, outcome: Outcome) -> bool:
        """Whether the training has got to where it waits to be promoted."""
        return (
            outcome.status is Status.PAUSED
            and self.until is not None
            and outcome.epochs >= self.until
        )


class Watcher(ABC):
    """Told of everything that happens in a run, in order, from one thread."""

    @abstractmethod
    def preparing(self, what: str, done: int, total: int) -> None:
        """Data are being read: `done` of `total` items of `what`."""

    @abstractmethod
    def begun(self, plan: Plan) -> None:
        """The run starts or goes on."""

    @abstractmethod
    def started(self, subject: Subject) -> None:
        """A worker took up a training."""

    @abstractmethod
    def epoch(self, subject: Subject, row: Epoch) -> None:
        """An epoch is finished and recorded."""

    @abstractmethod
    def ended(self, subject: Subject, outcome: Outcome, seconds: float) -> None:
        """A training has ended, or paused, and its outcome is recorded."""

    @abstractmethod
    def note(self, text: str) -> None:
        """Something worth a line."""

    def written_next(self) -> None:  # noqa: B027  # most have nothing to do then
        """Nothing is trained any more: tables and report are written now."""

    @abstractmethod
    def finished(self, report: Path | None) -> None:
        """Nothing is left to do, or the run was interrupted (no report)."""


class Silent(Watcher):
    """Says nothing."""

    @override
    def preparing(self, what: str, done: int, total: int) -> None:
        pass

    @override
    def begun(self, plan: Plan) -> None:
        pass

    @override
    def started(self, subject: Subject) -> None:
        pass

    @override
    def epoch(self, subject: Subject, row: Epoch) -> None:
        pass

    @override
    def ended(self, subject: Subject, outcome: Outcome, seconds: float) -> None:
        pass

    @override
    def note(self, text: str) -> None:
        pass

    @override
    def finished(self, report: Path | None) -> None:
        pass


class PlainLines(Watcher):
    """One line for each thing a reader of a log wants to know.

    `names_report` ends a run with where its report lies.
    """

    def __init__(self, stream: TextIO | None = None, *, names_report: bool = True) -> None:
        self._stream = stream
        self._names_report = names_report
        self._told: tuple[Objective, ...] = ()

    @override
    def preparing(self, what: str, done: int, total: int) -> None:
        if done == total:
            self._say(f"{what}: {total} images")

    @override
    def begun(self, plan: Plan) -> None:
        self._told = (plan.objective, *plan.others)
        self._say(plan_text(plan))

    @override
    def started(self, subject: Subject) -> None:
        pass

    @override
    def epoch(self, subject: Subject, row: Epoch) -> None:
        pass

    @override
    def ended(self, subject: Subject, outcome: Outcome, seconds: float) -> None:
        self._say(ended_text(subject, outcome, seconds, *self._told))

    @override
    def note(self, text: str) -> None:
        self._say(text)

    @override
    def finished(self, report: Path | None) -> None:
        if report is not None and self._names_report:
            self._say(f"report: {report}")

    def _say(self, text: str) -> None:
        print(visible(text), file=self._stream or sys.stdout, flush=True)


def plan_of(schedule: "Schedule") -> Plan:
    """What a run that follows this schedule is about to do."""
    study, board = schedule.study, schedule.board
    name, repeat = repeat_of(study.name)
    done = {
        name: sum(
            training.status.is_final or training.is_resting(study.epochs)
            for training in (*board.searched(name), *board.confirmed(name))
        )
        for name in schedule.families
    }
    return Plan(
        study=name,
        families=tuple(schedule.families),
        objective=study.objective,
        trials=study.trials,
        epochs=study.epochs,
        confirmations=(study.confirm[0] + 1) * study.confirm[1] if study.confirm else 0,
        num_workers=schedule.num_workers,
        done=done,
        left={name: schedule.num_left(name) for name in schedule.families},
        repeat=repeat_words(repeat, study.repeats),
        others=tuple(told for told in _asked_for(study) if told.metric != study.objective.metric),
    )


def _asked_for(study: Study) -> list[Objective]:
    """Every metric that a study has objectives or bounds for, the objectives first."""
    return [*study.objectives, *(bound.objective for bound in study.bounds)]


def subject_of(schedule: "Schedule", step: "Step") -> Subject:
    """The training that a step works on."""
    return Subject(
        trial=schedule.board.trial(step.key),
        seed=step.key.seed,
        purpose=step.purpose,
        action=step.action,
        until=step.until,
        turn=schedule.turn(step.key) if step.purpose == "confirmation" else None,
    )


def plan_text(plan: Plan) -> str:
    """What a run will do, in one or two sentences."""
    confirmation = f"then up to {counted(plan.confirmations, 'confirmation')}"
    text = (
        f"{plan.study}{plan.repeat}: {', '.join(plan.families)}; for each "
        f"{counted(plan.trials, 'trial')} of up to {counted(plan.epochs, 'epoch')}, "
        f"{confirmation if plan.confirmations else 'no confirmation'}; "
        f"{counted(plan.num_workers, 'worker')}"
    )
    done, left = sum(plan.done.values()), sum(plan.left.values())
    if not left:
        return f"{text}\nnothing left to train: {counted(done, 'training')} done"
    if done:
        text += f"\ngoing on: {counted(done, 'training')} done, at most {left} left"
    return text


def notes(study: Study, data: ImageData) -> list[str]:
    """What was left out of the data, and what narrowing did to recipes, one line each.

    Nothing for a repeat, as the first search has said it.
    """
    if repeat_of(study.name)[1] > 1:
        return []
    about_data = [f"data: {note}" for note in data.notes]
    return about_data + [
        f"{family.__name__}: {note}" for family in study.families for note in study.notes_on(family)
    ]


def counted(number: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def ended_text(subject: Subject, outcome: Outcome, seconds: float, *told: Objective) -> str:
    """One line about a finished training, with its values of the metrics that are to be told."""
    split = {"search": "valid", "confirmation": "select"}[subject.purpose]
    split = "test" if subject.action == "test" else split
    names = {f"{split}_{each.metric}": metric_of(each) for each in told}
    scores = [
        metric.measured(split, outcome.metrics[name])
        for name, metric in names.items()
        if name in outcome.metrics
    ]
    score = "  " * bool(scores) + ", ".join(scores)
    reason = outcome.reason.strip().rpartition("\n")[2]
    is_said = outcome.status is Status.COMPLETED or reason in outcome.diagnosis
    why = "" if is_said else f"  {reason}"
    if subject.is_resting(outcome):
        why = f"  waits after {counted(outcome.epochs, 'epoch')}"
    width = 29 if subject.turn is None else 41  # what names of families that come with us take
    line = f"{subject.title:<{width}} {outcome.status:<13}{seconds:7.1f} s{score}{why}".rstrip()
    return f"{line}\n    {outcome.diagnosis}" if outcome.diagnosis else line
