"""Signals, closed terminals and readers that go away: a run stops, says how, and goes on."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.command import write_study
from tests.forked import Commands
from tests.test_runner import assert_same_results, linear_study, run_inline
from typing_extensions import override

from torchstudy.errors import Interrupted
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.runner import run
from torchstudy.execution.watching import Silent, Subject
from torchstudy.records import Epoch, Training

pytestmark = pytest.mark.usefixtures("short_reports")

ROOT = Path(__file__).parents[2]
LIMIT = 180.0  # seconds for what takes one where nothing else runs

# A step takes PAUSE seconds until there is a file `quick` in the current folder.
SLOW = """
import time
from pathlib import Path
from torchstudy.families.phases import Phase

@family
class Slow(CNN):
    '''Waits at every batch.'''

    def phases(self, data, training):
        (phase,) = super().phases(data, training)
        steps = 0
        def loss(model, batch):
            nonlocal steps
            steps += 1
            end = time.monotonic() + PAUSE
            while time.monotonic() < end and not Path("quick").exists():
                time.sleep(0.01)
            return phase.loss(model, batch)
        return (Phase(name=phase.name, loss=loss),)

study = Study(**{**GOOD, "families": [Slow], "epochs": 4, "confirm": None,
                 "space": {"Slow.width": 8, "Slow.depth": 1, "batch_size": 64}})
"""


@pytest.fixture(autouse=True, scope="module")
def hears_of_its_terminal() -> Iterator[None]:
    """Under nohup, or what works like it, SIGHUP is ignored by everything that is started."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def trainings(folder: Path) -> list[Training]:
    path = folder / "reports" / "studies.sqlite"
    if not path.exists():
        return []
    ledger = Ledger(f"sqlite:///{path}", read_only=True)
    try:
        return ledger.trainings("slow")
    finally:
        ledger.close()


def epochs(folder: Path) -> int:
    path = folder / "reports" / "studies.sqlite"
    if not path.exists():
        return 0
    ledger = Ledger(f"sqlite:///{path}", read_only=True)
    try:
        return len(ledger.epochs("slow"))
    finally:
        ledger.close()


def wait_for_epoch(folder: Path, terminal: int | None = None) -> None:
    """Until the first epoch is recorded; what is written to the terminal meanwhile is read."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        if terminal is not None:
            drain(terminal)
        try:
            if epochs(folder):
                return
        except Exception:  # the ledger is being made
            pass
        time.sleep(0.05)
    raise AssertionError("no epoch was ever recorded")


def drain(terminal: int) -> None:
    os.set_blocking(terminal, False)
    try:
        while os.read(terminal, 65536):
            pass
    except BlockingIOError:
        pass


COMMAND = ("run", "slow", "--executor", "inline")


def test_a_run_whose_terminal_is_closed_pauses_what_it_trains(
    commands: Commands, tmp_path: Path
) -> None:
    write_study(tmp_path, "slow", SLOW.replace("PAUSE", "1000 if steps > 3 else 0"))
    ours, theirs = pty.openpty()
    commands.start(tmp_path, *COMMAND, files=[os.ttyname(theirs)] * 3)
    wait_for_epoch(tmp_path, ours)
    os.close(theirs)
    os.close(ours)
    (tmp_path / "quick").touch()  # it waits for the batch
    assert commands.end() == 130
    (training,) = trainings(tmp_path)
    assert training.status == "paused"
    assert 1 <= training.epochs < 4
    assert list((tmp_path / "reports" / "slow" / "checkpoints").rglob("checkpoint.pt"))


def test_a_run_whose_reader_goes_away_stops_and_says_so(commands: Commands, tmp_path: Path) -> None:
    write_study(tmp_path, "slow", SLOW.replace("PAUSE", "0"))
    fifo, errors = tmp_path / "out", tmp_path / "errors.txt"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    held = os.open(fifo, os.O_WRONLY)  # until the command writes, there is no end to be read
    os.set_blocking(reading, True)
    head = subprocess.Popen(["head", "-1"], stdin=reading, stdout=subprocess.PIPE, text=True)
    os.close(reading)
    commands.start(tmp_path, *COMMAND, files=[os.devnull, str(fifo), str(errors)])
    line, _ = head.communicate(timeout=LIMIT)
    os.close(held)
    assert commands.end() == 130
    assert line
    assert errors.read_text() == (
        "\nstopped, as nothing reads what is printed; what is done is saved\n"
        "go on with: optimize run slow --executor inline\n"
    )
    assert all(t.status in ("paused", "running", "completed") for t in trainings(tmp_path))


def test_a_second_interrupt_stops_at_once_and_loses_no_epoch(
    commands: Commands, tmp_path: Path
) -> None:
    write_study(tmp_path, "slow", SLOW.replace("PAUSE", "1000 if steps > 3 else 0"))
    said = tmp_path / "said.txt"
    child = commands.start(tmp_path, *COMMAND, files=[os.devnull, str(said), str(said)])
    wait_for_epoch(tmp_path)
    os.kill(child, signal.SIGINT)
    time.sleep(0.3)
    assert not said.read_text().endswith("inline\n")  # it waits for the batch
    os.kill(child, signal.SIGINT)
    assert commands.end() == 130
    assert said.read_text().endswith(
        "\nstopped at once; everything recorded is saved\n"
        "go on with: optimize run slow --executor inline\n"
    )
    assert [t.status for t in trainings(tmp_path)] != ["crashed"]
    (tmp_path / "quick").touch()
    assert commands.run(tmp_path, *COMMAND)[0] == 0
    assert [(t.status, t.epochs) for t in trainings(tmp_path)] == [("completed", 4)] * 2


def test_workers_and_what_starts_them_do_not_hear_the_signals_of_the_group(tmp_path: Path) -> None:
    class Shout(Silent):
        num_told = 0

        @override
        def epoch(self, subject: Subject, row: Epoch) -> None:
            if row.epoch == 1:
                told = relatives()
                self.num_told = max(self.num_told, len(told))
                for pid in told:
                    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                        os.kill(pid, number)

    watcher = Shout()
    study = linear_study(trials=2, epochs=40, confirm=None, method="random")
    found = run(study, reports=tmp_path / "loud", workers=2, watcher=watcher)
    assert watcher.num_told >= 3  # the forkserver, Python's resource tracker, a worker
    assert found.trials["status"].tolist() == ["completed", "completed"]
    ledger = Ledger(f"sqlite:///{tmp_path / 'loud' / 'studies.sqlite'}", read_only=True)
    assert [(t.losses, t.attempt) for t in ledger.trainings("lines")] == [(0, 1), (0, 1)]


def relatives() -> list[int]:
    """What this process has started with the help of multiprocessing, and what that has."""
    from multiprocessing import forkserver, resource_tracker

    server = forkserver._forkserver._forkserver_pid
    tracker = resource_tracker._resource_tracker._pid
    assert server is not None
    assert tracker is not None
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    return [server, tracker, *map(int, children)]


def test_a_run_with_workers_is_stopped_by_signals_and_goes_on(tmp_path: Path) -> None:
    class Press(Silent):
        def __init__(self, number: int) -> None:
            self.number, self.has_pressed = number, False

        @override
        def epoch(self, subject: Subject, row: Epoch) -> None:
            if not self.has_pressed:  # a second one would stop it at once
                self.has_pressed = True
                os.kill(os.getpid(), self.number)

    study = linear_study(trials=1, epochs=60, confirm=None, space={"batch_size": 8})
    ledger: Ledger | None = None
    for number in (signal.SIGTERM, signal.SIGHUP):
        before = signal.getsignal(number)
        with pytest.raises(Interrupted, match="stopped; everything finished is saved"):
            run(study, reports=tmp_path / "stopped", workers=1, watcher=Press(number))
        assert signal.getsignal(number) is before
        ledger = ledger or Ledger(
            f"sqlite:///{tmp_path / 'stopped' / 'studies.sqlite'}", read_only=True
        )
        (training,) = ledger.trainings("lines")
        assert (training.status, training.losses) == ("paused", 0)
        assert 1 <= training.epochs < 60
    assert training.attempt == 2
    found = run(study, reports=tmp_path / "stopped", workers=1, quiet=True)
    assert_same_results(found, run_inline(study, tmp_path / "whole"))


def test_a_run_under_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    class HangUp(Silent):
        @override
        def epoch(self, subject: Subject, row: Epoch) -> None:
            os.kill(os.getpid(), signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        study = linear_study(trials=1, confirm=None)
        found = run(study, reports=tmp_path, executor="inline", watcher=HangUp())
    finally:
        signal.signal(signal.SIGHUP, before)
    assert found.trials["status"].tolist() == ["completed"]


# A process that starts a child, which says who it is and then stands still.
PARENT = """
import sys, time
from multiprocessing.connection import Pipe
from torchstudy.execution import forkserver

forkserver.PRELOADED.clear()  # torch is not needed here

def stand_still(connection, how):
    import ctypes, os, signal
    connection.send(os.getpid())
    if how == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    ctypes.PyDLL(None).sleep(600)  # without letting another thread run

ours, theirs = Pipe()
process = forkserver.start_process(stand_still, theirs, sys.argv[1], name="still")
print(ours.recv(), flush=True)
sys.stdin.readline()
"""


def parent(how: str) -> "tuple[subprocess.Popen[str], int]":
    """The process, and the number of the child that stands still in it."""
    command = [sys.executable, "-c", PARENT, how]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def is_gone(pid: int, limit: float = 5.0) -> bool:
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("how", ["stopped", "in a library that holds Python's lock"])
def test_a_worker_that_stands_still_ends_with_a_run_that_is_killed(how: str) -> None:
    process, child = parent(how)
    with process:
        process.kill()
    assert is_gone(child)


def test_a_run_does_not_wait_at_its_end_for_a_worker_that_stands_still() -> None:
    process, child = parent("stopped")
    with process:
        try:
            process.communicate("\n", timeout=10)
        finally:
            process.kill()
    assert process.returncode == 0
    assert is_gone(child)
