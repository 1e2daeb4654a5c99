"""A clock that is set back or forward changes no duration and no order; time stamps are UTC."""

import ast
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from tests.postgres import KINDS, new_url
from tests.training_jobs import job_for, run_job

import torchstudy
from torchstudy import MLP
from torchstudy.data.dataset import ImageData
from torchstudy.execution import database
from torchstudy.execution.ledger import Ledger
from torchstudy.records import Epoch, Outcome, Status, TrainingKey, Trial
from torchstudy.training import trainer

PACKAGE = Path(torchstudy.__file__).parent
WALL_CLOCK = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today"}
# Time stamps of rows, runs and copies; an age is only asked of files, which are stamped likewise.
STAMPS = {
    "data/cachefolder.py: time.time",
    "execution/database.py: datetime.now",
    "execution/integrity.py: datetime.now",
    "following.py: datetime.now",
    "scratch.py: time.time",
    "training/together/epoch.py: datetime.now",
    "training/trainer.py: datetime.now",
}


class Jumping(datetime):
    """A clock that goes an hour back each time it is looked at, after a leap into next year."""

    looks = 0

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        Jumping.looks += 1
        return datetime(2027, 3, 28, 1, 30, tzinfo=tz) - timedelta(hours=Jumping.looks)


def epoch(number: int) -> Epoch:
    return Epoch(
        epoch=number,
        seconds=0.5,
        finished=Jumping.now(UTC).isoformat(),
        train_loss=0.5,
        valid_loss=0.5,
        learning_rate=0.1,
        grad_norm=1.0,
    )


def wall_clock_calls() -> Iterator[str]:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in WALL_CLOCK:
                yield f"{path.relative_to(PACKAGE).as_posix()}: {ast.unparse(node.func)}"


def test_the_time_of_day_is_only_asked_for_time_stamps() -> None:
    assert set(wall_clock_calls()) == STAMPS


def test_a_training_takes_as_long_as_it_takes_whatever_the_clock_says(
    tmp_path: Path, striped: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.perf_counter()
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "datetime", Jumping)
        patch.setattr(time, "time", lambda: Jumping.now(UTC).timestamp())
        outcome, rows = run_job(job_for(MLP, striped, tmp_path, epochs=3))
    passed = time.perf_counter() - began
    assert outcome.status is Status.COMPLETED
    assert [row.epoch for row in rows] == [1, 2, 3]
    assert rows[0].finished > rows[1].finished > rows[2].finished
    for row in rows:
        assert all(seconds >= 0 for seconds in (row.seconds, *row.parts.values()))
    assert 0 < sum(row.seconds for row in rows) <= passed


@pytest.mark.parametrize("kind", KINDS)
def test_the_ledger_keeps_its_order_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(database, "datetime", Jumping)
    with closing(Ledger(new_url(kind, tmp_path))) as ledger:
        ledger.claim("digits", {})
        for number in range(3):
            trial = Trial(family="CNN", number=number, config={"at": number}, origin="sobol")
            ledger.propose("digits", [trial])
            key = TrainingKey(family="CNN", number=number, seed=9 - number)
            attempt = ledger.begin("digits", key, "search", "w")
            for at in (1, 2):
                assert ledger.add_epoch("digits", key, attempt, epoch(at))
            ledger.end("digits", key, attempt, Outcome(status=Status.COMPLETED), 2.0)
        assert [trial.number for trial in ledger.trials("digits", "CNN")] == [0, 1, 2]
        trainings = ledger.trainings("digits")
        assert [training.trial.number for training in trainings] == [0, 1, 2]
        assert [training.seconds for training in trainings] == [2.0, 2.0, 2.0]
        assert trainings[0].started > trainings[0].finished > trainings[1].started
        told = [(key.number, row.epoch) for key, row in ledger.epochs("digits")]
        assert told == [(number, at) for number in range(3) for at in (1, 2)]


def test_time_stamps_are_utc_wherever_the_machine_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Australia/Lord_Howe")  # half an hour of daylight saving
    time.tzset()
    try:
        stamp = datetime.fromisoformat(database.now())
    finally:
        monkeypatch.undo()
        time.tzset()
    assert stamp.utcoffset() == timedelta(0)
    assert abs(stamp - datetime.now(UTC)) < timedelta(seconds=60)
