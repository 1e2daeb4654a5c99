"""`status --watch`: every change once in a pipe, the latest on a terminal, until Ctrl-C."""

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from tests.command import optimize

from torchstudy import following
from torchstudy.errors import StorageError, StudyError
from torchstudy.following import follow, pause_of


def looks(*found: str | Exception) -> Callable[[], str]:
    """A look that finds these, one after another, and is then interrupted."""
    left = iter(found)

    def look() -> str:
        one = next(left, KeyboardInterrupt())
        if isinstance(one, BaseException):
            raise one
        return one

    return look


def blocks(text: str) -> list[str]:
    """What was printed, without the times."""
    assert re.match(r"\d\d:\d\d:\d\d\n", text)
    return [block for block in re.split(r"\d\d:\d\d:\d\d\n", text.replace("\n\n", "\n")) if block]


def test_a_pipe_gets_a_block_for_every_change(capsys: pytest.CaptureFixture[str]) -> None:
    follow(looks("one", "one", "two", "two", "one"), 0.0)
    assert blocks(capsys.readouterr().out) == ["one\n", "two\n", "one\n"]


def test_a_study_that_is_not_there_yet_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    follow(looks(StudyError("study 'x' has not been run yet"), "one"), 0.0)
    shown = blocks(capsys.readouterr().out)
    assert shown == ["nothing to show yet: study 'x' has not been run yet\n", "one\n"]


def test_a_ledger_is_an_error_at_first_and_a_state_later(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(StorageError):
        follow(looks(StorageError("no database")), 0.0)
    follow(looks("one", StorageError("is locked"), "one"), 0.0)
    shown = blocks(capsys.readouterr().out)
    assert shown == ["one\n", "cannot be read now: is locked\n", "one\n"]


def test_a_terminal_shows_the_latest_and_how_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80)
    monkeypatch.setattr(following, "Console", lambda: console)
    follow(looks("one", "two"), 0.0)
    text = stream.getvalue()
    assert text.index("one") < text.index("two")
    assert "Ctrl-C ends this" in text
    assert "\x1b[1A" in text  # drawn over what stood there


def test_long_looks_are_followed_by_long_rests(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rests: list[float] = []
    clock = iter([0.0, 0.01, 5.0, 6.0, 9.0])
    monkeypatch.setattr(following.time, "sleep", rests.append)
    monkeypatch.setattr(following.time, "monotonic", lambda: next(clock))
    follow(looks("one", "two"), 2.0)
    assert rests == [2.0, 10.0]
    assert "two" in capsys.readouterr().out


@pytest.mark.parametrize("every", [0.0, -1.0, 0.1, float("nan"), float("inf")])
def test_a_pause_that_is_none_is_refused(every: float) -> None:
    with pytest.raises(StudyError, match=r"--every must be at least 0.2 seconds, got"):
        pause_of(True, every)


def test_a_pause_needs_something_to_pause() -> None:
    assert pause_of(False, None) is None
    assert pause_of(True, None) == 2.0
    assert pause_of(True, 0.5) == 0.5
    with pytest.raises(StudyError, match="give --watch as well"):
        pause_of(False, 1.0)


def test_a_wrong_pause_is_one_sentence(finished_study: Path) -> None:
    ended = optimize("status", "--every", "3")
    assert ended.exit_code == 2
    assert ended.stderr == "error: --every says how often --watch looks; give --watch as well\n"


@pytest.mark.slow
@pytest.mark.parametrize("is_terminal", [False, True])
def test_ctrl_c_ends_it_well(finished_study: Path, is_terminal: bool) -> None:
    """A process of its own, which loads the command."""
    ours, theirs = pty.openpty() if is_terminal else os.pipe()
    command = [sys.executable, "-m", "torchstudy.cli", "status", "tiny", "--watch", "--every", "1"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:  # a job in the background is started with SIGINT ignored, and so is what it starts
        process = subprocess.Popen(command, stdout=theirs, stderr=theirs)
    finally:
        signal.signal(signal.SIGINT, before)
    os.close(theirs)
    shown, until = "", time.monotonic() + 60
    while "finished" not in shown or "CNN" not in shown:
        assert time.monotonic() < until, shown
        if select.select([ours], [], [], 1)[0]:
            shown += os.read(ours, 4096).decode()
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(30) == 0
    finally:
        process.kill()
        os.close(ours)
