"""The seam between the run loop and what trains: submit jobs, hear of epochs and outcomes."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from typing_extensions import override

from torchstudy.execution.job import Job, Note
from torchstudy.execution.joint import run_all
from torchstudy.records import Epoch, Outcome, TrainingKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What one attempt at a training has to say, `seconds` after it started.

    Trainings that go together in one job share its seconds. `is_lost` marks an outcome that the
    job did not report itself: its worker died.
    """

    key: TrainingKey
    attempt: int
    payload: Epoch | Note | Outcome
    seconds: float = 0.0
    is_lost: bool = False


Handler = Callable[[Event], None]


def attempts_of(job: Job, attempt: int) -> dict[TrainingKey, int]:
    """Which attempt every training of a job is at; `attempt` is that of the job's own."""
    return {job.key: attempt, **{other.key: other.attempt for other in job.companions}}


class Executor(ABC):
    """Runs jobs somewhere and reports. One thread uses it."""

    num_workers: int

    @abstractmethod
    def submit(self, job: Job, attempt: int) -> None:
        """Start a job; at most `num_workers` run at a time."""

    @property
    @abstractmethod
    def num_running(self) -> int:
        """How many jobs have not ended."""

    @abstractmethod
    def wait(self, handle: Handler, timeout: float) -> None:
        """Give `handle` what has come in, waiting up to `timeout` seconds for something."""

    @abstractmethod
    def stop(self) -> None:
        """Ask every running job to stop at its next batch; each ends as paused."""

    @abstractmethod
    def close(self) -> None:
        """End whatever still runs and free everything."""


class InlineExecutor(Executor):
    """Runs one job at a time in this process: for tests, debuggers and notebooks."""

    num_workers = 1

    def __init__(self) -> None:
        self._queued: list[tuple[Job, int]] = []
        self._is_stopping = False

    @override
    def submit(self, job: Job, attempt: int) -> None:
        self._queued.append((job, attempt))

    @property
    @override
    def num_running(self) -> int:
        return len(self._queued)

    @override
    def wait(self, handle: Handler, timeout: float) -> None:
        if not self._queued:
            time.sleep(min(timeout, 0.01))
            return
        job, attempt = self._queued[0]
        attempts = attempts_of(job, attempt)
        began = time.monotonic()

        def report(key: TrainingKey, payload: Epoch | Note | Outcome) -> None:
            if isinstance(payload, Outcome) and self._queued:
                del self._queued[0]
            seconds = (time.monotonic() - began) / len(attempts)
            handle(Event(key=key, attempt=attempts[key], payload=payload, seconds=seconds))

        run_all(job, report, lambda: self._is_stopping)

    @override
    def stop(self) -> None:
        self._is_stopping = True

    @override
    def close(self) -> None:
        self._queued.clear()
