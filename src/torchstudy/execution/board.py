"""What a run knows, in memory: the ledger's contents, each change written there first."""

from collections.abc import Sequence

from torchstudy.execution.ledger import Ledger
from torchstudy.records import (
    Decision,
    Epoch,
    Outcome,
    Purpose,
    Status,
    Training,
    TrainingKey,
    Trial,
)

TO_THE_END = 0  # stands for the full length, where a trial has no decision of its own


class Board:
    """The trials and trainings of one study while it runs. Rebuilt from the ledger at any time."""

    def __init__(self, ledger: Ledger, study: str, families: Sequence[str]) -> None:
        self.ledger = ledger
        self.study = study
        self.trials = {family: ledger.trials(study, family) for family in families}
        self.decided = {family: _decided(trials) for family, trials in self.trials.items()}
        self.trainings: dict[TrainingKey, Training] = {}
        self._groups: dict[tuple[str, Purpose], dict[TrainingKey, Training]] = {}
        self._paused: set[TrainingKey] = set()
        self._searched: dict[tuple[str, int], TrainingKey] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the trainings again."""
        self.trainings, self._groups, self._paused, self._searched = {}, {}, set(), {}
        for training in self.ledger.trainings(self.study):
            self._note(training)

    def propose(self, trials: Sequence[Trial]) -> None:
        """Record proposals."""
        self.ledger.propose(self.study, trials)
        for trial in trials:
            self.trials[trial.family].append(trial)
            self.decided[trial.family] += _decided([trial])

    def promote(self, trial: Trial) -> None:
        """Record the last of a trial's decisions, which is to go on with it."""
        self.ledger.promote(self.study, trial)
        self.trials[trial.family][trial.number] = trial
        self.decided[trial.family].append((trial.decisions[-1], trial.number))
        self._reread(self._searched[trial.family, trial.number])

    def stop(self, keys: Sequence[TrainingKey], reason: str) -> None:
        """Record that trainings which wait are not gone on with."""
        self.ledger.stop(self.study, keys, reason)
        for key in keys:
            self._reread(key)

    def begin(self, key: TrainingKey, purpose: Purpose, worker: str, environment: str = "") -> int:
        """Record that a training starts or goes on; the number of the attempt."""
        attempt = self.ledger.begin(self.study, key, purpose, worker, environment)
        self._reread(key)
        return attempt

    def add_epoch(self, key: TrainingKey, attempt: int, row: Epoch) -> bool:
        """Record an epoch; False if it was known or comes from an attempt given up."""
        return self.ledger.add_epoch(self.study, key, attempt, row)

    def epochs(self, key: TrainingKey) -> list[Epoch]:
        """The epochs of one training, in order."""
        return [row for _, row in self.ledger.epochs(self.study, key)]

    def end(
        self,
        key: TrainingKey,
        attempt: int,
        outcome: Outcome,
        seconds: float,
        *,
        is_lost: bool = False,
    ) -> bool:
        """Record how an attempt ended, or that its worker was lost; False if it was given up."""
        is_new = self.ledger.end(self.study, key, attempt, outcome, seconds, is_lost=is_lost)
        self._reread(key)
        return is_new

    def add_test(self, key: TrainingKey, outcome: Outcome) -> None:
        """Record a reading of the test split."""
        self.ledger.add_test(self.study, key, outcome.metrics)
        self._reread(key)

    def searched(self, family: str) -> list[Training]:
        """The search trainings of a family, by trial number."""
        return self._of(family, "search")

    def search_of(self, family: str, number: int) -> Training | None:
        """The search's training of a trial; None if it has not begun."""
        key = self._searched.get((family, number))
        return None if key is None else self.trainings[key]

    def confirmed(self, family: str) -> list[Training]:
        """The confirmation trainings of a family, by trial number."""
        return self._of(family, "confirmation")

    def paused(self) -> list[TrainingKey]:
        """Trainings that were begun and wait to go on, the lowest trial number first."""
        return sorted(self._paused, key=lambda key: (key.number, key.family, key.seed))

    def trial(self, key: TrainingKey) -> Trial:
        """The trial that a training belongs to."""
        return self.trials[key.family][key.number]

    def _of(self, family: str, purpose: Purpose) -> list[Training]:
        return list(self._groups.get((family, purpose), {}).values())

    def _reread(self, key: TrainingKey) -> None:
        self._note(self.ledger.training(self.study, key))

    def _note(self, training: Training) -> None:
        """Put a training, or what it has become, where it is looked for."""
        key, place = training.key, (training.trial.family, training.purpose)
        group = self._groups.setdefault(place, {})
        is_next = key in group or not group or next(reversed(group)).number <= key.number
        self.trainings[key] = group[key] = training
        if training.purpose == "search":
            self._searched[key.family, key.number] = key
        if not is_next:
            by_number = sorted(group.items(), key=lambda item: item[0].number)
            self._groups[place] = dict(by_number)
        (self._paused.add if training.status is Status.PAUSED else self._paused.discard)(key)


def _decided(trials: Sequence[Trial]) -> list[tuple[Decision, int]]:
    """Every decision with the number of its trial, in order."""
    found = [
        (decision, trial.number)
        for trial in trials
        for decision in trial.decisions or (_implied(trial),)
    ]
    return sorted(found, key=lambda each: each[0].number)


def _implied(trial: Trial) -> Decision:
    """The decision behind a trial of a version that trained all to their end."""
    return Decision(number=trial.number, until=TO_THE_END, origin=trial.origin)
