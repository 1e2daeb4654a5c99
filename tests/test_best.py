"""A finished run leaves one temperature with each classifier, fitted on select, judged on test."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.photographs import write_photographs
from tests.training_jobs import job_for, run_job

from torchstudy.analysis.calibration import expected_error, fitted, nll, read_calibration, tempered
from torchstudy.analysis.tables import read_results, write_table
from torchstudy.arrays import read_arrays
from torchstudy.data.dataset import ImageData, prepare
from torchstudy.data.images import Images
from torchstudy.execution import job as jobs
from torchstudy.execution.best import write_best
from torchstudy.execution.exhibits import answers_path
from torchstudy.execution.job import Job
from torchstudy.execution.outputs import training_folder
from torchstudy.families.compression import Autoencoder
from torchstudy.families.mlp import MLP
from torchstudy.models.saved import load_model
from torchstudy.records import Status, Training, Trial
from torchstudy.schemas import PREDICTION_COLUMNS


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    folder = tmp_path_factory.mktemp("photos")
    write_photographs(folder)
    return prepare(Images(folder, size=12), seed=0)


def _trained(data: ImageData, folder: Path) -> Job:
    job = job_for(MLP, data, folder)
    outcome, _ = run_job(job)
    assert outcome.status is Status.COMPLETED
    return job


def _test(job: Job) -> None:
    outcome = jobs.run(replace(job, action="test"), lambda payload: None, lambda: False)
    assert outcome.status is Status.COMPLETED, outcome.reason


def test_the_calibration_is_of_the_saved_model_and_its_errors_are_those_of_the_table(
    photo_study: Path,
) -> None:
    best = photo_study / "reports/photos/best/CNN"
    found, metrics = read_calibration(best), json.loads((best / "metrics.json").read_text())
    assert found is not None
    assert (found.trial, found.seed) == (metrics["trial"], metrics["seed"])
    table = pd.read_parquet(photo_study / "reports/photos/evidence/CNN/predictions.parquet")
    own = table[(table["seed"] == found.seed) & (table["split"] == "test")]
    assert found.test_items == len(own) > 0
    is_correct = own["is_correct"].to_numpy(dtype=bool)
    for column, error in (
        ("confidence", found.test_ece_before),
        ("calibrated", found.test_ece_after),
    ):
        assert expected_error(own[column].to_numpy(), is_correct) == pytest.approx(error)
    assert found.items == int(((table["seed"] == found.seed) & (table["split"] == "select")).sum())
    assert (
        found.select_nll_after <= found.select_nll_before == pytest.approx(metrics["select_loss"])
    )
    assert found.test_nll_before == pytest.approx(metrics["test_loss"], rel=1e-4)
    assert load_model(best).temperature == found.temperature


def test_the_temperature_is_that_of_the_select_probabilities(photo_study: Path) -> None:
    best, data = photo_study / "reports/photos/best/CNN", prepare(Images("photos", size=12), seed=0)
    found, model = read_calibration(best), load_model(best)
    assert found is not None
    import torch

    def probabilities(split: str) -> np.ndarray:
        pixels = torch.from_numpy(np.asarray(data.pixels[data.splits[split]]))
        return model.probabilities(pixels, calibrated=False).numpy()

    again = fitted(probabilities("select"), data.targets[data.splits["select"]])
    assert again is not None
    assert again.value == pytest.approx(found.temperature, rel=1e-3)
    tested, targets = probabilities("test"), data.targets[data.splits["test"]]
    assert nll(tested, targets, found.temperature) == pytest.approx(found.test_nll_after, rel=1e-3)


def test_every_confirmed_seed_has_a_confidence_of_its_own_and_valid_has_none(
    photo_study: Path,
) -> None:
    table = pd.read_parquet(photo_study / "reports/photos/evidence/CNN/predictions.parquet")
    by_split = table.groupby("split")["calibrated"]
    assert by_split.apply(lambda own: own.notna().all())[["select", "test"]].all()
    assert by_split.get_group("valid").isna().all()
    assert table.loc[table["split"] == "test", "seed"].nunique() == 2


def test_what_is_in_the_test_split_has_no_say_in_the_temperature(
    data: ImageData, tmp_path: Path
) -> None:
    job = _trained(data, tmp_path / "run")
    select = answers_path(job.folder, "select")
    before = select.read_bytes()
    assert "temperature" in (read_arrays(select) or {})
    assert not answers_path(job.folder, "test").exists()
    _test(job)
    assert select.read_bytes() == before
    tested = read_arrays(answers_path(job.folder, "test"))
    assert tested is not None
    assert "temperature" not in tested
    assert len(tested["calibrated"]) == len(data.splits["test"])


def test_without_a_temperature_there_is_no_calibrated_confidence(
    data: ImageData, tmp_path: Path
) -> None:
    job = _trained(data, tmp_path / "run")
    run_job(job)  # again, now that there are answers on select
    answers_path(job.folder, "select").write_bytes(b"damaged")
    _test(job)
    tested = read_arrays(answers_path(job.folder, "test"))
    assert tested is not None
    assert "calibrated" not in tested
    valid = read_arrays(answers_path(job.folder, "valid"))
    assert valid is not None
    assert not {"calibrated", "temperature"} & valid.keys()


def test_what_predicts_no_class_has_none(data: ImageData, tmp_path: Path) -> None:
    job = job_for(Autoencoder, data, tmp_path)
    run_job(job)
    assert set(read_arrays(answers_path(tmp_path, "select")) or {}) == {"code"}


def test_the_calibrated_confidence_is_that_of_the_predicted_class(
    data: ImageData, tmp_path: Path
) -> None:
    job = _trained(data, tmp_path / "run")
    answers = read_arrays(answers_path(job.folder, "select"))
    assert answers is not None
    two = np.array([[0.2, 0.8]], dtype=np.float32)
    assert tempered(two, 2.0)[0, 1] == pytest.approx(0.8**0.5 / (0.8**0.5 + 0.2**0.5))
    hotter = answers["temperature"] > 1
    assert ((answers["calibrated"] < answers["confidence"]) == hotter).mean() > 0.9


def test_tables_of_earlier_runs_are_read_without_calibrated_confidence(
    photo_study: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(photo_study / "reports" / "photos", folder)
    place = folder / "evidence" / "CNN" / "predictions"
    assert "calibrated" in PREDICTION_COLUMNS
    write_table(pd.read_parquet(f"{place}.parquet").drop(columns="calibrated"), place)
    table = read_results(folder).predictions["CNN"]
    assert table["calibrated"].isna().all()
    assert table["confidence"].notna().all()


def test_a_model_without_a_temperature_leaves_no_older_one(data: ImageData, tmp_path: Path) -> None:
    key = job_for(MLP, data, tmp_path).key
    job = _trained(data, training_folder(tmp_path, key))
    _test(job)
    training = Training(
        trial=Trial(family="MLP", number=0, config=job.config, origin="recipe"),
        seed=key.seed,
        purpose="confirmation",
        status=Status.COMPLETED,
        attempt=1,
        reason="",
        epochs=2,
        best_epoch=2,
        parameters=1,
        seconds=1.0,
        started="",
        finished="",
        worker="",
        metrics={},
    )
    best = tmp_path / "best" / "MLP"
    assert write_best(tmp_path, MLP, data, training, {}) == ""
    found = read_calibration(best)
    assert found is not None
    assert (found.seed, found.items) == (key.seed, len(data.splits["select"]))
    selected = answers_path(job.folder, "select")
    kept = {k: v for k, v in (read_arrays(selected) or {}).items() if k != "temperature"}
    with selected.open("wb") as file:
        np.savez(file, **kept)
    assert write_best(tmp_path, MLP, data, training, {}) == ""
    assert read_calibration(best) is None
    assert load_model(best).temperature is None
    answers_path(job.folder, "test").unlink()
    assert write_best(tmp_path, MLP, data, training, {}) == ""
