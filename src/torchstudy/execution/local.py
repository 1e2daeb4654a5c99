"""Jobs on this machine: one process per job, one thread each, as many at a time as asked for."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from typing_extensions import override

from torchstudy.execution.executor import Event, Executor, Handler, attempts_of
from torchstudy.execution.forkserver import start_process
from torchstudy.execution.job import Job
from torchstudy.execution.joint import run_all
from torchstudy.families.backbones import adopt_backbones, registered_backbones
from torchstudy.records import Outcome, Status, TrainingKey

LOG = "log.txt"
GRACE = 10.0  # seconds for a worker to end after its outcome, before it is killed


@dataclass(slots=True, kw_only=True)
class _Worker:
    job: Job
    attempts: dict[TrainingKey, int]  # of the trainings that have not ended
    process: ForkServerProcess
    connection: Connection
    began: float


class LocalExecutor(Executor):
    """One process per job. A worker that dies becomes an outcome; nothing it does ends the run."""

    def __init__(self, num_workers: int) -> None:
        self.num_workers = num_workers
        self._workers: list[_Worker] = []

    @override
    def submit(self, job: Job, attempt: int) -> None:
        ours, theirs = Pipe()
        job.folder.mkdir(parents=True, exist_ok=True)
        name = f"{job.key.family}-{job.key.number}"
        process = start_process(_work, theirs, _Assignment(job), name=name)
        theirs.close()
        self._workers.append(
            _Worker(
                job=job,
                attempts=attempts_of(job, attempt),
                process=process,
                connection=ours,
                began=time.monotonic(),
            )
        )

    @property
    @override
    def num_running(self) -> int:
        return len(self._workers)

    @override
    def wait(self, handle: Handler, timeout: float) -> None:
        ready: list[Any] = [worker.connection for worker in self._workers]
        if not ready:
            time.sleep(min(timeout, 0.05))
            return
        arrived = wait(ready, timeout)
        for worker in [worker for worker in self._workers if worker.connection in arrived]:
            for event in _events(worker):
                if isinstance(event.payload, Outcome):
                    del worker.attempts[event.key]
                if not worker.attempts:
                    self._dismiss(worker)
                handle(event)

    @override
    def stop(self) -> None:
        for worker in self._workers:
            try:
                worker.connection.send("stop")
            except OSError:
                continue  # it has just ended; its outcome is on the way

    @override
    def close(self) -> None:
        for worker in list(self._workers):
            worker.process.kill()
            self._dismiss(worker)

    def _dismiss(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.process.join(GRACE)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.process.close()
        worker.connection.close()


class _Assignment:
    """A job and what its worker must know of this process."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.family = job.family
        self.backbones = registered_backbones()


def _events(worker: _Worker) -> list[Event]:
    """The next message; when the connection has ended, the worker's death for all it had to do."""
    seconds = (time.monotonic() - worker.began) / (1 + len(worker.job.companions))
    try:
        key, payload = worker.connection.recv()
        attempt = worker.attempts[key]
        return [Event(key=key, attempt=attempt, payload=payload, seconds=seconds)]
    except (EOFError, ConnectionResetError):
        worker.process.join(GRACE)
        death = _death(worker)
        return [
            Event(key=key, attempt=attempt, payload=death, seconds=seconds, is_lost=True)
            for key, attempt in worker.attempts.items()
        ]


def _death(worker: _Worker) -> Outcome:
    code = worker.process.exitcode
    if code is not None and code < 0:
        how = f"was killed by {signal.Signals(-code).name}"
        how += " (out of memory?)" if code == -signal.SIGKILL else ""
    else:
        how = f"ended with exit code {code}"
    reason = f"the worker {how}\n{_log_tail(worker.job.folder / LOG)}".rstrip()
    return Outcome(status=Status.CRASHED, reason=reason)


def _log_tail(path: Path, lines: int = 15) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def _work(connection: Connection, assignment: _Assignment) -> None:
    """The body of a worker: do the job, send what happens, end with the outcome."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator decides what an interrupt means
    job = assignment.job
    _redirect_output(job.folder / LOG)
    adopt_backbones(assignment.backbones)
    torch.set_num_threads(1)

    def should_stop() -> bool:
        return connection.poll()

    run_all(job, lambda key, payload: connection.send((key, payload)), should_stop)
    connection.close()


def _redirect_output(path: Path) -> None:
    """Whatever a family prints goes to a file beside its checkpoint, not over the display."""
    sys.stdout.flush()
    sys.stderr.flush()
    with path.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
