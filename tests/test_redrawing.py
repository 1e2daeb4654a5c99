"""A report that is redrawn while its study runs: seldom, whole, and at nobody's risk."""

import json
import os
import threading
import time
from itertools import pairwise
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from tests.command import optimize, write_study
from typing_extensions import override

from torchstudy import run
from torchstudy.errors import CannotWrite
from torchstudy.execution import redrawing
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.redrawing import (
    BEGUN,
    NEWS,
    STOP,
    Order,
    Redrawing,
    pause_after,
    redraw,
    redraw_on_news,
)
from torchstudy.execution.watching import Plan, Silent
from torchstudy.records import Objective
from torchstudy.study_files import load_study

pytestmark = pytest.mark.usefixtures("short_reports")

PLAN = Plan(
    study="tiny",
    families=("CNN",),
    objective=Objective(metric="accuracy", direction="maximize"),
    trials=2,
    epochs=2,
    confirmations=0,
    num_workers=1,
    done={"CNN": 0},
    left={"CNN": 2},
)


class Listening(Silent):
    """Keeps what it is told in passing."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @override
    def note(self, text: str) -> None:
        self.notes.append(text)


def order(folder: Path) -> Order:
    return Order(url=f"sqlite:///{folder / 'studies.sqlite'}", study="tiny", folder=folder / "tiny")


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The child's loop in a thread, with a redrawing that is counted."""
    drawn: list[float] = []
    monkeypatch.setattr(redrawing.os, "nice", lambda _: 0)
    monkeypatch.setattr(redrawing, "redraw", lambda _: drawn.append(time.monotonic()))
    monkeypatch.setattr(redrawing, "LEAST_PAUSE", 0.2)
    own, theirs = Pipe()
    thread = threading.Thread(target=redraw_on_news, args=(theirs, order(Path())))
    thread.start()
    yield own, drawn, thread
    own.close()
    thread.join(5)
    theirs.close()
    assert not thread.is_alive()


def test_it_rests_at_least_so_long_and_at_least_twenty_times_what_it_took() -> None:
    assert pause_after(0.1) == 10
    assert pause_after(3.0) == 60


def test_news_are_drawn_one_after_another_with_a_rest_between(child: Any) -> None:
    own, drawn, thread = child
    for _ in range(3):
        own.send_bytes(NEWS)
        assert own.recv_bytes() == BEGUN
    own.send_bytes(STOP)
    thread.join(5)
    assert len(drawn) == 3
    assert all(later - earlier >= 0.2 for earlier, later in pairwise(drawn))


def test_a_rest_ends_at_once_when_the_run_does(child: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    own, drawn, thread = child
    monkeypatch.setattr(redrawing, "LEAST_PAUSE", 60.0)
    own.send_bytes(NEWS)
    assert own.recv_bytes() == BEGUN
    own.send_bytes(NEWS)
    own.send_bytes(STOP)
    thread.join(5)
    assert not thread.is_alive()
    assert len(drawn) == 1


def test_what_hinders_a_redrawing_is_one_line_and_the_next_is_tried(
    child: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, _, _ = child

    def refuse(_: Order) -> None:
        raise CannotWrite("report.html cannot be written:\nmake room there")

    monkeypatch.setattr(redrawing, "redraw", refuse)
    for _ in range(2):
        own.send_bytes(NEWS)
        assert own.recv_bytes() == BEGUN
        assert own.recv_bytes() == b"report.html cannot be written: make room there"


def test_a_run_says_once_that_there_is_news_and_notes_a_failure_once(tmp_path: Path) -> None:
    inner = Listening()
    watcher = Redrawing(inner, order(tmp_path))
    own, theirs = Pipe()
    watcher._connection = own
    for _ in range(3):
        watcher._tell()
    assert theirs.recv_bytes() == NEWS
    assert not theirs.poll()
    for _ in range(2):
        theirs.send_bytes(BEGUN)
        theirs.send_bytes(b"no room")
        watcher._tell()
        assert theirs.recv_bytes() == NEWS
    assert inner.notes == ["the report was not redrawn: no room"]
    theirs.close()
    watcher._tell()
    watcher._tell()
    assert len(inner.notes) == 2
    assert "the run's end writes it" in inner.notes[1]


def test_a_search_after_another_is_told_of_its_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process rested when its search ended: it had not answered what it was told."""
    children: list[Connection] = []

    class Process:
        pid = 1

        def join(self, patience: float | None = None) -> None: ...

        def kill(self) -> None: ...

        def close(self) -> None: ...

    def started(function: object, theirs: Connection, *given: object, name: str) -> Process:
        children.append(Connection(os.dup(theirs.fileno())))
        return Process()

    monkeypatch.setattr(redrawing, "start_process", started)
    watcher = Redrawing(Listening(), order(tmp_path))
    for _ in range(2):
        watcher.begun(None)  # type: ignore[arg-type]  # what is planned is no question here
        watcher.written_next()
    assert [child.recv_bytes() for child in children] == [NEWS, NEWS]


def test_no_process_for_it_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(redrawing, "start_process", refuse)
    inner = Listening()
    watcher = Redrawing(inner, order(tmp_path))
    watcher.begun(PLAN)
    watcher.written_next()
    assert len(inner.notes) == 1
    assert "Resource temporarily unavailable" in inner.notes[0]


def test_a_redrawing_of_a_running_study_is_a_live_page(
    finished_study: Path, tmp_path: Path
) -> None:
    url = f"sqlite:///{finished_study / 'reports' / 'studies.sqlite'}"
    ledger = Ledger(url, read_only=True)
    name = next(state.name for state in ledger.studies())
    ledger.close()
    redraw(Order(url=url, study=name, folder=tmp_path))
    assert (tmp_path / "trials.csv").exists()
    assert "live-words" not in (tmp_path / "report.html").read_text()
    summary = json.loads((tmp_path / "study.json").read_text())
    from torchstudy.report.page import write_report

    (tmp_path / "study.json").write_text(json.dumps({**summary, "state": "running"}))
    assert "live-words" in write_report(tmp_path).read_text()


@pytest.mark.slow
def test_a_watched_run_leaves_what_an_unwatched_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two whole runs, one of them with a process that loads the libraries of the report."""
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path, "tiny")
    study = load_study("tiny")
    inner = Listening()
    run(study, reports="watched", workers=1, executor="inline", watch=True, watcher=inner)
    run(study, reports="plain", workers=1, executor="inline", quiet=True)
    left = {path.name for path in Path("watched/tiny").iterdir()}
    assert left == {path.name for path in Path("plain/tiny").iterdir()}
    assert [note for note in inner.notes if "redrawn" in note] == [
        "redrawn as results come in: watched/tiny/report.html"
    ]
    page = Path("watched/tiny/report.html").read_text()
    assert "live-words" not in page
    assert "connect-src" not in page
    ended = optimize("run", "tiny", "--watch", "--dry-run", "--reports", "watched")
    assert ended.exit_code == 0
