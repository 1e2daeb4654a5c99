"""What a run does next: decisions read off the board alone, so that a resumed run repeats them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torchstudy.execution.board import Board
from torchstudy.execution.confirm import candidates, chosen_number, confirmation_seeds, ranked
from torchstudy.execution.exhibits import answers_path
from torchstudy.execution.inquiry import Inquiry
from torchstudy.execution.job import WEIGHTS
from torchstudy.execution.legs import Leg, Legs
from torchstudy.execution.outputs import training_folder
from torchstudy.records import Purpose, Status, Training, TrainingKey
from torchstudy.search.rungs import expected_epochs
from torchstudy.seeds import derive
from torchstudy.study import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A training to start or to go on with, until an epoch, or a split to read for one."""

    key: TrainingKey
    purpose: Purpose
    action: Literal["train", "test", "calibrate"] = "train"
    until: int | None = None


@dataclass(slots=True, kw_only=True)
class Schedule:
    """Decides what to ask, train, confirm and test, in that order of need.

    Where nothing is confirmed, the best trial of each family is calibrated instead, once in a run:
    `calibrated` has those that were, whatever came of it.

    Families take turns: the lowest decision first, so that all have had the same budget at any
    time. `families` are those that take part now.
    """

    study: Study
    board: Board
    folder: Path
    num_workers: int
    families: list[str]
    legs: Legs = field(init=False)
    inquiry: Inquiry = field(init=False)
    calibrated: set[TrainingKey] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.legs = Legs(board=self.board, epochs=self.study.epochs, trials=self.study.trials)
        self.inquiry = Inquiry(
            study=self.study,
            board=self.board,
            legs=self.legs,
            num_workers=self.num_workers,
            families=self.families,
        )

    @property
    def wants_proposals(self) -> bool:
        """Whether any family may still get new trials or promotions."""
        return any(self.inquiry.is_open(family) for family in self.families)

    def next_step(self, busy: Sequence[TrainingKey]) -> Step | None:
        """What the next free worker should do, given the trainings under way."""
        for key in self.board.paused():
            if key not in busy and self.board.trainings[key].purpose == "confirmation":
                return Step(key=key, purpose="confirmation")
        if (step := self._next_leg(busy)) is not None:
            return step
        if not self.search_is_over:
            return None
        if self.study.confirm is None:
            return self._next_calibration(busy)
        return self._next_confirmation(busy) or self._next_test(busy)

    def companions(self, step: Step, busy: Sequence[TrainingKey]) -> list[TrainingKey]:
        """Other seeds of a configuration that is being confirmed, which one worker may take along.

        So many that every worker has about as many seeds; none for any other step.
        """
        if step.purpose != "confirmation" or step.action != "train" or not self.study.confirm:
            return []
        most = -(-self.study.confirm[1] // self.num_workers) - 1
        trial = step.key.family, step.key.number
        waiting = [
            key
            for key in self.confirmations()
            if (key.family, key.number) == trial and key != step.key and key not in busy
        ]
        return [key for key in waiting if self._is_unfinished(key)][:most]

    @property
    def search_is_over(self) -> bool:
        """Whether every family has spent its budget and all that it decided has ended."""
        is_training = any(True for family in self.families for _ in self._due(family))
        return not is_training and not self.wants_proposals

    def not_promoted(self) -> list[TrainingKey]:
        """The trainings that wait at a rung, for when the search is over."""
        return [training.key for family in self.families for training in self.legs.resting(family)]

    def chosen(self, family: str) -> list[Training]:
        """The confirmation trainings of the chosen configuration; empty until all have ended."""
        confirmed = self.board.confirmed(family)
        if not confirmed or not all(t.status.is_final for t in confirmed):
            return []
        number = chosen_number(confirmed, self.study.objective, self.study.bounds)
        return [training for training in confirmed if training.trial.number == number]

    def confirmations(self) -> Iterator[TrainingKey]:
        """Every training that confirms something, known once the search is over."""
        if self.study.confirm is None:
            return
        count, num_seeds = self.study.confirm
        for family in self.families:
            searched = self.board.searched(family)
            for trial in candidates(searched, self.study.objectives, count, self.study.bounds):
                for seed in confirmation_seeds(self.study.seed, num_seeds):
                    yield TrainingKey(family=family, number=trial.number, seed=seed)

    def turn(self, key: TrainingKey) -> tuple[int, int] | None:
        """Which of the fresh seeds a confirmation has, from 1, and how many there are."""
        _, count = self.study.confirm or (0, 0)
        seeds = confirmation_seeds(self.study.seed, count)
        return (seeds.index(key.seed) + 1, count) if key.seed in seeds else None

    def num_left(self, family: str) -> int:
        """How many trainings of a family are to come; while the search goes on, at most."""
        confirmed = {t.key for t in self.board.confirmed(family) if t.status.is_final}
        if self.search_is_over:
            keys = {key for key in self.confirmations() if key.family == family}
            return len(keys - confirmed)
        count, num_seeds = self.study.confirm or (0, 0)
        return self._trials_left(family) + max(0, (count + 1) * num_seeds - len(confirmed))

    def effort_left(self, family: str) -> float:
        """As `num_left`, in trainings of full length: most of a search are shorter."""
        most, trials, ladder = self.num_left(family), self._trials_left(family), self.inquiry.ladder
        if self.search_is_over or not trials:
            return float(most)
        trained = sum(training.epochs for training in self.board.searched(family))
        return most - trials + expected_epochs(ladder, trials, trained) / ladder.top

    def search_key(self, family: str, number: int) -> TrainingKey:
        """The key under which the search trains a trial."""
        seed = derive(self.study.seed, family, number, "search")
        return TrainingKey(family=family, number=number, seed=seed)

    def _trials_left(self, family: str) -> int:
        """How many trials may still come to their end or to a rung, whether begun or not."""
        ended = [t for t in self.board.searched(family) if self._is_tried(t)]
        most = int(min(self.study.trials, self.inquiry.spaces[family].size))
        return max(0, most - len(ended))

    def _is_tried(self, training: Training) -> bool:
        """Whether it is at its end, or waits at a rung."""
        return training.status.is_final or training.is_resting(self.study.epochs)

    def _is_unfinished(self, key: TrainingKey) -> bool:
        training = self.board.trainings.get(key)
        return training is None or not training.status.is_final

    def _due(self, family: str) -> Iterator[Leg]:
        """The legs that are under way, or to be trained: those begun, and others while time is.

        When time is up no new trial begins, but what has been promoted goes on.
        """
        has_time = self.inquiry.has_time(family)
        for leg in self.legs.unended(family):
            if has_time or leg.is_promotion or self._has_begun(leg):
                yield leg

    def _has_begun(self, leg: Leg) -> bool:
        training = self.legs.training(leg)
        if training is None:
            return False
        earlier = (d.until for d in leg.trial.decisions if d.number < leg.decision.number)
        return training.status is Status.RUNNING or training.epochs > max(earlier, default=-1)

    def _next_leg(self, busy: Sequence[TrainingKey]) -> Step | None:
        """The first leg that no worker has, taking the families in turn."""
        found: list[tuple[int, int, Step]] = []
        for order, family in enumerate(self.families):
            for leg in self._due(family):
                key = self.search_key(family, leg.trial.number)
                if key not in busy:
                    until = leg.until if leg.until < self.study.epochs else None
                    step = Step(key=key, purpose="search", until=until)
                    found.append((leg.decision.number, order, step))
                    break
        return min(found, key=lambda each: each[:2])[2] if found else None

    def _next_confirmation(self, busy: Sequence[TrainingKey]) -> Step | None:
        for key in self.confirmations():
            if key not in self.board.trainings and key not in busy:
                return Step(key=key, purpose="confirmation")
        return None

    def _next_test(self, busy: Sequence[TrainingKey]) -> Step | None:
        """A chosen training without a test score; trained again if its weights are gone."""
        test_metric = f"test_{self.study.objective.metric}"
        for family in self.families:
            for training in self.chosen(family):
                key = training.key
                if test_metric in training.metrics or key in busy:
                    continue
                has_weights = (training_folder(self.folder, key) / WEIGHTS).exists()
                action: Literal["train", "test"] = "test" if has_weights else "train"
                return Step(key=key, purpose="confirmation", action=action)
        return None

    def _next_calibration(self, busy: Sequence[TrainingKey]) -> Step | None:
        """The best trial of a family, if its answers on `select` are not there and can be had."""
        for family in self.families:
            searched = self.board.searched(family)
            best = next(iter(ranked(searched, self.study.objective, self.study.bounds)), None)
            is_due = best and best.key not in self.calibrated and best.key not in busy
            if best is None or not is_due or self.study.family(family).goal != "prediction":
                continue
            folder = training_folder(self.folder, best.key)
            if (folder / WEIGHTS).exists() and not answers_path(folder, "select").exists():
                return Step(key=best.key, purpose="search", action="calibrate")
        return None
