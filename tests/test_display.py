"""The live display, on a terminal of a given width that is kept as text."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from tests.test_watching import ROW, a_plan, a_subject

from torchstudy.display import LiveDisplay
from torchstudy.records import Objective, Outcome, Status


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=60, height=20, force_terminal=True, color_system=None)


def last_picture(display: LiveDisplay, console: Console) -> list[str]:
    """The lines that the display shows now, without the escape codes that move the cursor."""
    still = Console(file=io.StringIO(), width=console.width, color_system=None)
    with still.capture() as captured:
        still.print(display._picture())
    return [line.rstrip() for line in captured.get().splitlines()]


def test_a_run_shows_bars_best_scores_what_runs_and_the_time_left(console: Console) -> None:
    display = LiveDisplay(console)
    display.preparing("decode", 5, 10)
    assert last_picture(display, console)[0].endswith(" 5/10")
    display.begun(a_plan(done=1, left=7))
    display.started(a_subject())
    display.epoch(a_subject(), ROW)
    lines = last_picture(display, console)
    assert lines[0].startswith("CNN ")
    assert lines[0].endswith(" 1/8")
    assert lines[2] == "  CNN #7  epoch 1/3  valid accuracy 0.5000"
    for seed, accuracy in enumerate((0.5, 0.7, 0.6)):
        outcome = Outcome(status=Status.COMPLETED, metrics={"valid_accuracy": accuracy})
        display.ended(a_subject(seed=1 + seed), outcome, 60.0)
    lines = last_picture(display, console)
    assert lines[0].endswith(" 4/8 best valid accuracy 0.7000 (#7)")
    assert lines[-1].endswith(" ms so far, about 2.0 min left")
    display.close()


def test_further_objectives_are_shown_while_they_change(console: Console) -> None:
    display, other = LiveDisplay(console), Objective(metric="r2", direction="maximize")
    display.begun(replace(a_plan(done=1, left=7), others=(other,)))
    display.epoch(a_subject(), replace(ROW, metrics={"accuracy": 0.5, "r2": 0.25}))
    told = "valid accuracy 0.5000, valid R\u00b2 0.2500"
    assert last_picture(display, console)[2] == f"  CNN #7  epoch 1/3  {told}"
    display.close()


def test_a_trial_that_rests_at_rungs_counts_once_with_all_its_time(console: Console) -> None:
    display = LiveDisplay(console)
    display.begun(a_plan(done=0, left=8))
    for seed in range(3):
        for epochs, accuracy in ((3, 0.5), (9, 0.6 + seed / 10)):
            outcome = Outcome(
                status=Status.PAUSED, epochs=epochs, metrics={"valid_accuracy": accuracy}
            )
            display.ended(a_subject(seed=seed, until=epochs), outcome, 30.0)
    display.ended(a_subject(seed=5, until=9), Outcome(status=Status.PAUSED, epochs=4), 30.0)
    lines = last_picture(display, console)
    assert lines[0].endswith(" 3/8 best valid accuracy 0.8000 (#7)")
    assert lines[-1].endswith(" so far, about 2.5 min left")  # 60 s each, five left, two workers
    display.close()


def test_failures_and_notes_stay_above_the_bars(console: Console) -> None:
    display = LiveDisplay(console)
    display.begun(a_plan())
    display.note("something [odd]")
    display.started(a_subject())
    display.ended(a_subject(), Outcome(status=Status.DIVERGED, reason="loss is nan"), 1.0)
    display.close()
    assert isinstance(console.file, io.StringIO)
    said = " ".join(console.file.getvalue().split())
    assert "something [odd]" in said
    assert "diverged" in said
    assert "loss is nan" in said


def test_reading_the_test_split_counts_for_no_bar(console: Console) -> None:
    display = LiveDisplay(console)
    display.begun(a_plan(done=8, left=0))
    display.started(a_subject("confirmation", "test"))
    display.ended(a_subject("confirmation", "test"), Outcome(status=Status.COMPLETED), 1.0)
    assert last_picture(display, console)[0].endswith(" 8/8")
    display.close()


def test_bars_are_full_at_the_end_though_fewer_were_confirmed(console: Console) -> None:
    display = LiveDisplay(console)
    display.begun(a_plan(done=6, left=2))
    display.finished(Path("report.html"))
    assert last_picture(display, console)[0].endswith(" 6/6")


def test_an_interrupted_run_leaves_the_bars_as_they_were(console: Console) -> None:
    display = LiveDisplay(console)
    display.begun(a_plan(done=6, left=2))
    display.started(a_subject())
    display.finished(None)
    display.close()
    lines = last_picture(display, console)
    assert lines[0].endswith(" 6/8")
    assert not any("#7" in line for line in lines)


def test_what_runs_keeps_to_one_line_on_a_narrow_terminal(console: Console) -> None:
    console.width = 30
    display = LiveDisplay(console)
    display.begun(a_plan())
    display.epoch(a_subject(), ROW)
    assert last_picture(display, console)[2] == "  CNN #7  epoch 1/3  valid ac…"
    display.close()
