"""Jobs on this machine: one process per job, one thread each, as many at a time as asked for.

A worker that dies, hangs or needs too much memory becomes an outcome of its own trainings.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from typing_extensions import override

from torchstudy.execution.executor import Event, Executor, Handler, attempts_of
from torchstudy.execution.forkserver import start_process
from torchstudy.execution.job import Job
from torchstudy.execution.joint import run_all
from torchstudy.execution.memory import KernelKills, fair_share, limit_memory, offer_to_kernel
from torchstudy.execution.watchdog import (
    Attention,
    Patience,
    Silence,
    hang_reason,
    show_stack_on_request,
)
from torchstudy.families.backbones import adopt_backbones, registered_backbones
from torchstudy.files import cache_folder
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
    silence: Silence


class LocalExecutor(Executor):
    """One process per job. A worker that dies becomes an outcome; nothing it does ends the run.

    `memory` is what each may have, in bytes; a fair share of what is free if left out.
    """

    def __init__(
        self, num_workers: int, *, memory: float | None = None, patience: Patience | None = None
    ) -> None:
        self.num_workers = num_workers
        self._memory = fair_share(num_workers) if memory is None else memory
        self._patience = patience or Patience()
        self._attention = Attention(self._patience.beat)
        self._kernel_kills = KernelKills()
        self._workers: list[_Worker] = []

    @override
    def submit(self, job: Job, attempt: int) -> None:
        ours, theirs = Pipe()
        job.folder.mkdir(parents=True, exist_ok=True)
        name = f"{job.key.family}-{job.key.number}"
        assignment = _Assignment(job, self._memory, self._patience.beat)
        process = start_process(_work, theirs, assignment, name=name)
        theirs.close()
        assert process.pid is not None
        self._workers.append(
            _Worker(
                job=job,
                attempts=attempts_of(job, attempt),
                process=process,
                connection=ours,
                began=time.monotonic(),
                silence=Silence(pid=process.pid, since=self._attention.look()),
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
        now = self._attention.look(timeout)
        self._kernel_kills.look()
        for worker in list(self._workers):
            if worker.connection in arrived:
                worker.silence.heard(now)
                events = self._events(worker)
            else:
                events = self._hang(worker, now)
            self._hand_over(worker, events, handle)

    def _hand_over(self, worker: _Worker, events: list[Event], handle: Handler) -> None:
        for event in events:
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

    def _events(self, worker: _Worker) -> list[Event]:
        """The next message; when the connection has ended, the worker's death for all it did."""
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join(GRACE)
            return _lost(worker, self._death(worker))
        if message is None:  # a sign of life
            return []
        key, payload = message
        return [
            Event(
                key=key,
                attempt=worker.attempts[key],
                payload=payload,
                seconds=_seconds(worker),
            )
        ]

    def _hang(self, worker: _Worker, now: float) -> list[Event]:
        """The end of a worker that has been silent for too long; nothing for any other."""
        limit = worker.silence.too_long(now, self._patience)
        if limit is None:
            return []
        reason = hang_reason(worker.silence, now, limit, worker.job.folder / LOG)
        worker.process.kill()
        worker.process.join()
        return _lost(worker, Outcome(status=Status.TIMED_OUT, reason=reason))

    def _death(self, worker: _Worker) -> Outcome:
        """What a worker died of; the kernel counts whom it kills for want of memory."""
        code = worker.process.exitcode
        how = f"ended with exit code {code}"
        status = Status.CRASHED
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
            if code == -signal.SIGKILL and self._kernel_kills.take():
                how, status = "was killed as no memory was left", Status.OUT_OF_MEMORY
        tail = log_tail(worker.job.folder / LOG)
        return Outcome(status=status, reason=f"{tail}\nthe worker {how}".lstrip())

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

    def __init__(self, job: Job, memory: float, beat: float) -> None:
        self.job = job
        self.family = job.family
        self.backbones = registered_backbones()
        self.memory, self.beat = memory, beat


def _lost(worker: _Worker, outcome: Outcome) -> list[Event]:
    """The same end for all trainings of a worker that had not ended.

    One that the kernel killed for memory is an answer, unless it trained several as one network.
    """
    is_lost = outcome.status is not Status.OUT_OF_MEMORY or bool(worker.job.companions)
    return [
        Event(key=key, attempt=attempt, payload=outcome, seconds=_seconds(worker), is_lost=is_lost)
        for key, attempt in worker.attempts.items()
    ]


def _seconds(worker: _Worker) -> float:
    return (time.monotonic() - worker.began) / (1 + len(worker.job.companions))


def log_tail(path: Path, lines: int = 15) -> str:
    """The last lines of what a worker has printed; empty if there is nothing to read."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])
    except OSError:
        return ""


def _work(connection: Connection, assignment: _Assignment) -> None:
    """The body of a worker: do the job, send what happens, end with the outcome."""
    import torch

    job = assignment.job
    offer_to_kernel()
    _redirect_output(job.folder / LOG)
    show_stack_on_request(sys.stderr.fileno())
    if job.device == "cpu":
        limit_memory(assignment.memory, _mapped(job))
    adopt_backbones(assignment.backbones)
    torch.set_num_threads(1)
    connection.send(None)  # it has begun
    should_stop = _asked_to_stop(connection, assignment.beat)
    run_all(job, lambda key, payload: connection.send((key, payload)), should_stop)
    connection.close()


def _asked_to_stop(connection: Connection, beat: float) -> Callable[[], bool]:
    """Whether the run wants a worker to stop; to ask is a sign of life, which is passed on."""
    last = time.monotonic()

    def should_stop() -> bool:
        nonlocal last
        now = time.monotonic()
        if now - last >= beat:
            connection.send(None)
            last = now
        return connection.poll()

    return should_stop


def _mapped(job: Job) -> Iterator[Path]:
    """The files that a worker may map privately: the data, and one array of features of them."""
    yield from job.data.folder.glob("*.npy")
    features = list((cache_folder() / "features").glob("*.npy"))
    yield from sorted(features, key=lambda path: path.stat().st_size)[-1:]


def _redirect_output(path: Path) -> None:
    """Whatever a family prints goes to a file beside its checkpoint, not over the display."""
    sys.stdout.flush()
    sys.stderr.flush()
    with _opened_log(path) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _opened_log(path: Path) -> FileIO:
    try:
        return path.open("ab", buffering=0)
    except OSError:  # no room: the checkpoint will not be written either, and that is told
        return open(os.devnull, "ab", buffering=0)
