"""The folder of a study: what is kept of its trainings, and what drawing it needs."""

import subprocess
import sys
from pathlib import Path

import pytest

from torchstudy.execution.outputs import ailment, prune, training_folder
from torchstudy.records import Epoch, Objective, Status, Training, Trial

ACCURACY = Objective(metric="accuracy", direction="maximize")


def training(number: int, accuracy: float, status: Status = Status.COMPLETED) -> Training:
    return Training(
        trial=Trial(family="CNN", number=number, config={}, origin="sobol"),
        seed=7,
        purpose="search",
        status=status,
        attempt=1,
        reason="",
        epochs=1,
        best_epoch=1,
        parameters=1,
        seconds=1.0,
        started="",
        finished="",
        worker="",
        metrics={"valid_accuracy": accuracy},
    )


def test_only_the_best_and_what_still_trains_keep_their_files(tmp_path: Path) -> None:
    trainings = [
        training(0, 0.5),
        training(1, 0.9),
        training(2, 0.7),
        training(3, 0.1, Status.DIVERGED),
        training(4, 0.1, Status.PAUSED),
        training(5, 0.1, Status.RUNNING),
        training(6, 0.2),  # never had a folder
    ]
    for own in trainings[:-1]:
        training_folder(tmp_path, own.key).mkdir(parents=True)
    other = tmp_path / "checkpoints" / "CNN" / "0-99"  # a confirmation of the first trial
    other.mkdir()
    prune(tmp_path, trainings, ACCURACY, keep=2)
    left = {path.name for path in (tmp_path / "checkpoints" / "CNN").iterdir()}
    assert left == {"1-7", "2-7", "4-7", "5-7", "0-99"}


def test_nothing_is_pruned_where_there_is_nothing(tmp_path: Path) -> None:
    prune(tmp_path, [], ACCURACY, keep=1)
    prune(tmp_path, [training(0, 0.5), training(1, 0.6)], ACCURACY, keep=1)
    assert not list(tmp_path.iterdir())


def test_an_exploding_training_is_told_with_its_remedy() -> None:
    rows = [
        Epoch(
            epoch=number,
            seconds=1.0,
            finished="",
            train_loss=loss,
            valid_loss=loss,
            learning_rate=0.1,
            grad_norm=1.0,
        )
        for number, loss in ((1, 2.0), (2, 30.0))
    ]
    said = ailment(rows, Status.COMPLETED, "")
    assert said.startswith("the training loss was 2 at the start and 30 in epoch 2: try")
    assert ailment(rows[:1], Status.COMPLETED, "") == ""


@pytest.mark.slow  # a fresh process imports pandas and plotly
def test_tables_and_report_need_neither_torch_nor_ax() -> None:
    code = (
        "import sys, torchstudy.execution.outputs; first = 'plotly' in sys.modules\n"
        "import torchstudy.report.page\n"
        "print(first, [m for m in ('torch', 'ax', 'sklearn', 'torchvision') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False []"
