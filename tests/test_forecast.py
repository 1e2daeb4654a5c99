"""Forecasts: where a figure comes from, and that it is near what a training takes."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.conftest import stripes
from tests.training_jobs import job_for
from torch import nn

from torchstudy.data.dataset import ImageData, prepare
from torchstudy.data.images import Images
from torchstudy.data.spec import DataSpec
from torchstudy.domains import Int
from torchstudy.errors import RunError
from torchstudy.execution import forecast as forecasting
from torchstudy.execution.forecast import Forecast, disk_needed, forecast
from torchstudy.execution.job import CHECKPOINT, Job, run
from torchstudy.families.autoencoder import AutoencoderProbe
from torchstudy.families.base import Family, family
from torchstudy.families.cnn import CNN
from torchstudy.families.transfer import Transfer
from torchstudy.records import Status, Training, TrainingKey, Trial
from torchstudy.study import Study

STUDY = Study(
    data=stripes,
    families=[CNN, Transfer, AutoencoderProbe],
    maximize="accuracy",
    space={"batch_size": 16, "patience": 100},
    epochs=20,
)


def ended(seconds: float, status: Status = Status.COMPLETED) -> Training:
    return Training(
        trial=Trial(family="CNN", number=0, config={}, origin="recipe"),
        seed=1,
        purpose="search",
        status=status,
        attempt=1,
        reason="",
        epochs=1,
        best_epoch=1,
        parameters=1,
        seconds=seconds,
        started="",
        finished="",
        worker="",
        metrics={},
    )


def of(kind: type[Family], data: ImageData, trainings: int = 10, *done: Training) -> Forecast:
    study = replace(STUDY, families=[kind])
    return forecast(study, data, kind, done, trainings, in_process=True)


def test_three_finished_trainings_speak_for_the_rest(striped: ImageData) -> None:
    done = [ended(1.0), ended(2.0), ended(6.0), ended(99.0, Status.DIVERGED)]
    found = of(CNN, striped, 4, *done)
    assert found.seconds == 12.0
    assert found.basis == "mean of 3 finished trainings"


def test_nothing_left_takes_no_time_and_is_not_timed(striped: ImageData) -> None:
    found = of(CNN, striped, 0)
    assert (found.seconds, found.basis) == (0.0, "nothing is left")


@pytest.mark.parametrize("kind", [CNN, Transfer, AutoencoderProbe])
def test_a_timed_recipe_is_near_what_its_training_takes(
    kind: type[Family], striped: ImageData, tmp_path: Path
) -> None:
    """Within a factor of 8, since other processes may take or give back most of a core."""
    job = Job(
        action="train",
        key=TrainingKey(family=kind.__name__, number=0, seed=1),
        family=kind,
        config=dict(replace(STUDY, families=[kind]).space_of(kind).recipe),
        objective=STUDY.objective,
        epochs=STUDY.epochs,
        purpose="search",
        data=striped.handle,
        folder=tmp_path,
    )
    found = of(kind, striped)
    began = time.perf_counter()
    outcome = run(job, lambda _: None, lambda: False)
    seconds = time.perf_counter() - began
    assert outcome.epochs == STUDY.epochs
    assert found.basis == "its recipe, timed on a few batches"
    assert seconds / 8 < found.once + found.per_training < 8 * (seconds + 0.3)


def test_features_that_are_in_the_cache_cost_nothing(striped: ImageData, tmp_path: Path) -> None:
    test_a_timed_recipe_is_near_what_its_training_takes(Transfer, striped, tmp_path)
    assert of(Transfer, striped).once == 0.0


def sorted_stripes() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, labels = stripes()
    order = labels.argsort()
    return images[order], labels[order]


def test_images_in_order_of_their_class_are_timed_in_all_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forecasting, "NUM_FITTED", 24)
    monkeypatch.setattr(forecasting, "WARM_UP", 6)
    data = prepare(Images(sorted_stripes), seed=0)
    study = replace(STUDY, families=[AutoencoderProbe], space={"batch_size": 3}, epochs=1)
    assert forecast(study, data, AutoencoderProbe, [], 1, in_process=True).seconds > 0


@family
class Failing(Family):
    """Cannot be built."""

    size: int = Int(1, 9, default=1)

    def build(self, data: DataSpec) -> nn.Module:
        raise OSError("no device")


def test_a_recipe_that_fails_is_named_with_the_reason(striped: ImageData) -> None:
    with pytest.raises(
        RunError, match=r"^Failing: its recipe cannot be trained: OSError: no device$"
    ):
        of(Failing, striped)


def test_a_recipe_that_diverges_is_timed_all_the_same(striped: ImageData) -> None:
    study = replace(STUDY, families=[CNN], space={"learning_rate": 1e30, "optimizer": "sgd"})
    assert forecast(study, striped, CNN, [], 1, in_process=True).seconds > 0


@pytest.mark.slow
def test_a_worker_process_times_the_recipe_of_a_class_it_cannot_import(
    striped: ImageData,
) -> None:
    """Slow: a process that imports torch."""

    @family
    class Local(Family):
        """A linear layer, known in this function only."""

        size: int = Int(1, 9, default=1)

        def build(self, data: DataSpec) -> nn.Module:
            return nn.Sequential(nn.Flatten(), nn.Linear(64, data.num_classes))

    study = replace(STUDY, families=[Local])
    assert forecast(study, striped, Local, [], 1).seconds > 0


def test_the_disk_that_checkpoints_take_is_foreseen(striped: ImageData, tmp_path: Path) -> None:
    rows: list[object] = []
    job = job_for(CNN, striped, tmp_path)
    run(job, lambda row: rows.append(row), lambda: len(rows) == 1)
    expected = of(CNN, striped, 10)
    found = (tmp_path / CHECKPOINT).stat().st_size
    assert expected.checkpoint == pytest.approx(found, rel=0.1)
    assert expected.checkpoint == pytest.approx(4 * expected.weights)  # Adam has two moments
    checkpoints, rest = disk_needed(replace(STUDY, confirm=(3, 2)), [expected], num_workers=5)
    assert checkpoints == pytest.approx(5 * expected.checkpoint + 11 * expected.weights)
    assert rest == 5e6 + 10 * STUDY.epochs * 1500
    known = of(CNN, striped, 10, *[replace(ended(1.0), parameters=1000)] * 3)
    assert (known.weights, known.checkpoint) == (4000.0, 16000.0)
