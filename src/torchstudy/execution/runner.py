"""The run loop: asks, trains, confirms and tests until the budget is spent, then writes it down."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Literal

from torchstudy.analysis.tables import Results, read_results
from torchstudy.data.dataset import ImageData, prepare
from torchstudy.data.sources import scan
from torchstudy.errors import Interrupted, RunError
from torchstudy.execution import finishing
from torchstudy.execution.asking import InlineAsker, ProcessAsker
from torchstudy.execution.board import Board
from torchstudy.execution.executor import Event, Executor, InlineExecutor
from torchstudy.execution.job import CHECKPOINT, Job, Note
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.local import LocalExecutor
from torchstudy.execution.outputs import ailment, prune, training_folder
from torchstudy.execution.preconditions import ExecutorName, num_workers_of, results_folder
from torchstudy.execution.proposing import Proposing
from torchstudy.execution.schedule import Schedule, Step
from torchstudy.execution.watching import PlainLines, Plan, Silent, Subject, Watcher, notes
from torchstudy.models.limits import Limits
from torchstudy.records import Epoch, Outcome, Status, TrainingKey
from torchstudy.study import Study

MAX_ATTEMPTS = 3  # of a training whose worker died
SAME_ERRORS = 3  # first trials of a family that crash alike end the run
TICK = 0.1  # seconds between two looks at what has come in
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(
    study: Study,
    *,
    reports: str | Path = "reports",
    storage: str | None = None,
    workers: int | Literal["auto"] = "auto",
    executor: ExecutorName = "local",
    families: Sequence[str] | None = None,
    fresh: bool = False,
    watcher: Watcher | None = None,
    quiet: bool = False,
) -> Results:
    """Run a study to the end of its budget, or go on where it stopped; return its tables.

    Args:
        study: what to run.
        reports: the folder that gets `<study>/` with tables, models and the report.
        storage: the ledger's SQLAlchemy URL; `studies.sqlite` in `reports` if left out.
        workers: trainings side by side, one thread each; "auto" is one per core.
        executor: "local" trains in processes of their own, "inline" in this one.
        families: names of the families to go on with now; all if left out.
        fresh: delete the study's earlier results first.
        watcher: told of everything that happens; by default plain lines are printed.
        quiet: print nothing.

    Raises StudyError for data or configurations that cannot work, StudyClaimed and StudyChanged
    for a study held by another run or changed since, Interrupted after a signal.
    """
    watching = watcher or (Silent() if quiet else PlainLines())
    num_workers = num_workers_of(workers, executor)
    active = [study.family(name).__name__ for name in families] if families else None
    study.check(scan(study.images).spec())
    data = prepare(study.images, seed=study.seed, progress=watching.preparing)
    study.check(data.spec)
    limits = Limits(study, data.spec)
    limits.check()
    if storage is not None:
        Ledger(storage).close()  # refused before a folder is made
    folder = results_folder(Path(reports), study.name)
    ledger = Ledger(storage or f"sqlite:///{Path(reports) / 'studies.sqlite'}")
    try:
        if fresh:
            ledger.forget(study.name)
            finishing.clear(folder)
        declaration = {**study.describe(), "fingerprint": data.spec.fingerprint}
        has_news = not ledger.claim(study.name, declaration)
        ledger.describe(study.name, finishing.summary(study, data, num_workers))
        session = Session(
            study=study,
            data=data,
            ledger=ledger,
            folder=folder,
            num_workers=num_workers,
            executor=executor,
            watcher=watching,
            limits=limits,
            families=active or [family.__name__ for family in study.families],
            has_news=has_news,
        )
        session.go()
    finally:
        ledger.close()
    return read_results(folder)


class Session:
    """One run of one study, from claim to release. Its state is the ledger's, mirrored."""

    def __init__(
        self,
        *,
        study: Study,
        data: ImageData,
        ledger: Ledger,
        folder: Path,
        num_workers: int,
        executor: ExecutorName,
        watcher: Watcher,
        limits: Limits,
        families: Sequence[str],
        has_news: bool,
    ) -> None:
        names = [family.__name__ for family in study.families]
        self.study, self.data, self.ledger = study, data, ledger
        self.folder, self.watcher = folder, watcher
        self.board = Board(ledger, study.name, names)
        self.schedule = Schedule(
            study=study,
            board=self.board,
            folder=folder,
            num_workers=num_workers,
            families=list(families),
        )
        is_local = executor == "local"
        self.executor: Executor = LocalExecutor(num_workers) if is_local else InlineExecutor()
        self.proposing = Proposing(
            study=study,
            board=self.board,
            schedule=self.schedule,
            asker=ProcessAsker() if is_local else InlineAsker(),
            limits=limits,
            watcher=watcher,
        )
        self._under_way: dict[TrainingKey, Step] = {}
        self._is_stopping = False
        self._has_news = has_news

    def go(self) -> None:
        """Do all there is to do; leave the study released whatever happens."""
        state = "interrupted"
        try:
            with self._signals():
                self._loop()
            state = "finished"
        finally:
            self.executor.close()
            self.proposing.close()
            try:
                self._write(state)
            finally:
                self.ledger.release(self.study.name, state)

    def _loop(self) -> None:
        self.proposing.recipes()
        self.watcher.begun(self._plan())
        for note in notes(self.study, self.data):
            self.watcher.note(note)
        while True:
            if self._is_stopping:
                self._drain()
                raise Interrupted("stopped; everything finished is saved")
            self.proposing.take()
            self.proposing.ask()
            self._fill()
            is_idle = not (self.executor.num_running or self.proposing.is_busy)
            if is_idle and self.schedule.search_is_over:
                return
            self.executor.wait(self._handle, TICK)

    # -- trainings -------------------------------------------------------------------------------

    def _fill(self) -> None:
        while self.executor.num_running < self.executor.num_workers:
            step = self.schedule.next_step(list(self._under_way))
            if step is None:
                return
            self._start(step)

    def _start(self, step: Step) -> None:
        attempt = 0
        if step.action == "train":
            worker = f"{os.uname().nodename}:{os.getpid()}"
            attempt = self.board.begin(step.key, step.purpose, worker)
        self._under_way[step.key] = step
        self.watcher.started(self._subject(step))
        job = Job(
            action=step.action,
            key=step.key,
            family=self.study.family(step.key.family),
            config=dict(self.board.trial(step.key).config),
            objective=self.study.objective,
            epochs=self.study.epochs,
            purpose=step.purpose,
            data=self.data.handle,
            folder=training_folder(self.folder, step.key),
        )
        self.executor.submit(job, attempt)

    def _handle(self, event: Event) -> None:
        step = self._under_way[event.key]
        if isinstance(event.payload, Note):
            self.watcher.note(f"{self._subject(step).title}: {event.payload.text}")
        elif isinstance(event.payload, Epoch):
            if self.board.add_epoch(event.key, event.attempt, event.payload):
                self.watcher.epoch(self._subject(step), event.payload)
        else:
            del self._under_way[event.key]
            self._handle_outcome(step, event, event.payload)

    def _handle_outcome(self, step: Step, event: Event, outcome: Outcome) -> None:
        if step.action == "test":
            self._handle_test(step, event, outcome)
            return
        if event.is_lost and event.attempt < MAX_ATTEMPTS:
            self.watcher.note(f"{self._subject(step).title}: {outcome.reason}; it goes on")
            outcome = self._standing(step.key, outcome)
        if self.board.end(event.key, event.attempt, outcome, event.seconds):
            self._has_news = True
            if outcome.status.is_final:
                rows = self.board.epochs(event.key)
                sentence = ailment(rows, outcome.status, outcome.reason)
                outcome = replace(outcome, diagnosis=sentence)
            self.watcher.ended(self._subject(step), outcome, event.seconds)
        if outcome.status.is_final:
            (training_folder(self.folder, step.key) / CHECKPOINT).unlink(missing_ok=True)
            keep = self.study.confirm[0] if self.study.confirm else 1
            searched = self.board.searched(step.key.family)
            prune(self.folder, searched, self.study.objective, keep)
            self._stop_if_all_crash_alike(step.key.family)

    def _handle_test(self, step: Step, event: Event, outcome: Outcome) -> None:
        title = self._subject(step).title
        if outcome.status is Status.COMPLETED:
            self.board.add_test(event.key, outcome)
            self._has_news = True
            self.watcher.ended(self._subject(step), outcome, event.seconds)
        elif outcome.status is not Status.PAUSED:
            raise RunError(f"{title} failed: {outcome.reason}")

    def _standing(self, key: TrainingKey, outcome: Outcome) -> Outcome:
        """The outcome of a leg whose worker died: paused, with the epochs that are recorded."""
        return Outcome(status=Status.PAUSED, epochs=outcome.epochs)

    def _stop_if_all_crash_alike(self, family: str) -> None:
        ended = [t for t in self.board.searched(family) if t.status.is_final]
        reasons = {t.reason.strip().rpartition("\n")[2] for t in ended}
        all_crashed = all(t.status is Status.CRASHED for t in ended)
        if len(ended) == SAME_ERRORS and all_crashed and len(reasons) == 1:
            raise RunError(
                f"the first {SAME_ERRORS} trials of {family} crashed alike:\n{ended[0].reason}"
            )

    # -- the end ---------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Let running trainings stop at their next batch and hear of it."""
        self.executor.stop()
        while self.executor.num_running:
            self.executor.wait(self._handle, TICK)

    def _write(self, state: str) -> None:
        """Tables, evidence, models and report; nothing is touched when nothing has changed."""
        report = self.folder / "report.html"
        if self._has_news or not report.exists():
            lost = finishing.write_everything(
                self.study, self.data, self.ledger, self.schedule, state
            )
            for family in lost:
                self.watcher.note(
                    f"{family}: the weights of its best training are gone, so best/{family} was "
                    "not written; --fresh trains them again"
                )
        self.watcher.finished(report if state == "finished" else None)

    def _plan(self) -> Plan:
        confirm = self.study.confirm
        per_family = (confirm[0] + 1) * confirm[1] if confirm else 0
        done = {
            name: sum(
                training.status.is_final
                for training in (*self.board.searched(name), *self.board.confirmed(name))
            )
            for name in self.schedule.families
        }
        return Plan(
            study=self.study.name,
            families=tuple(self.schedule.families),
            objective=self.study.objective,
            trials=self.study.trials,
            epochs=self.study.epochs,
            confirmations=per_family,
            num_workers=self.executor.num_workers,
            done=done,
            left={name: self.schedule.num_left(name) for name in self.schedule.families},
        )

    def _subject(self, step: Step) -> Subject:
        trial = self.board.trial(step.key)
        return Subject(trial=trial, seed=step.key.seed, purpose=step.purpose, action=step.action)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM stops cleanly, the second at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            if self._is_stopping:
                raise Interrupted("stopped at once; everything recorded is saved")
            self._is_stopping = True
            self.executor.stop()

        before = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
