"""How long workers waited for proposals: counted right, kept over runs, and said."""

import re
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.test_runner import linear_study, run_inline
from typing_extensions import override

from torchstudy.execution import session
from torchstudy.execution.asking import Answer, InlineAsker
from torchstudy.execution.idle import Idle, Timesheet
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.watching import Silent
from torchstudy.search.questions import Question

pytestmark = pytest.mark.usefixtures("short_reports")

DELAY = 0.5  # seconds from a question to its answer
SLACK = 0.1  # of which the worker was busy, or nothing was counted yet


class ScriptedClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class LateAsker(InlineAsker):
    """Knows every answer only `DELAY` seconds after the question."""

    @override
    def ask(self, question: Question) -> None:
        super().ask(question)
        self._asked = time.monotonic()

    @override
    def answer(self) -> Answer | None:
        is_late = self.is_busy and time.monotonic() < self._asked + DELAY
        return None if is_late else super().answer()


class Notes(Silent):
    def __init__(self) -> None:
        self.texts: list[str] = []

    @override
    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger("sqlite://")
    ledger.claim("lines", {})
    return ledger


def kept(ledger: Ledger) -> Mapping[str, object]:
    return ledger.studies()[0].summary


def test_each_second_of_each_worker_is_counted_once(ledger: Ledger) -> None:
    clock = ScriptedClock()
    sheet = Timesheet(ledger, "lines", {"seed": 3}, clock)
    for seconds, busy, waiting, is_computing in [
        (1.0, 2, 0, True),
        (10.0, 1, 1, True),
        (100.0, 1, 2, False),
        (1000.0, 0, 0, False),
    ]:
        sheet.mark(busy, waiting, is_computing=is_computing)
        clock.now += seconds
    sheet.mark(0, 0, is_computing=False)
    assert sheet.idle == Idle(busy=2 + 10 + 100, computing=10, results=200)
    assert sheet.idle.share == 210 / 322
    assert sheet.idle.sentence == (
        "the search trained for 1.9 min of worker time; workers waited 3.5 min (65.2%) for what to "
        "try next: 10 s while it was computed, 3.3 min for results that it builds on"
    )


def test_where_nobody_waited_that_is_all_that_is_said() -> None:
    assert Idle(busy=13.4, computing=0.04).sentence == (
        "the search trained for 13 s of worker time; no worker waited for what to try next"
    )


def test_seconds_add_up_over_the_runs_of_a_study(ledger: Ledger) -> None:
    for _ in range(2):
        clock = ScriptedClock()
        sheet = Timesheet(ledger, "lines", {"seed": 3}, clock)
        sheet.mark(1, 1, is_computing=True)
        clock.now += 2.5
        sheet.mark(0, 0, is_computing=False)
        sheet.save()
        sheet.save()  # as after each trial: nothing is counted twice
    assert kept(ledger) == {"seed": 3, "idle": {"busy": 5.0, "computing": 5.0, "results": 0.0}}
    Timesheet(ledger, "lines", {"seed": 3})
    assert Idle.of(kept(ledger)) == Idle(busy=5.0, computing=5.0)


def test_a_search_that_did_nothing_waited_for_no_share_of_the_time() -> None:
    assert Idle().share == 0.0
    assert Idle.of({}) == Idle()


def test_a_run_counts_how_long_its_worker_waited_for_late_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "InlineAsker", LateAsker)
    notes = Notes()
    began = time.monotonic()
    first = run_inline(linear_study(trials=2, epochs=1, confirm=None), tmp_path, watcher=notes)
    before = Idle.of(first.summary)
    assert before.computing >= DELAY - before.busy - SLACK  # one answer, while the recipe trains
    assert before.results == 0
    said = re.fullmatch(
        r"the search trained for .* worker time; workers waited .* \((.*)%\) for what .*",
        notes.texts[-1],
    )
    assert said
    assert float(said[1]) == pytest.approx(100 * before.share, abs=0.2)  # both are rounded

    results = run_inline(linear_study(trials=3, epochs=1, confirm=None), tmp_path, watcher=notes)
    after = Idle.of(results.summary)
    # The second question is asked before anything trains: its worker waits all the time.
    assert after.computing >= before.computing + DELAY - SLACK
    assert after.busy > before.busy
    assert after.busy + after.waiting < time.monotonic() - began  # there is one worker
    assert results.trials["origin"].tolist() == ["recipe", "near", "sobol"]


def test_a_run_with_nothing_left_to_train_says_and_changes_nothing(tmp_path: Path) -> None:
    study = linear_study(trials=1, epochs=1, confirm=None)
    before = run_inline(study, tmp_path).summary["idle"]
    notes = Notes()
    assert run_inline(study, tmp_path, watcher=notes).summary["idle"] == before
    assert before["busy"] > 0
    assert not [text for text in notes.texts if "waited" in text]
