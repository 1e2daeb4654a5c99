"""Redraws the report while a run goes on: in a process of its own, rarely, and at nobody's risk.

The run says that there is news and goes on; a child, at low priority, reads the ledger, writes
tables and report, and then rests for as long as redrawing may not take: at least `LEAST_PAUSE`, and
`SHARE` times what it took. Whatever goes wrong there is a note in the run.
"""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from typing_extensions import override

from torchstudy.errors import TorchstudyError
from torchstudy.execution.forkserver import start_process
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.watching import Plan, Subject, Watcher
from torchstudy.records import Epoch, Outcome

LEAST_PAUSE = 10.0  # seconds from the end of one redrawing to the next
SHARE = 20.0  # times a redrawing's processor time, until the next one: at most 5% of one core
PATIENCE = 20.0  # seconds for a redrawing to come to its end when the run does
KINDNESS = 5  # of 19: trainings come first, but a redrawing comes to its end

NEWS, STOP, BEGUN = b"news", b"stop", b"begun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Of which study the report is redrawn, from which ledger, into which folder."""

    url: str
    study: str
    folder: Path


class Redrawing(Watcher):
    """Tells another watcher of everything, and a process to redraw the report as results come."""

    def __init__(self, watcher: Watcher, order: Order) -> None:
        self._watcher, self._order = watcher, order
        self._process: ForkServerProcess | None = None
        self._connection: Connection | None = None
        self._is_told = False  # of news that have not been drawn yet
        self._last_note = ""

    @override
    def preparing(self, what: str, done: int, total: int) -> None:
        self._watcher.preparing(what, done, total)

    @override
    def begun(self, plan: Plan) -> None:
        self._watcher.begun(plan)
        report = self._order.folder / "report.html"
        try:
            own, theirs = Pipe()
            self._process = start_process(redraw_on_news, theirs, self._order, name="redrawing")
        except OSError as error:
            self._give_up(str(error))
            return
        theirs.close()
        self._connection, self._is_told = own, False
        self._watcher.note(f"redrawn as results come in: {report}")
        self._tell()

    @override
    def started(self, subject: Subject) -> None:
        self._watcher.started(subject)

    @override
    def epoch(self, subject: Subject, row: Epoch) -> None:
        self._watcher.epoch(subject, row)
        self._tell()

    @override
    def ended(self, subject: Subject, outcome: Outcome, seconds: float) -> None:
        self._watcher.ended(subject, outcome, seconds)
        self._tell()

    @override
    def note(self, text: str) -> None:
        self._watcher.note(text)

    @override
    def written_next(self) -> None:
        """Let a redrawing come to its end, so that it is not the last to write."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if process is None or connection is None:
            return
        with suppress(OSError):
            connection.send_bytes(STOP)
        connection.close()
        self._end(process, PATIENCE)
        self._watcher.written_next()

    @override
    def finished(self, report: Path | None) -> None:
        self._watcher.finished(report)

    def _tell(self) -> None:
        """Say that there is news, once for each redrawing; hear what became of earlier ones."""
        if self._connection is None:
            return
        try:
            while self._connection.poll():
                answer = self._connection.recv_bytes()
                self._is_told = self._is_told and answer != BEGUN
                if answer != BEGUN:
                    self._note_once(answer.decode(errors="replace"))
            if not self._is_told:
                self._connection.send_bytes(NEWS)
                self._is_told = True
        except (EOFError, OSError):
            self._give_up("its process has ended")

    def _give_up(self, why: str) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._end(self._process, 0.1)
        self._process = self._connection = None
        self._watcher.note(f"the report is not redrawn any more ({why}); the run's end writes it")

    def _note_once(self, reason: str) -> None:
        if reason != self._last_note:
            self._watcher.note(f"the report was not redrawn: {reason}")
        self._last_note = reason

    def _end(self, process: ForkServerProcess, patience: float) -> None:
        """Let the process end, or end it; what it left half written is removed."""
        process.join(patience)
        process.kill()
        process.join()
        for part in self._order.folder.glob(f".*.{process.pid}.*.part"):
            with suppress(OSError):
                part.unlink(missing_ok=True)
        process.close()


def redraw_on_news(connection: Connection, order: Order) -> None:
    """In a child: redraw whenever there is news and enough time has passed, until told to stop."""
    with suppress(OSError):
        os.nice(KINDNESS)
    rest_until = 0.0
    with suppress(EOFError, OSError):
        while connection.recv_bytes() == NEWS:
            if connection.poll(max(0.0, rest_until - time.monotonic())):
                return  # only an end is said before a redrawing has begun
            connection.send_bytes(BEGUN)
            began = time.process_time()  # what trainings have to do without
            if problem := _problem_of_redrawing(order):
                connection.send_bytes(problem.encode())
            rest_until = time.monotonic() + pause_after(time.process_time() - began)


def pause_after(took: float) -> float:
    """Seconds until the next redrawing may begin, after one of this processor time."""
    return max(LEAST_PAUSE, SHARE * took)


def redraw(order: Order) -> None:
    """Write the tables and the report of a study as it stands in the ledger."""
    from torchstudy.execution.outputs import write_tables
    from torchstudy.report.page import write_report

    ledger = Ledger(order.url, read_only=True)
    try:
        state = next(state for state in ledger.studies() if state.name == order.study)
        write_tables(ledger, state, order.folder)
    finally:
        ledger.close()
    write_report(order.folder)


def _problem_of_redrawing(order: Order) -> str:
    """Redraw; what hindered it, in one line, or nothing."""
    try:
        redraw(order)
    except TorchstudyError as error:
        return " ".join(str(error).split())
    except Exception as error:  # a note in the run, whatever it is
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return ""
