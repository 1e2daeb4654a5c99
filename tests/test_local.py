"""Worker processes: what reaches them, what they send, and what happens when they die."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.test_runner import Linear, assert_same_results, linear_study, run_inline
from torch import nn
from typing_extensions import override

from torchstudy.data.dataset import ImageData
from torchstudy.data.spec import DataSpec
from torchstudy.domains import Choice
from torchstudy.execution.executor import Event
from torchstudy.execution.job import Job
from torchstudy.execution.local import LocalExecutor
from torchstudy.execution.runner import run
from torchstudy.execution.watching import Silent, Subject
from torchstudy.families.base import Family, domains_with_training, family
from torchstudy.records import Epoch, Objective, Outcome, Status, TrainingKey
from torchstudy.space import SearchSpace

pytestmark = pytest.mark.usefixtures("short_reports")


@family
class Deadly(Family):
    """Ends its own process in the way its field says."""

    how: str = Choice("kill", "exit", "talk", default="kill")

    def build(self, data: DataSpec) -> nn.Module:
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "exit":
            os._exit(3)
        print("a family that talks")
        return Linear().build(data)


def job(cls: type[Family], data: ImageData, folder: Path, **config: object) -> Job:
    return Job(
        action="train",
        key=TrainingKey(family=cls.__name__, number=0, seed=1),
        family=cls,
        config={**SearchSpace(domains_with_training(cls)).recipe, **config},  # type: ignore[dict-item]
        objective=Objective(metric="accuracy", direction="maximize"),
        epochs=2,
        purpose="search",
        data=data.handle,
        folder=folder,
    )


def events_of(executor: LocalExecutor, limit: float = 60.0) -> list[Event]:
    events: list[Event] = []
    began = time.monotonic()
    while executor.num_running and time.monotonic() - began < limit:
        executor.wait(events.append, 1.0)
    return events


@pytest.fixture
def executor() -> Iterator[LocalExecutor]:
    made = LocalExecutor(2)
    yield made
    made.close()


def test_a_worker_sends_its_epochs_and_then_its_outcome(
    executor: LocalExecutor, striped: ImageData, tmp_path: Path
) -> None:
    executor.submit(job(Deadly, striped, tmp_path, how="talk"), 1)
    events = events_of(executor)
    assert [type(event.payload) for event in events] == [Epoch, Epoch, Outcome]
    assert isinstance(events[-1].payload, Outcome)
    assert events[-1].payload.status is Status.COMPLETED
    assert "a family that talks" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("kill", "the worker was killed by SIGKILL"),
        ("exit", "the worker ended with exit code 3"),
    ],
)
def test_a_worker_that_dies_is_a_lost_outcome_and_its_neighbour_lives(
    executor: LocalExecutor, striped: ImageData, tmp_path: Path, how: str, reason: str
) -> None:
    executor.submit(job(Deadly, striped, tmp_path / "a", how=how), 1)
    neighbour = job(Linear, striped, tmp_path / "b")
    executor.submit(replace(neighbour, key=replace(neighbour.key, number=1)), 1)
    ended = {e.key.number: e for e in events_of(executor) if isinstance(e.payload, Outcome)}
    assert ended[0].is_lost
    assert ended[0].payload == Outcome(status=Status.CRASHED, reason=reason)
    assert not ended[1].is_lost
    assert isinstance(ended[1].payload, Outcome)
    assert ended[1].payload.status is Status.COMPLETED


def test_a_worker_stops_at_its_next_batch_when_asked(
    executor: LocalExecutor, striped: ImageData, tmp_path: Path
) -> None:
    executor.submit(replace(job(Linear, striped, tmp_path), epochs=10_000), 1)
    events: list[Event] = []
    while not events:
        executor.wait(events.append, 1.0)
    executor.stop()
    *_, last = events_of(executor)
    assert isinstance(last.payload, Outcome)
    assert last.payload.status is Status.PAUSED
    assert (tmp_path / "checkpoint.pt").exists()


def test_processes_and_inline_give_the_same_tables_whatever_the_number_of_workers(
    tmp_path: Path,
) -> None:
    study = linear_study(trials=2)
    expected = run_inline(study, tmp_path / "inline")
    found = run(study, reports=tmp_path / "two", workers=2, quiet=True)
    assert_same_results(found, expected)


def test_a_trial_whose_worker_always_dies_is_tried_three_times_then_crashed(
    tmp_path: Path,
) -> None:
    class Counting(Silent):
        attempts = 0

        @override
        def started(self, subject: Subject) -> None:
            self.attempts += 1

    watcher = Counting()
    study = linear_study(families=[Deadly], trials=1, space={"how": "exit"}, confirm=None)
    results = run(study, reports=tmp_path, workers=1, watcher=watcher)
    assert watcher.attempts == 3
    assert results.trials["status"].tolist() == ["crashed"]
    assert results.trials["reason"].tolist() == ["the worker ended with exit code 3"]
