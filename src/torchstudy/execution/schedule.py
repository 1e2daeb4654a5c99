"""What a run does next: decisions read off the board alone, so that a resumed run repeats them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torchstudy.execution.board import Board
from torchstudy.execution.confirm import candidates, chosen_number, confirmation_seeds
from torchstudy.execution.job import WEIGHTS
from torchstudy.execution.outputs import training_folder
from torchstudy.records import Purpose, Status, Training, TrainingKey
from torchstudy.search.proposer import Question, Result, num_needed
from torchstudy.seeds import derive
from torchstudy.space import Config, SearchSpace
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
    _spaces: dict[str, SearchSpace] = field(init=False)

    def __post_init__(self) -> None:
        self._spaces = {cls.__name__: self.study.space_of(cls) for cls in self.study.families}

    def question(self) -> tuple[str, Question] | None:
        """The next proposal to compute, with its family; None while there is nothing to ask.

        Question n may use the results of trials up to n - 1 - `lag`, which must have ended, and
        knows the others as pending: with a fixed number of workers the answer does not depend on
        who finished first. It is asked as soon as those results are there, however many proposals
        wait for a worker already. The first questions use no results and are asked at once.
        """
        wanted = [family for family in self.families if self._is_open(family)]
        for family in sorted(wanted, key=lambda family: len(self.board.trials[family])):
            number = len(self.board.trials[family])
            usable = num_needed(self._spaces[family], number, self.lag)
            searched = {t.trial.number: t for t in self.board.searched(family)}
            if all(n in searched and searched[n].status.is_final for n in range(usable)):
                results = [self._result(searched[n]) for n in range(usable)]
                return family, self._question(family, results)
        return None

    @property
    def lag(self) -> int:
        """How many trials before it a proposal does not know the results of.

        One per worker is what workers need that never wait for each other. Half a trial more per
        worker, shared by the families that take turns, lets them go on while a proposal is
        computed or one trial takes long; each costs the search a little (benchmarks/idle.py).
        """
        return self.num_workers + self.num_workers // (2 * len(self.study.families))

    @property
    def wants_proposals(self) -> bool:
        """Whether any family may still get new trials."""
        return any(self._is_open(family) for family in self.families)

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
        """Whether every family has spent its budget and every trial has ended."""
        is_training = any(
            t.purpose == "search" and not t.status.is_final for t in self.board.trainings.values()
        )
        return not is_training and not self.wants_proposals and self._next_trial() is None

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
        most = int(min(self.study.trials, self._spaces[family].size))
        trials = max(0, most - len(ended))
        return trials + max(0, (count + 1) * num_seeds - len(confirmed))

    def search_key(self, family: str, number: int) -> TrainingKey:
        """The key under which the search trains a trial."""
        seed = derive(self.study.seed, family, number, "search")
        return TrainingKey(family=family, number=number, seed=seed)

    def _is_open(self, family: str) -> bool:
        """Whether the family may still get new trials."""
        most = min(self.study.trials, self._spaces[family].size)
        has_room = len(self.board.trials[family]) < most
        return has_room and family not in self.exhausted and self._has_time(family)

    def _has_time(self, family: str) -> bool:
        if self.study.minutes is None:
            return True
        return sum(t.seconds for t in self.board.searched(family)) < 60 * self.study.minutes

    def _is_unfinished(self, key: TrainingKey) -> bool:
        training = self.board.trainings.get(key)
        return training is None or not training.status.is_final

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
        value = training.valid(self.study.objective)
        is_number = is_usable and math.isfinite(value)  # Ax never recovers from one infinity
        return Result(config=dict(training.trial.config), value=value if is_number else None)

    def _question(self, family: str, results: list[Result]) -> Question:
        trials = self.board.trials[family]
        return Question(
            name=f"{self.study.name}/{family}",
            space=self._spaces[family],
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
