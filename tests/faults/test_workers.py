"""Workers that hang, die or eat memory: each becomes an outcome, and the study goes on."""

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.test_local import events_of, job
from tests.test_runner import Linear, assert_same_results, linear_study, run_inline
from torch import Tensor, nn
from typing_extensions import override

from torchstudy.data.dataset import ImageData
from torchstudy.data.spec import DataSpec
from torchstudy.domains import Choice
from torchstudy.errors import RunError, StudyError
from torchstudy.execution import memory
from torchstudy.execution.executor import Event
from torchstudy.execution.failing import failure
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.local import LocalExecutor
from torchstudy.execution.runner import run
from torchstudy.execution.watchdog import Attention, Patience, Silence, processor_seconds
from torchstudy.execution.watching import Silent, Subject
from torchstudy.families.base import Family, family
from torchstudy.families.phases import Phase
from torchstudy.records import Epoch, Outcome, Status
from torchstudy.training.batches import Batch

pytestmark = pytest.mark.usefixtures("short_reports")

MEGA = 1e6
PATIENCE = Patience(idle=1.0, busy=1.0)
GROUPS = memory.CGROUPS / "memory"


def hang(how: str) -> None:
    """Stand still in one of three ways."""
    lock = threading.Lock()
    lock.acquire()
    if how == "deadlock":
        lock.acquire()
    if how == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    while how == "loop":
        pass


@family
class Hanging(Family):
    """Hangs where it should build a network."""

    how: str = Choice("loop", "deadlock", "stop", default="loop")

    def build(self, data: DataSpec) -> nn.Module:
        hang(self.how)
        return Linear().build(data)


@family
class Slow(Family):
    """Takes long over every batch."""

    def build(self, data: DataSpec) -> nn.Module:
        return Linear().build(data)

    @override
    def phases(self, data: DataSpec, training: object) -> tuple[Phase, ...]:
        def loss(model: nn.Module, batch: Batch) -> Tensor:
            time.sleep(0.15)
            return nn.functional.cross_entropy(model(batch.inputs), batch.targets)

        return (Phase(name="all", loss=loss),)


@family
class Hungry(Family):
    """Wants more memory than there is, in the way its field says."""

    what: str = Choice("tensors", "arrays", "lists", "backward", default="tensors")

    def build(self, data: DataSpec) -> nn.Module:
        keep: list[object] = []
        for _ in range(100):
            if self.what == "tensors":
                keep.append(torch.ones(5_000_000))
            if self.what == "arrays":
                keep.append(np.ones(2_500_000))
            if self.what == "lists":
                keep.append([0] * 2_500_000)
        if self.what == "backward":
            net = nn.Linear(5_000, 5_000)
            net(torch.ones(40, 5_000)).sum().backward()
        return Linear().build(data)


@family
class Wrong(Family):
    """Raises in its loss."""

    def build(self, data: DataSpec) -> nn.Module:
        return Linear().build(data)

    @override
    def phases(self, data: DataSpec, training: object) -> tuple[Phase, ...]:
        def loss(model: nn.Module, batch: Batch) -> Tensor:
            raise KeyError("no such target")  # the line that users look for

        return (Phase(name="all", loss=loss),)


class Notes(Silent):
    """Keeps what is said, and which epochs were finished."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.epochs: list[int] = []

    @override
    def note(self, text: str) -> None:
        self.notes.append(text)

    @override
    def epoch(self, subject: Subject, row: Epoch) -> None:
        self.epochs.append(row.epoch)


def outcomes(executor: LocalExecutor, limit: float = 30.0) -> dict[int, Event]:
    """How each submitted job ended, by trial number."""
    ended = {e.key.number: e for e in events_of(executor, limit) if isinstance(e.payload, Outcome)}
    assert not executor.num_running
    return ended


def numbered(cls: type[Family], data: ImageData, folder: Path, number: int, **config: object):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    made = job(cls, data, folder / str(number), **config)
    return replace(made, key=replace(made.key, number=number))


@pytest.fixture
def executor_of() -> Iterator[Callable[..., LocalExecutor]]:
    made: list[LocalExecutor] = []

    def make(**options: object) -> LocalExecutor:
        made.append(LocalExecutor(4, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for executor in made:
        executor.close()


Make = Callable[..., LocalExecutor]


# hangs


def test_a_worker_that_hangs_is_ended_and_says_where(
    executor_of: Make, striped: ImageData, tmp_path: Path
) -> None:
    ways = {
        "loop": "the worker showed no progress for 1 s: it computed",
        "deadlock": "the worker showed no progress for 1 s: it ",  # a busy machine: it computed
        "stop": "the worker showed no progress for 1 s: it was stopped by a signal or a debugger",
    }
    executor = executor_of(patience=PATIENCE)
    for number, how in enumerate(ways):
        executor.submit(numbered(Hanging, striped, tmp_path, number, how=how), 1)
    executor.submit(numbered(Linear, striped, tmp_path, 3), 1)
    ended = outcomes(executor)
    assert isinstance(ended[3].payload, Outcome)
    assert ended[3].payload.status is Status.COMPLETED
    for number, (how, sentence) in enumerate(ways.items()):
        found = ended[number].payload
        assert isinstance(found, Outcome)
        assert ended[number].is_lost
        assert found.status is Status.TIMED_OUT
        assert found.reason.splitlines()[-1].startswith(sentence)
        assert (f'{Path(__file__).name}", line' in found.reason) is (how != "stop")
        assert ("in hang\n" in found.reason) is (how != "stop")


def test_a_slow_worker_that_gets_on_is_left_alone(
    executor_of: Make, striped: ImageData, tmp_path: Path
) -> None:
    executor = executor_of(patience=PATIENCE)
    executor.submit(numbered(Slow, striped, tmp_path, 0, batch_size=16), 1)
    began = time.monotonic()
    found = outcomes(executor)[0].payload
    assert time.monotonic() - began > 2 * PATIENCE.idle
    assert isinstance(found, Outcome)
    assert found.status is Status.COMPLETED


@pytest.fixture
def two_processes() -> Iterator[tuple[int, int]]:
    """A process that computes and one that waits."""
    commands = ([sys.executable, "-c", "while True: pass"], ["sleep", "60"])
    started = [subprocess.Popen(command) for command in commands]
    yield started[0].pid, started[1].pid
    for process in started:
        process.kill()
        process.wait()


def test_a_silent_worker_that_computes_is_given_more_time_than_one_that_waits(
    two_processes: tuple[int, int],
) -> None:
    patience = Patience(idle=10.0, busy=100.0)
    busy, idle = (Silence(pid=pid, since=0.0, has_begun=True) for pid in two_processes)
    for silence in (busy, idle):
        assert silence.too_long(9.9, patience) is None
    used = processor_seconds(busy.pid) or 0.0
    while (processor_seconds(busy.pid) or 0.0) < used + 0.05:
        time.sleep(0.01)
    assert idle.too_long(10.0, patience) == 10.0
    assert busy.too_long(10.0, patience) is None
    assert busy.too_long(100.0, patience) is not None
    busy.heard(100.0)
    assert busy.too_long(109.9, patience) is None
    not_begun = Silence(pid=idle.pid, since=0.0)
    assert not_begun.too_long(9.9, patience) is None
    assert not_begun.too_long(59.9, patience) is None
    assert not_begun.too_long(60.0, patience) == 60.0


def test_time_in_which_the_run_itself_was_stopped_counts_against_nobody() -> None:
    now = 100.0
    attention = Attention(1.0, clock=lambda: now)
    now += 0.1
    assert attention.look() == pytest.approx(0.1)
    now += 3600
    assert attention.look() == pytest.approx(1.1)
    now += 0.1
    assert attention.look() == pytest.approx(1.2)
    now += 3600
    assert attention.look(waited=5.0) == pytest.approx(7.2)


def test_a_training_whose_worker_hung_once_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    marker, steps = tmp_path / "hung", tmp_path / "steps"

    @family
    class Stuck(Family):
        """Hangs in its third epoch, the first time."""

        def build(self, data: DataSpec) -> nn.Module:
            return Linear().build(data)

        @override
        def phases(self, data: DataSpec, training: object) -> tuple[Phase, ...]:
            count = 0

            def loss(model: nn.Module, batch: Batch) -> Tensor:
                nonlocal count
                count += 1
                with steps.open("a") as file:
                    file.write(f"{count}\n")
                if count == 6 and not marker.exists():  # of two batches an epoch
                    marker.touch()
                    hang("deadlock")
                return nn.functional.cross_entropy(model(batch.inputs), batch.targets)

            return (Phase(name="all", loss=loss),)

    study = linear_study(
        families=[Stuck], trials=1, epochs=4, confirm=None, space={"batch_size": 64}
    )
    watcher = Notes()
    found = run(study, reports=tmp_path / "hung-once", workers=1, watcher=watcher, stall=1.0)
    assert watcher.notes[0] == (
        "Stuck #0: the worker showed no progress for 1 s: it waited and used no processor; "
        "it goes on"
    )
    assert watcher.epochs == [1, 2, 3, 4]
    assert steps.read_text().split() == [*"123456", *"1234"]  # the third epoch and the fourth
    assert_same_results(found, run_inline(study, tmp_path / "whole"))
    ledger = Ledger(f"sqlite:///{tmp_path / 'hung-once' / 'studies.sqlite'}", read_only=True)
    (training,) = ledger.trainings("lines")
    assert (training.losses, training.attempt, training.epochs) == (1, 2, 4)


def test_limits_that_cannot_be_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    study = linear_study()
    with pytest.raises(StudyError, match=r"stall: must be at least 0.2 seconds; got 0; leave it"):
        run(study, reports=tmp_path / "reports", stall=0)
    with pytest.raises(StudyError, match=r"memory: must be gigabytes .*, more than 0; got -1;"):
        run(study, reports=tmp_path / "reports", memory=-1)
    assert not (tmp_path / "reports").exists()


# deaths


def test_a_training_is_given_up_for_lost_workers_and_not_for_interruptions(tmp_path: Path) -> None:
    class Stop(BaseException):
        pass

    class Stopping(Silent):
        @override
        def started(self, subject: Subject) -> None:
            raise Stop

    class Counting(Silent):
        started_at: list[str] = []  # noqa: RUF012

        @override
        def started(self, subject: Subject) -> None:
            self.started_at.append(subject.title)

    @family
    class Leaving(Family):
        """Ends its process, with a word."""

        def build(self, data: DataSpec) -> nn.Module:
            os.write(2, b"no licence found\n")
            os._exit(3)

    study = linear_study(families=[Leaving], trials=1, confirm=None)
    for _ in range(4):
        with pytest.raises(Stop):
            run(study, reports=tmp_path, workers=1, watcher=Stopping())
    found = run(study, reports=tmp_path, workers=1, watcher=Counting())
    assert Counting.started_at == ["Leaving #0"] * 3
    assert found.trials["status"].tolist() == ["crashed"]
    reason = found.trials["reason"][0].splitlines()
    assert reason == ["no licence found"] * 3 + ["the worker ended with exit code 3"]


def test_a_worker_that_dies_while_it_reads_the_test_split_is_replaced(tmp_path: Path) -> None:
    marker = tmp_path / "died"

    @family
    class Fragile(Family):
        """Is killed at the first reading of the test split."""

        def build(self, data: DataSpec) -> nn.Module:
            is_test = any(frame.name == "_test" for frame in traceback.extract_stack())
            if is_test and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return Linear().build(data)

    study = linear_study(families=[Fragile], trials=1, epochs=1, confirm=(1, 1))
    watcher = Notes()
    found = run(study, reports=tmp_path / "reports", workers=1, watcher=watcher)
    assert watcher.notes[0] == ("test Fragile #0: the worker was killed by SIGKILL; it goes on")
    assert found.confirmation["test_accuracy"].notna().all()


# memory


def test_a_trial_that_needs_too_much_memory_ends_as_out_of_memory_and_its_neighbour_lives(
    executor_of: Make, striped: ImageData, tmp_path: Path
) -> None:
    executor = executor_of(memory=150 * MEGA)
    ways = ("tensors", "arrays", "lists")
    for number, what in enumerate(ways):
        executor.submit(numbered(Hungry, striped, tmp_path, number, what=what), 1)
    executor.submit(numbered(Linear, striped, tmp_path, 3), 1)
    ended = outcomes(executor)
    assert isinstance(ended[3].payload, Outcome)
    assert ended[3].payload.status is Status.COMPLETED
    for number in range(len(ways)):
        found = ended[number].payload
        assert isinstance(found, Outcome)
        assert not ended[number].is_lost
        assert found.status is Status.OUT_OF_MEMORY
        assert found.reason.startswith("the worker ran out of memory")
        assert found.reason.endswith("the limit of each worker is 0.1 GB")


@pytest.mark.skipif(
    not os.access(GROUPS, os.W_OK) or not (GROUPS / "cgroup.procs").exists(),
    reason="no memory control group can be made here",
)
def test_a_worker_that_the_kernel_kills_for_memory_is_out_of_memory(
    executor_of: Make, striped: ImageData, tmp_path: Path
) -> None:
    group = GROUPS / f"torchstudy-test-{os.getpid()}"
    group.mkdir()

    @family
    class Confined(Family):
        """Needs more than its control group may have."""

        def build(self, data: DataSpec) -> nn.Module:
            (group / "cgroup.procs").write_text(str(os.getpid()))
            torch.ones(100_000_000)
            return Linear().build(data)

    try:
        (group / "memory.limit_in_bytes").write_text("100000000")
        executor = executor_of()
        executor.submit(numbered(Confined, striped, tmp_path, 0), 1)
        event = outcomes(executor)[0]
    finally:
        group.rmdir()
    assert isinstance(event.payload, Outcome)
    assert event.payload.status is Status.OUT_OF_MEMORY
    assert event.payload.reason == "the worker was killed as no memory was left"
    assert not event.is_lost


def test_workers_share_what_machine_and_control_groups_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    (proc / "self").mkdir(parents=True)
    inner = groups / "outer" / "inner"
    inner.mkdir(parents=True)
    monkeypatch.setattr(memory, "PROC", proc)
    monkeypatch.setattr(memory, "CGROUPS", groups)
    assert memory.available() == float("inf")
    (proc / "meminfo").write_text("MemTotal:  64000000 kB\nMemAvailable:   40000000 kB\n")
    assert memory.available() == 40_000_000 * 1024
    (proc / "self" / "cgroup").write_text("0::/outer/inner\n")
    (inner / "memory.max").write_text("max\n")
    (groups / "outer" / "memory.max").write_text("21000000000\n")
    (groups / "outer" / "memory.current").write_text("12000000000\n")
    (groups / "outer" / "memory.stat").write_text("anon 1\ninactive_file 2000000000\n")
    assert memory.available() == 11e9
    assert memory.fair_share(2) == pytest.approx(0.9 * 10e9 / 2)
    assert memory.fair_share(100) == 1e9
    (proc / "self" / "cgroup").write_text("4:memory:/gone\n0::/\n")
    (groups / "memory").mkdir()
    (groups / "memory" / "memory.limit_in_bytes").write_text("5000000000\n")
    (groups / "memory" / "memory.usage_in_bytes").write_text("1000000000\n")
    assert memory.available() == 4e9


def test_only_what_the_kernel_has_killed_just_now_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "PROC", tmp_path)
    now, counter = 0.0, tmp_path / "vmstat"
    counter.write_text("nr_free 1\noom_kill 7\n")
    kills = memory.KernelKills(clock=lambda: now)
    assert not kills.take()
    counter.write_text("nr_free 1\noom_kill 8\n")
    assert kills.take()
    assert not kills.take()
    counter.write_text("nr_free 1\noom_kill 9\n")
    now = 1.0
    kills.look()
    now = 2.0
    kills.look()
    assert not kills.take()


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("std::bad_alloc"), True),
        (ImportError("x.so: failed to map segment from shared object"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (KeyError("out of memory"), False),
    ],
)
def test_every_way_to_say_that_memory_is_short_is_understood(
    error: Exception, is_memory: bool
) -> None:
    wrapped = ValueError("the network cannot be built")
    wrapped.__cause__ = error
    for raised in (error, wrapped):
        assert (failure(raised).status is Status.OUT_OF_MEMORY) is is_memory


def test_what_needs_too_much_memory_is_never_proposed_again(tmp_path: Path) -> None:
    @family
    class Large(Family):
        """Its largest kind never fits."""

        size: str = Choice("small", "medium", "large", default="large")
        norm: str = Choice("none", "batch", default="none")

        def build(self, data: DataSpec) -> nn.Module:
            if self.size == "large":
                raise MemoryError
            return Linear().build(data)

    fixed = {"batch_size": 150, "optimizer": "adam", "learning_rate": 0.01}
    fixed |= {"weight_decay": 0.0, "schedule": "cosine"}
    study = linear_study(families=[Large], space=fixed, trials=20, epochs=1, confirm=None)
    table = run_inline(study, tmp_path).trials
    assert table["status"].tolist().count("out_of_memory") == 2
    assert len(table) == 6
    assert not table.duplicated(["config.size", "config.norm"]).any()


# errors


def test_the_same_error_thrice_stops_the_run_and_shows_the_users_line_once(tmp_path: Path) -> None:
    study = linear_study(families=[Wrong], trials=9, confirm=None)
    with pytest.raises(RunError, match="the first 3 trials of Wrong crashed alike:\n") as caught:
        run(study, reports=tmp_path, workers=2, quiet=True)
    lines = str(caught.value).splitlines()
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[2].startswith(f'  File "{__file__}", line ')
    assert lines[2].endswith(", in loss")
    assert lines[3].strip().startswith('raise KeyError("no such target")')
    assert lines[-2] == "KeyError: 'no such target'"
    assert lines[-1] == "once it is mended, --retry-crashed trains them again"
    assert str(caught.value).count("no such target") == 2  # the line itself, and what it raised


def test_an_error_of_the_package_itself_keeps_its_whole_traceback() -> None:
    def broken() -> None:
        torch.zeros(2) @ torch.zeros(3)

    try:
        broken()
    except RuntimeError as error:
        found = failure(error)
        error.__traceback__ = None
        bare = failure(error)
    assert found.reason.splitlines()[-1].startswith("RuntimeError: inconsistent tensor size")
    assert "in broken" in found.reason
    assert bare.reason == found.reason.splitlines()[-1] + "\n"


def test_a_family_that_leaves_python_is_a_crash_and_not_a_lost_worker(tmp_path: Path) -> None:
    @family
    class Quitting(Family):
        """Calls exit."""

        def build(self, data: DataSpec) -> nn.Module:
            raise SystemExit("bye")

    study = linear_study(families=[Quitting], trials=1, confirm=None)
    table = run_inline(study, tmp_path).trials
    assert table["status"].tolist() == ["crashed"]
    assert table["reason"][0].endswith("SystemExit: bye\n")
