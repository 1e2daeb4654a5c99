"""One training in a worker process of its own, outside any run: its epochs, and how it ended."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from typing import TypeAlias

import torch

from torchstudy.execution.forkserver import start_process
from torchstudy.execution.job import Job, Note
from torchstudy.execution.joint import run_all
from torchstudy.execution.local import LOG, log_tail
from torchstudy.families.backbones import Backbone, adopt_backbones, registered_backbones
from torchstudy.families.base import Family
from torchstudy.records import Epoch, Outcome, Status, TrainingKey

OnEpoch: TypeAlias = Callable[[Epoch], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Assignment:
    """A job, and what its worker must know besides."""

    job: Job
    threads: int
    key: TrainingKey  # which training of the job is asked for
    last: int | None  # its epoch after which the worker stops; None: as the job says
    backbones: Mapping[str, Backbone]

    @property
    def family(self) -> type[Family]:
        """Whose module the worker gets by value."""
        return self.job.family


def retrained(
    job: Job,
    key: TrainingKey,
    *,
    threads: int,
    last: int | None,
    on_epoch: OnEpoch = lambda row: None,
) -> tuple[list[Epoch], Outcome]:
    """Do a job with so many threads, until its training `key` has had `last` epochs, or to its end.

    Returns the epochs and the end of that training. `on_epoch` hears of each epoch. What the worker
    prints goes to `log.txt` in the job's folder; a worker that dies is `crashed`, as in a run.
    Nothing is retried.
    """
    ours, theirs = Pipe()
    assignment = _Assignment(
        job=job, threads=threads, key=key, last=last, backbones=registered_backbones()
    )
    job.folder.mkdir(parents=True, exist_ok=True)
    process = start_process(_work, theirs, assignment, name=f"replay-{job.key.family}")
    theirs.close()
    rows: list[Epoch] = []
    try:
        while True:
            told, payload = ours.recv()
            if told != key or isinstance(payload, Note):
                continue
            if isinstance(payload, Outcome):
                return rows, payload
            rows.append(payload)
            on_epoch(payload)
    except (EOFError, ConnectionResetError):
        process.join()
        said = log_tail(job.folder / LOG)
        reason = f"{said}\nthe worker ended with exit code {process.exitcode}".lstrip()
        return rows, Outcome(status=Status.CRASHED, reason=reason, epochs=len(rows))
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()


def _work(connection: Connection, assignment: _Assignment) -> None:
    """The body of the worker, with the settings of a run's workers."""
    job, last = assignment.job, assignment.last
    with (job.folder / LOG).open("ab", buffering=0) as file:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    adopt_backbones(assignment.backbones)
    torch.set_num_threads(assignment.threads)
    done = 0

    def report(told: TrainingKey, payload: Epoch | Note | Outcome) -> None:
        nonlocal done
        if told == assignment.key and isinstance(payload, Epoch):
            done = payload.epoch
        connection.send((told, payload))

    run_all(job, report, lambda: last is not None and done >= last)
    connection.close()
