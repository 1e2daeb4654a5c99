"""What is said about a run, word for word."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import stripes

from torchstudy.data.dataset import ImageData
from torchstudy.domains import Float
from torchstudy.execution.watching import (
    PlainLines,
    Plan,
    Silent,
    Subject,
    Watcher,
    ended_text,
    notes,
    plan_text,
)
from torchstudy.families.cnn import CNN
from torchstudy.records import Epoch, Objective, Outcome, Purpose, Status, Trial
from torchstudy.study import Study

ACCURACY = Objective(metric="accuracy", direction="maximize")
ROW = Epoch(
    epoch=1,
    seconds=0.5,
    finished="2026-01-01T00:00:00+00:00",
    train_loss=1.0,
    valid_loss=0.9,
    learning_rate=0.1,
    grad_norm=1.0,
    metrics={"accuracy": 0.5},
)


def a_plan(done: int = 0, left: int = 8, **changes: int) -> Plan:
    numbers = {"trials": 2, "epochs": 3, "confirmations": 2, "num_workers": 2, **changes}
    return Plan(
        study="lines",
        families=("CNN", "Transfer"),
        objective=ACCURACY,
        done={"CNN": done, "Transfer": 0},
        left={"CNN": left, "Transfer": 0},
        **numbers,
    )


def a_subject(
    purpose: Purpose = "search", action: str = "train", *, seed: int = 1, until: int | None = None
) -> Subject:
    trial = Trial(family="CNN", number=7, config={}, origin="sobol")
    return Subject(trial=trial, seed=seed, purpose=purpose, action=action, until=until)


def test_a_plan_says_what_each_family_gets() -> None:
    assert plan_text(a_plan()) == (
        "lines: CNN, Transfer; for each 2 trials of up to 3 epochs, then up to 2 confirmations; "
        "2 workers"
    )


def test_a_plan_of_one_is_not_said_in_the_plural() -> None:
    text = plan_text(a_plan(trials=1, epochs=1, confirmations=1, num_workers=1))
    assert text.endswith("for each 1 trial of up to 1 epoch, then up to 1 confirmation; 1 worker")
    assert plan_text(a_plan(confirmations=0)).endswith(
        "of up to 3 epochs, no confirmation; 2 workers"
    )


@pytest.mark.parametrize(
    ("done", "left", "line"),
    [
        (3, 5, "going on: 3 trainings done, at most 5 left"),
        (1, 5, "going on: 1 training done, at most 5 left"),
        (8, 0, "nothing left to train: 8 trainings done"),
    ],
)
def test_a_plan_that_goes_on_says_how_far_it_is(done: int, left: int, line: str) -> None:
    assert plan_text(a_plan(done, left)).splitlines()[1:] == [line]


@pytest.mark.parametrize(
    ("purpose", "action", "split", "title"),
    [
        ("search", "train", "valid", "CNN #7 "),
        ("confirmation", "train", "select", "confirm CNN #7 "),
        ("confirmation", "test", "test", "test CNN #7 "),
    ],
)
def test_a_training_that_ended_is_told_with_the_score_that_counts(
    purpose: Purpose, action: str, split: str, title: str
) -> None:
    metrics = {"valid_accuracy": 0.1, "select_accuracy": 0.2, "test_accuracy": 0.3}
    outcome = Outcome(status=Status.COMPLETED, metrics=metrics)
    text = ended_text(a_subject(purpose, action), outcome, 12.34, ACCURACY)
    assert text.startswith(title)
    assert text.endswith(
        f"completed       12.3 s  {split} accuracy {metrics[f'{split}_accuracy']:.4f}"
    )


@pytest.mark.parametrize(("action", "word"), [("train", "confirm"), ("test", "test")])
def test_fresh_trainings_of_one_configuration_are_told_apart_by_their_seed(
    action: str, word: str
) -> None:
    lines = [
        ended_text(
            replace(a_subject("confirmation", action, seed=seed), turn=(seed, 3)),
            Outcome(status=Status.COMPLETED),
            1.0,
            ACCURACY,
        )
        for seed in (1, 2)
    ]
    assert lines[0].startswith(f"{word} CNN #7, seed 1 of 3 ")
    assert lines[1] == lines[0].replace("seed 1", "seed 2")


@pytest.mark.parametrize(
    ("metric", "value", "said"),
    [
        ("psnr", 24.3123, "valid PSNR 24.31 dB"),
        ("r2", -0.03113, "valid R\u00b2 \u22120.0311"),
        ("generation_distance", 470.29781, "valid generation distance 470.3"),
    ],
)
def test_measures_are_called_as_in_the_verdict(metric: str, value: float, said: str) -> None:
    outcome = Outcome(status=Status.COMPLETED, metrics={f"valid_{metric}": value})
    text = ended_text(a_subject(), outcome, 1.0, Objective(metric=metric, direction="maximize"))
    assert text.endswith(f"1.0 s  {said}")


def test_every_objective_and_every_bound_is_told() -> None:
    """What a run did not measure is left out."""
    told = [ACCURACY, *(Objective(metric=name, direction="minimize") for name in ("flops", "mae"))]
    outcome = Outcome(
        status=Status.COMPLETED, metrics={"valid_accuracy": 0.5, "valid_flops": 2000.0}
    )
    text = ended_text(a_subject(), outcome, 1.0, *told)
    assert text.endswith("1.0 s  valid accuracy 0.5000, operations for one item 2000 FLOPs")


def test_a_trial_at_a_rung_waits_and_an_interrupted_one_does_not() -> None:
    outcome = Outcome(status=Status.PAUSED, epochs=3, metrics={"valid_accuracy": 0.5})
    text = ended_text(a_subject(until=3), outcome, 1.0, ACCURACY)
    assert text.endswith("paused           1.0 s  valid accuracy 0.5000  waits after 3 epochs")
    text = ended_text(a_subject(until=9), outcome, 1.0, ACCURACY)
    assert text.endswith("valid accuracy 0.5000")


def test_a_failure_is_told_with_the_last_line_of_its_reason() -> None:
    outcome = Outcome(status=Status.CRASHED, reason="Traceback\n  somewhere\nValueError: no\n")
    text = ended_text(a_subject(), outcome, 0.0, ACCURACY)
    assert text.split(maxsplit=2)[2].split() == ["crashed", "0.0", "s", "ValueError:", "no"]


def everything(watcher: Watcher) -> None:
    watcher.preparing("decode", 0, 10)
    watcher.preparing("decode", 10, 10)
    watcher.begun(a_plan())
    watcher.note("a note")
    watcher.started(a_subject())
    watcher.epoch(a_subject(), ROW)
    watcher.ended(a_subject(), Outcome(status=Status.COMPLETED), 1.0)
    watcher.finished(Path("report.html"))


def test_plain_lines_leave_out_epochs_and_progress() -> None:
    stream = io.StringIO()
    everything(PlainLines(stream))
    assert stream.getvalue().splitlines() == [
        "decode: 10 images",
        plan_text(a_plan()),
        "a note",
        ended_text(a_subject(), Outcome(status=Status.COMPLETED), 1.0, ACCURACY),
        "report: report.html",
    ]


def test_plain_lines_can_leave_the_report_to_others() -> None:
    stream = io.StringIO()
    everything(PlainLines(stream, names_report=False))
    assert "report" not in stream.getvalue()


def test_an_interrupted_run_names_no_report() -> None:
    stream = io.StringIO()
    PlainLines(stream).finished(None)
    assert stream.getvalue() == ""


def test_silent_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    everything(Silent())
    assert capsys.readouterr() == ("", "")


def test_notes_tell_what_became_of_recipes(striped: ImageData) -> None:
    study = Study(
        data=stripes, families=[CNN], maximize="accuracy", space={"dropout": Float(0.3, 0.5)}
    )
    assert notes(study, striped)[-1] == "CNN: dropout: recipe 0.2 is outside, 0.3 is used"
