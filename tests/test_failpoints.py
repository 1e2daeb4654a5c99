"""Places where a process fails on purpose: which there are, and what can happen at them."""

import ast
import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from torchstudy import failpoints
from torchstudy.errors import StudyError
from torchstudy.failpoints import POINTS, VARIABLE, arm, failpoint

PACKAGE = Path(failpoints.__file__).parent


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    arm("")


def names_in(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "failpoint":
            assert isinstance(node.args[0], ast.Constant)
            yield str(node.args[0].value)


def test_every_failpoint_is_somewhere_and_no_other_is_anywhere() -> None:
    found = {name for path in PACKAGE.rglob("*.py") for name in names_in(path)}
    assert found == set(POINTS)


def test_nothing_happens_where_nothing_was_asked_for() -> None:
    for name in POINTS:
        failpoint(name)
    arm("after-claim:raise")
    failpoint("after-ask")
    arm("")
    failpoint("after-claim")


def test_it_happens_at_the_passing_that_was_named_and_only_there() -> None:
    arm("after-ask:raise@3, after-claim:full")
    failpoint("after-ask")
    failpoint("after-ask")
    with pytest.raises(RuntimeError, match="the failpoint after-ask raises"):
        failpoint("after-ask")
    failpoint("after-ask")
    with pytest.raises(OSError, match="No space left on device") as caught:
        failpoint("after-claim")
    assert caught.value.errno == errno.ENOSPC


def test_a_passing_can_take_long_and_every_passing_can_be_noted(tmp_path: Path) -> None:
    arm(f"after-ask:sleep:0.05@2,after-ask:note:{tmp_path / 'seen'}@2")
    failpoint("after-ask")
    began = time.monotonic()
    failpoint("after-ask")
    assert time.monotonic() - began >= 0.05
    failpoint("after-ask")
    assert (tmp_path / "seen").read_text() == "after-ask\nafter-ask\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("after-ledger-comit:kill", "no failpoint 'after-ledger-comit' (did you mean 'after-ledg"),
        ("nowhere:kill", "no failpoint 'nowhere'; there are before-ledger-commit, "),
        ("after-ask", "'after-ask' has no action ''; there are kill, killgroup, exit, raise, "),
        ("after-ask:die@2", "'after-ask:die@2' has no action 'die'; there are kill, "),
        ("after-ask:sleep:long", "has no action 'sleep:long'; there are kill, "),
        ("after-ask:kill@0", "'after-ask:kill@0' must end in @1, @2, ... or without a number"),
        ("after-ask:kill@-1", "must end in @1, @2, ... or without a number"),
    ],
)
def test_what_cannot_happen_is_refused(text: str, message: str) -> None:
    with pytest.raises(StudyError, match=re.escape(message)) as caught:
        arm(text)
    assert str(caught.value).startswith(VARIABLE)


def test_a_process_does_what_its_environment_says() -> None:
    """One child for each way to end: bare processes, without torch."""
    code = "from torchstudy.failpoints import failpoint; failpoint('after-ask')"
    ends = {}
    for action in ("kill", "killgroup", "exit", "stop"):
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, VARIABLE: f"after-ask:{action}"},
            start_new_session=True,
        )
        if action == "stop":
            _, status = os.waitpid(child.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            child.kill()
        ends[action] = child.wait()
    killed = -signal.SIGKILL
    assert ends == {"kill": killed, "killgroup": killed, "exit": 3, "stop": killed}
