"""The run loop: asks, trains, confirms and tests until the budget is spent, then writes it down."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torchstudy.data.dataset import ImageData
from torchstudy.errors import Interrupted, InterruptedAtOnce, RunError, reason_to_stop
from torchstudy.execution import examples, finishing
from torchstudy.execution.asking import InlineAsker, ProcessAsker
from torchstudy.execution.board import Board
from torchstudy.execution.executor import Event, Executor, InlineExecutor
from torchstudy.execution.idle import Timesheet
from torchstudy.execution.job import CHECKPOINT, Companion, Job, Note
from torchstudy.execution.joint import goes_together
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.local import LocalExecutor
from torchstudy.execution.manifest import damaged_files
from torchstudy.execution.outputs import ailment, prune, training_folder
from torchstudy.execution.placing import Placing
from torchstudy.execution.preconditions import ExecutorName
from torchstudy.execution.proposing import Proposing
from torchstudy.execution.room import DISK, Room, clear_remains
from torchstudy.execution.schedule import Schedule, Step
from torchstudy.execution.stopping import stop_signals
from torchstudy.execution.watchdog import Patience
from torchstudy.execution.watching import Watcher, notes, plan_of, subject_of
from torchstudy.failpoints import failpoint
from torchstudy.models.limits import Limits
from torchstudy.records import Epoch, Outcome, Status, TrainingKey
from torchstudy.space import Config
from torchstudy.study import Study

MAX_LOSSES = 2  # workers of one training that may die or hang before it is given up
NOT_PROMOTED = "not promoted: others were more promising"  # the reason of a stopped trial
SAME_ERRORS = 3  # first trials of a family that crash alike end the run
TICK = 0.1  # seconds between two looks at what has come in
BRIEF_TICK = 0.01  # the same while a worker waits for a proposal


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
        timesheet: Timesheet,
        devices: Sequence[str],
        is_profiled: bool,
        memory: float | None = None,
        patience: Patience | None = None,
        environment: str = "",
        disk: float = DISK * 1e9,
        good: dict[str, list[tuple[Config, str]]] | None = None,
    ) -> None:
        self.study, self.data, self.ledger = study, data, ledger
        self.folder, self.watcher = folder, watcher
        self.board = Board(ledger, study.name, [family.__name__ for family in study.families])
        self.schedule = Schedule(
            study=study,
            board=self.board,
            folder=folder,
            num_workers=num_workers,
            families=list(families),
        )
        self.schedule.inquiry.good = good or {}
        is_local = executor == "local"
        self.executor: Executor = (
            LocalExecutor(num_workers, memory=memory, patience=patience)
            if is_local
            else InlineExecutor()
        )
        self.proposing = Proposing(
            study=study,
            board=self.board,
            inquiry=self.schedule.inquiry,
            asker=ProcessAsker() if is_local else InlineAsker(),
            limits=limits,
            watcher=watcher,
        )
        self._placing = Placing(devices=devices)
        for training in self.board.trainings.values():
            self._placing.learn(training.metrics)
        self._is_profiled, self._environment = is_profiled, environment
        self._room = Room(folder, disk)
        self._together: dict[tuple[str, int], bool] = {}  # by family and trial number
        self._under_way: dict[TrainingKey, Step] = {}
        self._lost_readings: Counter[TrainingKey] = Counter()
        self._is_stopping = self._is_stopping_at_once = False
        self._hindrance: RunError | None = None  # what could not be written: the run ends with it
        self._has_news, self._timesheet = has_news, timesheet
        self._has_written = False

    def go(self) -> bool:
        """Do all there is to do; whether there was anything to write."""
        state, stopped_on = "interrupted", ""
        try:
            with stop_signals(self._stop):
                self._loop()
            state = "finished"
        except KeyboardInterrupt:
            raise InterruptedAtOnce("stopped at once; everything recorded is saved") from None
        except Exception as error:  # noted for the report, and raised again
            stopped_on = reason_to_stop(error)
            raise
        finally:
            self.executor.close()
            self.proposing.close()
            self.watcher.written_next()
            if not (self._is_stopping_at_once or self._hindrance):  # the next run writes it
                self._write(state, stopped_on)
        return self._has_written

    def _loop(self) -> None:
        clear_remains(self.folder, self.board.trainings.values())
        examples.write_shown(self.folder, self.data)
        self.proposing.go_on()
        self.watcher.begun(plan_of(self.schedule))
        for note in notes(self.study, self.data):
            self.watcher.note(note)
        self._fill()
        while True:
            self._keep_within_disk()
            if self._is_stopping:
                self._mark(0)
                self._drain()
                raise self._hindrance or Interrupted("stopped; everything finished is saved")
            self._mark(self._num_waiting, is_computing=True)
            self.proposing.go_on()
            self._mark(0)  # to start a training takes time, but no proposal is missing
            self._stop_the_rest()
            self._fill()
            self._mark(self._num_waiting, is_computing=self.proposing.is_busy)
            is_idle = not (self.executor.num_running or self.proposing.is_busy)
            if is_idle and self.schedule.search_is_over:
                return
            self.executor.wait(self._handle, BRIEF_TICK if self._num_waiting else TICK)

    @property
    def _num_waiting(self) -> int:
        """How many workers would train if there were a proposal."""
        has_work = self.schedule.next_step(list(self._under_way)) is not None
        free = self.executor.num_workers - self.executor.num_running
        return free if self.schedule.wants_proposals and not has_work else 0

    def _mark(self, num_waiting: int, *, is_computing: bool = False) -> None:
        num_busy = sum(step.purpose == "search" for step in self._under_way.values())
        self._timesheet.mark(num_busy, num_waiting, is_computing=is_computing)

    def _fill(self) -> None:
        while self.executor.num_running < self.executor.num_workers:
            step = self.schedule.next_step(list(self._under_way))
            device = None if step is None else self._placing.take(step.key)
            if step is None or device is None:
                return
            self._start(step, device)

    def _start(self, step: Step, device: str) -> None:
        """Submit the step's training, and the seeds that go with it."""
        job = self._job(step, device)
        others = self.schedule.companions(step, list(self._under_way))
        if others and not (self._never_lost([step.key, *others]) and self._goes_together(job)):
            others = []
        attempt = self._begin(step)
        companions = tuple(
            Companion(
                key=key,
                folder=training_folder(self.folder, key),
                attempt=self._begin(replace(step, key=key)),
            )
            for key in others
        )
        failpoint("after-begin")
        self.executor.submit(replace(job, companions=companions), attempt)

    def _begin(self, step: Step) -> int:
        """Record that a training starts or goes on; the number of the attempt."""
        attempt = 0
        if step.action == "train":
            worker = f"{os.uname().nodename}:{os.getpid()}"
            attempt = self.board.begin(step.key, step.purpose, worker, self._environment)
        self._under_way[step.key] = step
        self.watcher.started(subject_of(self.schedule, step))
        return attempt

    def _never_lost(self, keys: Sequence[TrainingKey]) -> bool:
        """Whether no worker has been lost with any of these: they are not to fall together."""
        known = [self.board.trainings[key] for key in keys if key in self.board.trainings]
        return not any(training.losses for training in known)

    def _goes_together(self, job: Job) -> bool:
        """Whether seeds of the job's configuration are quicker as one network."""
        trial = job.key.family, job.key.number
        if trial not in self._together:
            self._together[trial] = goes_together(job)
        return self._together[trial]

    def _job(self, step: Step, device: str) -> Job:
        return Job(
            action=step.action,
            key=step.key,
            family=self.study.family(step.key.family),
            config=dict(self.board.trial(step.key).config),
            objective=self.study.objective,
            epochs=self.study.epochs,
            purpose=step.purpose,
            data=self.data.handle,
            folder=training_folder(self.folder, step.key),
            precision=self.study.precision,
            device=device,
            is_profiled=self._is_profiled,
            until=step.until,
        )

    def _handle(self, event: Event) -> None:
        step = self._under_way[event.key]
        if isinstance(event.payload, Note):
            self.watcher.note(f"{subject_of(self.schedule, step).title}: {event.payload.text}")
        elif isinstance(event.payload, Epoch):
            if self.board.add_epoch(event.key, event.attempt, event.payload):
                self.watcher.epoch(subject_of(self.schedule, step), event.payload)
        else:
            del self._under_way[event.key]
            self._placing.give_back(event.key, event.payload.metrics)
            self._handle_outcome(step, event, event.payload)

    def _handle_outcome(self, step: Step, event: Event, outcome: Outcome) -> None:
        self._note_hindrance(outcome)
        if step.action != "train":
            self._handle_reading(step, event, outcome)
            return
        if event.is_lost or outcome.status.is_failure or self._hindrance:
            known = len(self.board.epochs(event.key))  # a worker that is gone cannot say
            outcome = replace(outcome, epochs=max(outcome.epochs, known))
        if event.is_lost and self.board.trainings[event.key].losses < MAX_LOSSES:
            self._note_loss(step, outcome)
            outcome = Outcome(status=Status.PAUSED, epochs=outcome.epochs)
        if self.board.end(event.key, event.attempt, outcome, event.seconds, is_lost=event.is_lost):
            self._has_news = True
            self._timesheet.save()
            if outcome.status.is_final:
                rows = self.board.epochs(event.key)
                sentence = ailment(rows, outcome.status, outcome.reason)
                outcome = replace(outcome, diagnosis=sentence)
            self.watcher.ended(subject_of(self.schedule, step), outcome, event.seconds)
        if outcome.status.is_final:
            failpoint("after-outcome")
            (training_folder(self.folder, step.key) / CHECKPOINT).unlink(missing_ok=True)
            keep = self.study.confirm[0] if self.study.confirm else 1
            searched = self.board.searched(step.key.family)
            prune(self.folder, searched, self.study.objective, keep, self.study.bounds)
            self._stop_if_all_crash_alike(step.key.family)
            if step.purpose == "confirmation":
                failpoint("after-confirmation")

    def _handle_reading(self, step: Step, event: Event, outcome: Outcome) -> None:
        if event.is_lost and self._lost_readings[event.key] < MAX_LOSSES:
            self._lost_readings[event.key] += 1
            self._note_loss(step, outcome)
            return
        if outcome.status is Status.PAUSED:
            return
        if step.action == "calibrate":  # if it failed, the model is used as it is
            self.schedule.calibrated.add(event.key)
        elif outcome.status is Status.COMPLETED:
            failpoint("after-test")
            self.board.add_test(event.key, outcome)
        else:
            raise RunError(f"{subject_of(self.schedule, step).title} failed: {outcome.reason}")
        self._has_news |= outcome.status is Status.COMPLETED
        self.watcher.ended(subject_of(self.schedule, step), outcome, event.seconds)

    def _note_loss(self, step: Step, outcome: Outcome) -> None:
        how = outcome.reason.rpartition("\n")[2]
        self.watcher.note(f"{subject_of(self.schedule, step).title}: {how}; it goes on")

    def _stop_if_all_crash_alike(self, family: str) -> None:
        ended = [t for t in self.board.searched(family) if t.status.is_final]
        endings = {(t.status, t.reason.strip().rpartition("\n")[2]) for t in ended}
        if len(ended) >= SAME_ERRORS and len(endings) == 1 and ended[0].status is Status.CRASHED:
            raise RunError(
                f"the first {len(ended)} trials of {family} crashed alike:\n"
                f"{ended[0].reason.rstrip()}\nonce it is mended, --retry-crashed trains them again"
            )

    def _stop_the_rest(self) -> None:
        """Once the search is over, what waits at a rung has not been promoted."""
        if self.schedule.search_is_over and (keys := self.schedule.not_promoted()):
            self.board.stop(keys, NOT_PROMOTED)
            for key in keys:
                (training_folder(self.folder, key) / CHECKPOINT).unlink(missing_ok=True)

    def _note_hindrance(self, outcome: Outcome) -> None:
        """A pause with a reason is nothing that the training can help: all stop, and it is said."""
        if outcome.status is Status.PAUSED and outcome.reason and not self._hindrance:
            self._hindrance = RunError(outcome.reason)
            self._is_stopping = True

    def _keep_within_disk(self) -> None:
        under_way = list(self._under_way)
        removed, end = self._room.look(self.board, self.study.objective, under_way)
        for note in removed:
            self.watcher.note(note)
        if end is not None:
            self._hindrance, self._is_stopping = end, True

    def _drain(self) -> None:
        """Let running trainings stop at their next batch and hear of it."""
        self.executor.stop()
        while self.executor.num_running:
            self.executor.wait(self._handle, TICK)

    def _write(self, state: str, stopped_on: str) -> None:
        """Tables, evidence, models and report; nothing is touched when nothing has changed."""
        report, damaged = self.folder / "report.html", damaged_files(self.folder)
        if self._timesheet.idle.busy:
            self._timesheet.save()
            self.watcher.note(self._timesheet.idle.sentence)
        if damaged and not self._has_news:
            self.watcher.note(f"changed since they were written: {', '.join(damaged)}")
        self._has_written = self._has_news or bool(damaged) or not report.exists()
        if self._has_written:
            for note in finishing.write_everything(
                self.study, self.data, self.ledger, self.schedule, state, stopped_on
            ):
                self.watcher.note(note)
        self.watcher.finished(report if state == "finished" else None)

    def _stop(self) -> None:
        """Asked once, stop cleanly; asked again, at once."""
        if self._is_stopping:
            self._is_stopping_at_once = True
            raise KeyboardInterrupt  # families, and what trains them, catch any Exception
        self._is_stopping = True
        self.executor.stop()
