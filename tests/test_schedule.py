"""What a free worker does next: decisions in their order, the families in turn."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.test_runner import Linear, linear_study

from torchstudy.data.dataset import ImageData
from torchstudy.domains import Float
from torchstudy.execution.asking import InlineAsker
from torchstudy.execution.board import Board
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.proposing import Proposing
from torchstudy.execution.schedule import Schedule
from torchstudy.execution.watching import Silent
from torchstudy.families.cnn import CNN
from torchstudy.models.limits import Limits
from torchstudy.records import Outcome, Status, TrainingKey
from torchstudy.search.proposer import num_initial
from torchstudy.space import Config
from torchstudy.study import Study

pytestmark = pytest.mark.usefixtures("short_reports")

ONE_DIMENSION = {
    "scale": Float(0.5, 2.0, default=1.0),
    "batch_size": 32,
    "optimizer": "adam",
    "learning_rate": 0.01,
    "weight_decay": 0.0,
    "schedule": "cosine",
}  # two trials come before a model is asked


class Search:
    """The loop of a run with workers that train nothing: a trial ends when `end` says so."""

    def __init__(self, study: Study, data: ImageData, num_workers: int, ledger: Ledger) -> None:
        names = [family.__name__ for family in study.families]
        self.num_workers = num_workers
        self.board = Board(ledger, study.name, names)
        self.schedule = Schedule(
            study=study, board=self.board, folder=Path(), num_workers=num_workers, families=names
        )
        self.proposing = Proposing(
            study=study,
            board=self.board,
            inquiry=self.schedule.inquiry,
            asker=InlineAsker(),
            limits=Limits(study, data.spec),
            watcher=Silent(),
        )
        self.running: list[TrainingKey] = []

    def fill(self) -> None:
        """Ask what can be asked and give every free worker a trial, if there is one."""
        self.proposing.go_on()
        while len(self.running) < self.num_workers:
            step = self.schedule.next_step(self.running)
            if step is None:
                return
            self.board.begin(step.key, step.purpose, "worker")
            self.running.append(step.key)

    def end(self, place: int) -> None:
        """The running trial at `place` ends, with a value that its configuration decides."""
        key = self.running.pop(place)
        scale = self.configs(key.family)[key.number].get("scale", 1.0)
        assert isinstance(scale, float)
        metrics = {"valid_accuracy": 1 - (scale - 1.3) ** 2, "valid_loss": 0.0}
        outcome = Outcome(status=Status.COMPLETED, epochs=1, metrics=metrics)
        self.board.end(key, self.board.trainings[key].attempt, outcome, 1.0)

    def configs(self, family: str) -> Sequence[Config]:
        return [dict(trial.config) for trial in self.board.trials[family]]

    def ended(self, family: str) -> set[int]:
        return {t.trial.number for t in self.board.searched(family) if t.status.is_final}


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger("sqlite://")
    ledger.claim("lines", {})
    return ledger


def one_dimensional(trials: int) -> Study:
    return linear_study(space=ONE_DIMENSION, trials=trials, confirm=None)


def test_half_a_trial_more_than_workers_is_shared_by_the_families(
    ledger: Ledger, striped: ImageData
) -> None:
    one = linear_study()
    two = linear_study(families=[Linear, CNN])
    lags = [
        [Search(study, striped, workers, ledger).schedule.inquiry.lag for workers in (1, 2, 4, 8)]
        for study in (one, two)
    ]
    assert lags == [[1, 3, 6, 12], [1, 2, 5, 10]]


def test_what_needs_no_result_is_asked_at_once(ledger: Ledger, striped: ImageData) -> None:
    study = linear_study(families=[Linear, CNN], trials=20, confirm=None)
    search = Search(study, striped, 2, ledger)
    search.fill()
    for family in study.families:
        expected = num_initial(study.space_of(family))
        assert len(search.configs(family.__name__)) == expected == 8
    assert len(search.running) == 2
    assert search.schedule.wants_proposals


def test_no_more_is_decided_than_workers_need(ledger: Ledger, striped: ImageData) -> None:
    search = Search(one_dimensional(6), striped, 2, ledger)
    search.fill()  # two trials train, and one waits for a worker
    assert [key.number for key in search.running] == [0, 1]
    assert len(search.configs("Linear")) == 4
    assert search.schedule.inquiry.question() is None
    search.end(1)
    search.fill()
    assert [key.number for key in search.running] == [0, 2]
    assert len(search.configs("Linear")) == 5  # whoever ends first


def test_families_take_turns(ledger: Ledger, striped: ImageData) -> None:
    study = linear_study(families=[Linear, CNN], trials=3, confirm=None)
    search = Search(study, striped, 1, ledger)
    order = []
    search.fill()
    while search.running:
        order.append((search.running[0].family, search.running[0].number))
        search.end(0)
        search.fill()
    assert order == [(name, number) for number in range(3) for name in ("Linear", "CNN")]
    assert search.schedule.search_is_over
