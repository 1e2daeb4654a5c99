"""The ledger against a plain model of it: any order of calls, kills and takeovers."""

import json
import tempfile
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import update

from torchstudy.execution import schema
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.owner import Owner
from torchstudy.records import Epoch, Outcome, Status, TrainingKey, Trial

STUDY = "digits"
SECONDS = 0.5  # of every epoch: sums are exact
GONE = replace(Owner.here(), started="0")  # this process's number, used by an earlier one
numbers = st.integers(0, 1)
attempts = st.integers(0, 1)  # attempts back from the latest


def key(number: int) -> TrainingKey:
    return TrainingKey(family="CNN", number=number, seed=number)


def row(epoch: int) -> Epoch:
    return Epoch(
        epoch=epoch,
        seconds=SECONDS,
        finished="2026-01-01T00:00:00+00:00",
        train_loss=1 / epoch,
        valid_loss=float("nan"),
        learning_rate=0.1,
        grad_norm=1.0,
    )


@dataclass(slots=True, kw_only=True)
class Known:
    """What the ledger should hold of one training."""

    status: Status
    attempt: int
    seconds: float = 0.0
    losses: int = 0
    environment: str = ""
    epochs: dict[int, int] = field(default_factory=dict)  # epoch to attempt
    metrics: dict[str, float] = field(default_factory=dict)


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.url = f"sqlite:///{Path(self.folder.name) / 'studies.sqlite'}"
        self.num_trials, self.known = 0, dict[int, Known]()
        self.state = "running"

    @initialize()
    def begin_study(self) -> None:
        self.ledger = Ledger(self.url)
        assert not self.ledger.claim(STUDY, {"epochs": 3})
        for number in (0, 1):
            self.propose()
            self.begin(number, "aa")

    def teardown(self) -> None:
        self.ledger.close()
        self.folder.cleanup()

    @property
    def holds(self) -> bool:
        return self.state == "running"

    @precondition(lambda self: self.holds)
    @rule()
    def propose(self) -> None:
        trial = Trial(
            family="CNN", number=self.num_trials, config={"width": self.num_trials}, origin="sobol"
        )
        self.ledger.propose(STUDY, [trial])
        self.num_trials += 1

    @precondition(lambda self: self.holds)
    @rule(number=numbers, environment=st.sampled_from(["", "aa", "bb"]))
    def begin(self, number: int, environment: str) -> None:
        attempt = self.ledger.begin(STUDY, key(number), "search", "w", environment)
        known = self.known.setdefault(number, Known(status=Status.RUNNING, attempt=0))
        known.status, known.attempt = Status.RUNNING, known.attempt + 1
        if environment and environment not in known.environment.split("+"):
            known.environment = "+".join(filter(None, (known.environment, environment)))
        assert attempt == known.attempt

    @precondition(lambda self: self.is_any(Status.RUNNING))
    @rule(number=numbers, back=attempts, epoch=st.integers(1, 2))
    def add_epoch(self, number: int, back: int, epoch: int) -> None:
        known = self.known[number]
        attempt = known.attempt - back
        is_new = known.status is Status.RUNNING and back == 0 and epoch not in known.epochs
        assert self.ledger.add_epoch(STUDY, key(number), attempt, row(epoch)) is is_new
        if is_new:
            known.epochs[epoch] = attempt

    @precondition(lambda self: self.is_any(Status.RUNNING))
    @rule(
        number=numbers,
        back=attempts,
        status=st.sampled_from([Status.PAUSED, Status.COMPLETED, Status.CRASHED]),
        is_lost=st.booleans(),
    )
    def end(self, number: int, back: int, status: Status, is_lost: bool) -> None:
        known = self.known[number]
        attempt, metrics = known.attempt - back, {"valid_accuracy": 0.25 * known.attempt}
        outcome = Outcome(status=status, metrics=metrics)
        is_new = known.status is Status.RUNNING and back == 0
        ended = self.ledger.end(STUDY, key(number), attempt, outcome, 2.0, is_lost=is_lost)
        assert ended is is_new
        if is_new:
            known.status, known.metrics = status, metrics
            known.seconds += 2.0
            known.losses += is_lost

    @precondition(lambda self: self.holds)
    @rule(number=numbers)
    def add_test(self, number: int) -> None:
        self.ledger.add_test(STUDY, key(number), {"test_accuracy": 0.5})
        self.known[number].metrics["test_accuracy"] = 0.5

    @precondition(lambda self: self.holds)
    @rule(state=st.sampled_from(["interrupted", "finished"]))
    def release(self, state: str) -> None:
        self.ledger.release(STUDY, state)
        self.state = state
        self.pause_what_runs()

    @rule()
    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = Ledger(self.url)

    @rule()
    def claim(self) -> None:
        assert self.ledger.claim(STUDY, {"epochs": 3}) is (self.state == "finished")
        self.orphans_are_paused()

    @precondition(lambda self: self.holds)
    @rule()
    def die_and_be_taken_over(self) -> None:
        with self.ledger.database.writing() as connection:
            connection.execute(update(schema.studies).values(owner=json.dumps(asdict(GONE))))
        with closing(Ledger(self.url)) as other:
            assert other.claim(STUDY, {"epochs": 3}) is False
        self.ledger.claim(STUDY, {"epochs": 3})
        self.orphans_are_paused()

    def is_any(self, status: Status) -> bool:
        return any(known.status is status for known in self.known.values())

    def orphans_are_paused(self) -> None:
        self.state = "running"
        self.pause_what_runs()

    def pause_what_runs(self) -> None:
        for known in self.known.values():
            if known.status is Status.RUNNING:
                known.status = Status.PAUSED
                mine = [epoch for epoch, by in known.epochs.items() if by == known.attempt]
                known.seconds += SECONDS * len(mine)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        if not hasattr(self, "ledger"):
            return  # before the first rule
        trials = self.ledger.trials(STUDY, "CNN")
        assert [trial.config for trial in trials] == [{"width": n} for n in range(self.num_trials)]
        trainings = {training.trial.number: training for training in self.ledger.trainings(STUDY)}
        assert trainings.keys() == self.known.keys()
        for number, known in self.known.items():
            found = trainings[number]
            assert (found.status, found.attempt) == (known.status, known.attempt)
            assert (found.seconds, found.losses) == (known.seconds, known.losses)
            assert (found.environment, found.metrics) == (known.environment, known.metrics)
        told = [(found.number, str(epoch)) for found, epoch in self.ledger.epochs(STUDY)]
        assert told == [
            (number, str(row(epoch)))
            for number in sorted(self.known)
            for epoch in sorted(self.known[number].epochs)
        ]
        (state,) = self.ledger.studies()
        assert (state.state, state.owner is None) == (self.state, not self.holds)


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(
    max_examples=10,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # to shrink a failure takes minutes, and the steps are few anyway
)
