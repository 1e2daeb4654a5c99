"""What a run does next: decisions read off the board alone, so that a resumed run repeats them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torchstudy.execution.board import Board
from torchstudy.execution.confirm import candidates, chosen_number, confirmation_seeds
from torchstudy.execution.job import WEIGHTS
from torchstudy.execution.outputs import training_folder
from torchstudy.records import Purpose, Status, Training, TrainingKey
from torchstudy.search.proposer import Question, Result
from torchstudy.seeds import derive
from torchstudy.space import Config
from torchstudy.study import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A training to start or to go on with, or a test split to read."""

    key: TrainingKey
    purpose: Purpose
    action: Literal["train", "test"] = "train"


@dataclass(slots=True, kw_only=True)
class Schedule:
    """Decides what to ask, train, confirm and test, in that order of need.

    Families take turns: the lowest trial number first, so that all have had the same budget at any
    time. `families` are those that take part now; `exhausted` those of them of which every
    configuration was tried; `rejected` what the limits forbade, by family and trial number.
    """

    study: Study
    board: Board
    folder: Path
    num_workers: int
    families: list[str]
    exhausted: set[str] = field(default_factory=set)
    rejected: dict[tuple[str, int], list[Config]] = field(default_factory=dict)

    def question(self) -> tuple[str, Question] | None:
        """The next proposal to compute, with its family; None while there is nothing to ask.

        One proposal is kept ready beyond what has started. Question n may use the results of
        trials up to n - 1 - workers, which must have ended, and knows the others as pending: with
        a fixed number of workers the answer does not depend on who finished first.
        """
        wanted = [family for family in self.families if self._wants_proposal(family)]
        for family in sorted(wanted, key=lambda family: len(self.board.trials[family])):
            trials = self.board.trials[family]
            usable = max(0, len(trials) - self.num_workers)
            searched = {t.trial.number: t for t in self.board.searched(family)}
            if all(n in searched and searched[n].status.is_final for n in range(usable)):
                results = [self._result(searched[n]) for n in range(usable)]
                return family, self._question(family, results)
        return None

    def next_step(self, busy: Sequence[TrainingKey]) -> Step | None:
        """What the next free worker should do, given the trainings under way."""
        for key in self.board.paused():
            if key not in busy:
                return Step(key=key, purpose=self.board.trainings[key].purpose)
        if (waiting := self._next_trial()) is not None:
            return Step(key=waiting, purpose="search")
        if self.search_is_over and self.study.confirm is not None:
            return self._next_confirmation(busy) or self._next_test(busy)
        return None

    @property
    def search_is_over(self) -> bool:
        """Whether every family has spent its budget and every trial has ended."""
        is_training = any(
            t.purpose == "search" and not t.status.is_final for t in self.board.trainings.values()
        )
        waits = any(self._is_open(family) for family in self.families)
        return not is_training and not waits and self._next_trial() is None

    def chosen(self, family: str) -> list[Training]:
        """The confirmation trainings of the chosen configuration; empty until all have ended."""
        confirmed = self.board.confirmed(family)
        if not confirmed or not all(t.status.is_final for t in confirmed):
            return []
        number = chosen_number(confirmed, self.study.objective)
        return [training for training in confirmed if training.trial.number == number]

    def confirmations(self) -> Iterator[TrainingKey]:
        """Every training that confirms something, known once the search is over."""
        if self.study.confirm is None:
            return
        count, num_seeds = self.study.confirm
        for family in self.families:
            searched = self.board.searched(family)
            for trial in candidates(searched, self.study.objective, count):
                for seed in confirmation_seeds(self.study.seed, num_seeds):
                    yield TrainingKey(family=family, number=trial.number, seed=seed)

    def num_left(self, family: str) -> int:
        """How many trainings of a family are to come; while the search goes on, at most."""
        ended = [t for t in self.board.searched(family) if t.status.is_final]
        confirmed = {t.key for t in self.board.confirmed(family) if t.status.is_final}
        if self.search_is_over:
            keys = {key for key in self.confirmations() if key.family == family}
            return len(keys - confirmed)
        count, num_seeds = self.study.confirm or (0, 0)
        size = self.study.space_of(self.study.family(family)).size
        trials = max(0, int(min(self.study.trials, size)) - len(ended))
        return trials + max(0, (count + 1) * num_seeds - len(confirmed))

    def search_key(self, family: str, number: int) -> TrainingKey:
        """The key under which the search trains a trial."""
        seed = derive(self.study.seed, family, number, "search")
        return TrainingKey(family=family, number=number, seed=seed)

    def _wants_proposal(self, family: str) -> bool:
        num_started = len(self.board.searched(family))
        return self._is_open(family) and len(self.board.trials[family]) <= num_started

    def _is_open(self, family: str) -> bool:
        """Whether the family may still get new trials."""
        size = self.study.space_of(self.study.family(family)).size
        has_room = len(self.board.trials[family]) < min(self.study.trials, size)
        return has_room and family not in self.exhausted and self._has_time(family)

    def _has_time(self, family: str) -> bool:
        if self.study.minutes is None:
            return True
        return sum(t.seconds for t in self.board.searched(family)) < 60 * self.study.minutes

    def _next_trial(self) -> TrainingKey | None:
        """The first proposed trial that has not started, taking the families in turn."""
        keys = []
        for order, family in enumerate(self.families):
            started = {t.trial.number for t in self.board.searched(family)}
            for trial in self.board.trials[family][: self.study.trials]:
                if trial.number not in started and self._has_time(family):
                    keys.append((trial.number, order, self.search_key(family, trial.number)))
                    break
        return min(keys)[2] if keys else None

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

    def _result(self, training: Training) -> Result:
        is_usable = training.status in (Status.COMPLETED, Status.STOPPED)
        value = training.valid(self.study.objective) if is_usable else None
        return Result(config=dict(training.trial.config), value=value)

    def _question(self, family: str, results: list[Result]) -> Question:
        trials = self.board.trials[family]
        return Question(
            name=f"{self.study.name}/{family}",
            space=self.study.space_of(self.study.family(family)),
            objective=self.study.objective,
            results=results,
            pending=[dict(trial.config) for trial in trials[len(results) :]],
            number=len(trials),
            seed=derive(self.study.seed, family, "search"),
            rejected=self.rejected.get((family, len(trials)), []),
        )

    def reject(self, family: str, config: Config) -> int:
        """Note that a proposal for the family's next trial breaks a limit; how many do by now."""
        refused = self.rejected.setdefault((family, len(self.board.trials[family])), [])
        refused.append(config)
        return len(refused)
