"""What a run knows, in memory: the ledger's contents, each change written there first."""

from collections.abc import Sequence

from torchstudy.execution.ledger import Ledger
from torchstudy.records import Epoch, Outcome, Purpose, Status, Training, TrainingKey, Trial


class Board:
    """The trials and trainings of one study while it runs. Rebuilt from the ledger at any time."""

    def __init__(self, ledger: Ledger, study: str, families: Sequence[str]) -> None:
        self.ledger = ledger
        self.study = study
        self.trials = {family: ledger.trials(study, family) for family in families}
        self.trainings: dict[TrainingKey, Training] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the trainings again."""
        self.trainings = {t.key: t for t in self.ledger.trainings(self.study)}

    def propose(self, trials: Sequence[Trial]) -> None:
        """Record proposals."""
        self.ledger.propose(self.study, trials)
        for trial in trials:
            self.trials[trial.family].append(trial)

    def begin(self, key: TrainingKey, purpose: Purpose, worker: str) -> int:
        """Record that a training starts or goes on; the number of the attempt."""
        attempt = self.ledger.begin(self.study, key, purpose, worker)
        self._reread(key)
        return attempt

    def add_epoch(self, key: TrainingKey, attempt: int, row: Epoch) -> bool:
        """Record an epoch; False if it was known or comes from an attempt given up."""
        return self.ledger.add_epoch(self.study, key, attempt, row)

    def epochs(self, key: TrainingKey) -> list[Epoch]:
        """The epochs of one training, in order."""
        return [row for _, row in self.ledger.epochs(self.study, key)]

    def end(self, key: TrainingKey, attempt: int, outcome: Outcome, seconds: float) -> bool:
        """Record how an attempt ended; False if it had been given up."""
        is_new = self.ledger.end(self.study, key, attempt, outcome, seconds)
        self._reread(key)
        return is_new

    def add_test(self, key: TrainingKey, outcome: Outcome) -> None:
        """Record a reading of the test split."""
        self.ledger.add_test(self.study, key, outcome.metrics)
        self._reread(key)

    def searched(self, family: str) -> list[Training]:
        """The search trainings of a family, by trial number."""
        return self._of(family, "search")

    def confirmed(self, family: str) -> list[Training]:
        """The confirmation trainings of a family, by trial number."""
        return self._of(family, "confirmation")

    def paused(self) -> list[TrainingKey]:
        """Trainings that were begun and wait to go on, the lowest trial number first."""
        waiting = [key for key, t in self.trainings.items() if t.status is Status.PAUSED]
        return sorted(waiting, key=lambda key: (key.number, key.family, key.seed))

    def trial(self, key: TrainingKey) -> Trial:
        """The trial that a training belongs to."""
        return self.trials[key.family][key.number]

    def _of(self, family: str, purpose: Purpose) -> list[Training]:
        found = [
            training
            for key, training in self.trainings.items()
            if key.family == family and training.purpose == purpose
        ]
        return sorted(found, key=lambda training: training.trial.number)

    def _reread(self, key: TrainingKey) -> None:
        self.trainings[key] = self.ledger.training(self.study, key)
