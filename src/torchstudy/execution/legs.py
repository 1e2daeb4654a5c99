"""How far a search has come: the parts of trainings that its decisions stand for, in order."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from torchstudy.execution.board import Board
from torchstudy.records import Decision, Status, Training, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """A decision with its trial: the training goes on until epoch `until`, or to its own end."""

    decision: Decision
    trial: Trial
    until: int

    @property
    def is_promotion(self) -> bool:
        """Whether it goes on with a trial that has waited."""
        return self.decision.origin == "promotion"


@dataclass(slots=True, kw_only=True)
class Legs:
    """The legs of every family of a study, read off the board.

    `epochs` is the full length of a training, `trials` how many a family may have: those above that
    have not begun, of a run with a larger budget, are left out.
    """

    board: Board
    epochs: int
    trials: int
    _front: dict[str, int] = field(default_factory=dict)  # all legs before it have ended

    def of(self, family: str) -> list[Leg]:
        """All legs of a family, by decision."""
        decided = self.board.decided[family]
        return [self._leg(family, decision, number) for decision, number in decided]

    def count(self, family: str) -> int:
        """How many decisions there are."""
        return len(self.board.decided[family])

    def unended(self, family: str) -> Iterator[Leg]:
        """The legs that have not ended, by decision."""
        decided = self.board.decided[family]
        front = self._front.get(family, 0)
        for place in range(front, len(decided)):
            decision, number = decided[place]
            leg = self._leg(family, decision, number)
            if not self.is_ended(leg):
                if number < self.trials or self.training(leg) is not None:
                    yield leg
            elif place == front:
                front = self._front[family] = place + 1

    def is_ended(self, leg: Leg) -> bool:
        """Whether its training has got to where the leg ends, or to its own end.

        A trial is decided of again only once its leg has ended.
        """
        decisions = leg.trial.decisions
        if decisions and leg.decision.number < decisions[-1].number:
            return True
        training = self.training(leg)
        if training is None or training.status is Status.RUNNING:
            return False
        if training.status not in (Status.PAUSED, Status.STOPPED):
            return True
        return leg.until < self.epochs and training.epochs >= leg.until

    def training(self, leg: Leg) -> Training | None:
        """The search's training of the leg's trial; None if it has not begun."""
        return self.board.search_of(leg.trial.family, leg.trial.number)

    def began_again(self, leg: Leg) -> bool:
        """Whether its training crashed and began again since it was decided."""
        training = self.training(leg)
        if training is None or not training.earlier:
            return False
        return leg.decision.decided <= training.earlier[-1].finished

    def resting(self, family: str) -> list[Training]:
        """The trainings that wait at a rung: they go on if they are promoted."""
        return [
            training for training in self.board.searched(family) if training.is_resting(self.epochs)
        ]

    def _leg(self, family: str, decision: Decision, number: int) -> Leg:
        trial = self.board.trials[family][number]
        return Leg(decision=decision, trial=trial, until=decision.until or self.epochs)
