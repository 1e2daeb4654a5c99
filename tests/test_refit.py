"""A refit: the network after its last epoch, whatever a score would say."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training_jobs import job_for, run_job

from torchstudy.data.dataset import ImageData, open_data
from torchstudy.execution.job import CHECKPOINT, WEIGHTS, Job
from torchstudy.execution.refit import _together
from torchstudy.families.base import Family
from torchstudy.families.cnn import CNN
from torchstudy.families.gan import GAN
from torchstudy.families.linear import LinearModel
from torchstudy.families.pretraining import PretrainedEncoder
from torchstudy.families.transfer import Transfer
from torchstudy.records import Status
from torchstudy.training.tensorfiles import read_tensors


def tensors(job: Job, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    state = read_tensors(job.folder / name)
    yield from sorted(state["state" if name == WEIGHTS else "model"].items())


@pytest.mark.parametrize("cls", [CNN, GAN, LinearModel, PretrainedEncoder, Transfer])
@pytest.mark.parametrize("until", [1, 3])
def test_the_weights_are_those_after_the_last_epoch_of_the_full_schedule(
    cls: type[Family], until: int, striped: ImageData, tmp_path: Path
) -> None:
    until = 1 if cls is LinearModel else until  # a fit has one epoch
    trained = replace(job_for(cls, striped, tmp_path / "trained", epochs=3), until=until)
    outcome, rows = run_job(trained)
    assert outcome.status in (Status.PAUSED, Status.COMPLETED)
    job = replace(trained, action="refit", folder=tmp_path / "refit")
    outcome, again = run_job(job)
    assert outcome.status is Status.COMPLETED, outcome.reason
    assert len(again) == until
    assert [row.train_loss for row in again] == pytest.approx(
        [row.train_loss for row in rows], rel=0, abs=0, nan_ok=True
    )
    for (name, wanted), (_, found) in zip(
        tensors(trained, CHECKPOINT), tensors(job, WEIGHTS), strict=True
    ):
        assert torch.equal(wanted, found), name


def test_a_refit_has_no_patience(striped: ImageData, tmp_path: Path) -> None:
    """Early stopping goes by a split that is learned from now."""
    job = job_for(CNN, striped, tmp_path, epochs=6)
    hasty = {**job.config, "patience": 1, "learning_rate": 1e-9}
    outcome, rows = run_job(replace(job, config=hasty, folder=tmp_path / "trained"))
    assert len(rows) < 6
    outcome, rows = run_job(replace(job, config=hasty, action="refit", until=6))
    assert outcome.status is Status.COMPLETED
    assert len(rows) == 6


def test_a_refit_that_is_stopped_is_paused_and_leaves_no_weights(
    striped: ImageData, tmp_path: Path
) -> None:
    from torchstudy.execution import job as jobs

    job = replace(job_for(CNN, striped, tmp_path, epochs=3), action="refit", until=3)
    asked = iter([False, False])
    outcome = jobs.run(job, lambda payload: None, lambda: next(asked, True))
    assert outcome.status is Status.PAUSED
    assert not (tmp_path / WEIGHTS).exists()


def test_train_valid_and_select_are_learned_from_and_test_is_not(
    striped: ImageData, tmp_path: Path
) -> None:
    data = open_data(_together(striped, tmp_path / "splits.npz"))
    together = [striped.splits[name] for name in ("train", "valid", "select")]
    assert np.array_equal(data.splits["train"], np.sort(np.concatenate(together)))
    assert np.array_equal(data.splits["test"], striped.splits["test"])
    assert not set(data.splits["train"]) & set(data.splits["test"])
    assert data.spec.num_train == sum(map(len, together))
    assert data.spec.class_counts == tuple(np.bincount(data.targets[data.splits["train"]]))
    assert (data.spec.mean, data.spec.std) == (striped.spec.mean, striped.spec.std)
    assert np.array_equal(data.pixels, striped.pixels)


def test_columns_stay_as_they_were_encoded(tabled: ImageData, tmp_path: Path) -> None:
    data = open_data(_together(tabled, tmp_path / "splits.npz"))
    assert data.numbers is not None
    assert data.categories is not None
    assert np.array_equal(data.numbers, tabled.numbers)
    assert np.array_equal(data.categories, tabled.categories)
    assert data.spec.category_values == tabled.spec.category_values
