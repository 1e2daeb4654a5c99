"""What a trial costs beside its training: processor seconds of a trial of 9 epochs.

    python benchmarks/overhead.py [--trials 24] [--workers 1] [--out benchmarks/overhead.json]

A study of one linear layer on 90 images goes on with further trials of 9 epochs, with 10, 100 and
1,000 ended trials in its ledger. Their configurations are there too, so that nothing is asked: the
proposer's time is not counted. Two measurements:

- `coordinator`: an executor answers at once with made-up epochs and outcomes. The processor time
  of this process between the first and the last of the trials is that of the run loop: schedule,
  ledger, diagnosis, clearing up. `writing` is what follows: tables, best model's files and report.
- `worker`: the same study in processes of its own. All that a worker process uses, as the system
  counted it, is split: until the first step (start, job, data, costs of the network, building),
  training (`train` without a checkpoint, measured in a process that is warm), and the rest
  (checkpoints, answers, what the first step loads, the end of the process).

`overhead_s` is the coordinator's time with what the worker does beside training; the study passes
if it is below 0.15 s with 1,000 trials in the ledger, and below 0.1 s from a job's submission to
its first step; exits with 1 otherwise. The latter is wall-clock time, for a machine at rest: on a
busy one `until_first_step_s` tells more.
"""

import argparse
import json
import math
import multiprocessing.forkserver
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sqlalchemy import insert
from torch import Tensor, nn

from torchstudy import DataSpec, Family, Float, Study, run
from torchstudy.data.dataset import prepare
from torchstudy.execution import schema, session
from torchstudy.execution.executor import Event, Handler, InlineExecutor
from torchstudy.execution.inputs import splits_of
from torchstudy.execution.watching import Plan, Silent, Subject
from torchstudy.families.base import family
from torchstudy.fitting import instantiate
from torchstudy.records import Epoch, Outcome, Status
from torchstudy.seeds import derive
from torchstudy.training.batches import Batch
from torchstudy.training.lesson import Lesson
from torchstudy.training.trainer import train

EPOCHS = 9
SIZES = (10, 100, 1000)  # ended trials in the ledger
LEAST = 0.15, 0.1  # seconds: overhead of a trial; from submission to first step
first_step: tuple[float, float] | None = None  # of this process: clock, processor seconds


def images() -> tuple[np.ndarray, np.ndarray]:
    """90 noisy 8 x 8 images of three classes."""
    generator = np.random.default_rng(0)
    labels = np.arange(90) % 3
    pixels = generator.integers(0, 110, size=(90, 8, 8))
    pixels[labels == 0, ::2, :] += 90
    pixels[labels == 1, :, ::2] += 90
    return pixels.astype(np.uint8), labels


class Noticed(nn.Linear):
    """A linear layer that remembers when its process trained first."""

    def forward(self, inputs: Tensor) -> Tensor:
        """The layer's outputs."""
        global first_step
        if self.training and first_step is None:
            first_step = time.monotonic(), time.process_time()
        return super().forward(inputs)


@family
class Tiny(Family):
    """One linear layer; its scores tell when its process trained first."""

    scale: float = Float(0.5, 2.0, log=True, default=1.0)

    def build(self, data: DataSpec) -> nn.Module:
        """Pixels to classes."""
        return nn.Sequential(nn.Flatten(), Noticed(data.channels * 64, data.num_classes))

    def score(self, model: nn.Module, data: DataSpec, batches: Iterable[Batch]) -> dict[str, float]:
        """The usual metrics, and the two readings of the clocks."""
        at, used = first_step or (math.nan, math.nan)
        return {**super().score(model, data, batches), "began_at": at, "began_cpu": used}


def study(trials: int) -> Study:
    """Of so many trials, none of them confirmed."""
    return Study(
        name="tiny",
        data=images,
        families=[Tiny],
        maximize="accuracy",
        space={"batch_size": 32, "patience": EPOCHS},
        trials=trials,
        epochs=EPOCHS,
        confirm=None,
    )


class Scripted(InlineExecutor):
    """Has one event of a job to tell whenever it is asked: made-up epochs, then the outcome."""

    def __init__(self) -> None:
        super().__init__()
        self._told = 0

    def wait(self, handle: Handler, timeout: float) -> None:
        """The next epoch of the job, or its outcome."""
        if not self._queued:
            return
        (job, attempt), self._told = self._queued[0], self._told + 1
        last = made_up(job.key.number, min(self._told, EPOCHS))
        if self._told <= EPOCHS:
            handle(Event(key=job.key, attempt=attempt, payload=last))
            return
        del self._queued[0]
        self._told = 0
        handle(Event(key=job.key, attempt=attempt, payload=ended(last), seconds=1.0))


def made_up(number: int, epoch: int) -> Epoch:
    """An epoch with as many numbers as real ones have."""
    loss = 1.1 / epoch + (number * 37 % 101) / 1000
    return Epoch(
        epoch=epoch,
        seconds=0.1,
        finished=datetime.now(UTC).isoformat(),
        train_loss=loss,
        valid_loss=loss + 0.01,
        learning_rate=0.01,
        grad_norm=1.0,
        metrics={"accuracy": 1 - loss / 3, "balanced_accuracy": 1 - loss / 3},
        measured={
            "health_dead_share": 0.1,
            "health_gradient_ratio": 0.5,
            "health_update_ratio": 0.01,
            "health_first_loss": 1.2,
        },
    )


def ended(last: Epoch) -> Outcome:
    """The outcome that goes with a last epoch."""
    return Outcome(
        status=Status.COMPLETED,
        epochs=EPOCHS,
        best_epoch=EPOCHS,
        parameters=195,
        metrics={
            **{f"valid_{name}": value for name, value in last.metrics.items()},
            "valid_loss": last.valid_loss,
            **dict.fromkeys(("flops", "memory", "latency_p50", "latency_p95"), 1.0),
        },
    )


@dataclass
class Timed(Silent):
    """Reads the clocks of this process and of its worker processes as trials start and end."""

    num_trials: int
    begun_at: float = 0.0
    ended_at: float = 0.0
    workers: tuple[float, float] = (0.0, 0.0)
    started_at: dict[int, float] = field(default_factory=dict)
    delays: list[float] = field(default_factory=list)
    until_step: list[float] = field(default_factory=list)

    def begun(self, plan: Plan) -> None:
        """The run loop begins."""
        self.begun_at, self.workers = time.process_time(), (children_seconds(), 0.0)

    def started(self, subject: Subject) -> None:
        """A job is about to be submitted."""
        self.started_at[subject.trial.number] = time.monotonic()

    def epoch(self, subject: Subject, row: Epoch) -> None:
        """The first epoch says when its process took the first step."""
        if row.epoch == 1 and "began_at" in row.metrics:
            self.delays.append(row.metrics["began_at"] - self.started_at[subject.trial.number])
            self.until_step.append(row.metrics["began_cpu"])

    def ended(self, subject: Subject, outcome: Outcome, seconds: float) -> None:
        """A trial is recorded."""
        assert outcome.status is Status.COMPLETED, outcome.reason
        self.ended_at = time.process_time()
        self.workers = self.workers[0], children_seconds()

    def per_trial(self) -> tuple[float, float]:
        """Processor seconds of this process, and of worker processes that have ended."""
        used = self.workers[1] - self.workers[0]
        return (self.ended_at - self.begun_at) / self.num_trials, used / self.num_trials


def children_seconds() -> float:
    """What the processes used that the forkserver started and that have ended."""
    server = multiprocessing.forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    if server is None:
        return 0.0
    fields = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def filled(reports: Path, num_ended: int, num_more: int) -> None:
    """Run a first trial, then add ended trials to its ledger, and more that wait."""
    run(study(1), reports=reports, executor="inline", quiet=True)
    engine = schema.open_database(f"sqlite:///{reports / 'studies.sqlite'}")
    rows: dict[Any, list[dict[str, object]]] = {}
    for number in range(1, num_ended + num_more):
        config = study(1).space_of(Tiny).sample(np.random.default_rng(number))
        for table, row in rows_of(number, json.dumps(config), is_ended=number < num_ended):
            rows.setdefault(table, []).append(row)
    with engine.execution_options(writes=True).begin() as connection:
        for table in (schema.trials, schema.trainings, schema.epochs):
            if table in rows:
                connection.execute(insert(table), rows[table])
    engine.dispose()


def rows_of(number: int, config: str, *, is_ended: bool) -> list[tuple[Any, dict[str, object]]]:
    """What the ledger holds of one trial."""
    now = datetime.now(UTC).isoformat()
    named: dict[str, object] = {"study": "tiny", "family": "Tiny", "number": number}
    proposed = {**named, "config": config, "origin": "sobol", "proposed": now}
    found: list[tuple[Any, dict[str, object]]] = [(schema.trials, proposed)]
    if not is_ended:
        return found
    named["seed"] = derive(0, "Tiny", number, "search")
    rows = [made_up(number, epoch) for epoch in range(1, EPOCHS + 1)]
    outcome = asdict(ended(rows[-1]))
    del outcome["diagnosis"]
    standing = {"purpose": "search", "attempt": 1, "seconds": 1.0, "worker": "x", "tested": ""}
    times = {"started": now, "finished": now, "metrics": json.dumps(outcome.pop("metrics"))}
    found.append((schema.trainings, {**named, **outcome, **standing, **times}))
    found += [
        (
            schema.epochs,
            {**named, "epoch": r.epoch, "attempt": 1, "seconds": 0.1, "row": json.dumps(asdict(r))},
        )
        for r in rows
    ]
    return found


def coordinator(num_ended: int, num_more: int) -> dict[str, object]:
    """The run loop's processor time for each further trial, and that of the final writing."""
    with tempfile.TemporaryDirectory() as folder:
        filled(Path(folder), num_ended, num_more)
        watcher = Timed(num_more)
        run(study(num_ended + num_more), reports=folder, executor="inline", watcher=watcher)
        writing = time.process_time() - watcher.ended_at
    return {
        "ended": num_ended,
        "coordinator_s": round(watcher.per_trial()[0], 4),
        "writing_s": round(writing, 2),
    }


def worker(num_more: int, num_workers: int) -> dict[str, float]:
    """The processor time of a trial's own process, by part, and what the loop does meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        watcher = Timed(num_more + 3)
        run(study(num_more + 3), reports=folder, workers=num_workers, watcher=watcher)
    used, until_step = watcher.per_trial()[1], statistics.median(watcher.until_step)
    training = statistics.median(training_seconds() for _ in range(7))
    return {
        "process_s": round(used, 4),
        "until_first_step_s": round(until_step, 4),
        "training_s": round(training, 4),
        "rest_s": round(used - until_step - training, 4),
        "submission_to_first_step_s": round(statistics.median(watcher.delays), 4),
        "submission_to_first_step_worst_s": round(max(watcher.delays[num_workers:]), 4),
    }


def training_seconds() -> float:
    """Processor time of the nine epochs alone, without a checkpoint, in this process."""
    declared = study(1)
    data = prepare(declared.images, seed=0)
    own, training, _ = instantiate(Tiny, declared.space_of(Tiny).recipe)
    splits, spec = splits_of(own, data, ("train", "valid"))
    lesson = Lesson(
        build=lambda: own.build(spec),
        phases=own.phases(spec, training),
        config=training,
        train=splits["train"],
        valid=splits["valid"],
        score=lambda model, split: own.score(model, spec, split.in_order()),
        objective=declared.objective,
        epochs=EPOCHS,
        seed=0,
        fresh=own.fresh,
        averaged=own.averaged,
        pictures=own.pictures,
    )
    began = time.process_time()
    train(lesson)
    return time.process_time() - began


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    session.InlineExecutor = Scripted  # type: ignore[misc]
    loops = [coordinator(size, args.trials) for size in SIZES]
    own = worker(args.trials, args.workers)
    beside = own["process_s"] - own["training_s"]
    overhead = float(loops[-1]["coordinator_s"]) + beside  # type: ignore[arg-type]
    result = {
        "overhead_s": round(overhead, 4),
        "submission_to_first_step_s": own["submission_to_first_step_s"],
        "coordinator": loops,
        "worker": own,
        "trials": args.trials,
        "epochs": EPOCHS,
        "workers": args.workers,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
    }
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    is_fine = overhead < LEAST[0] and own["submission_to_first_step_s"] < LEAST[1]
    return 0 if is_fine else 1


if __name__ == "__main__":
    sys.exit(main())
