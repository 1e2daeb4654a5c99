"""Without confirmation the best trial of a family is calibrated on select; test stays unread."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.training_jobs import job_for
from torch import nn

from torchstudy import CNN, MLP, DataSpec, Images, Study, load_model, run
from torchstudy.analysis.calibration import expected_error, read_calibration
from torchstudy.analysis.tables import Results, read_results
from torchstudy.arrays import read_arrays
from torchstudy.data.dataset import prepare
from torchstudy.execution import job as jobs
from torchstudy.execution.job import Job
from torchstudy.execution.watching import PlainLines
from torchstudy.families import base
from torchstudy.families.compression import Autoencoder
from torchstudy.records import Outcome, Status
from torchstudy.report.exhibits import exhibits
from torchstudy.report.story import Story
from torchstudy.training.batches import Batch

pytestmark = pytest.mark.usefixtures("short_reports")

STUDY = Study(
    data=Images("digits"),
    families=[CNN, MLP],
    maximize="accuracy",
    trials=2,
    epochs=2,
    confirm=None,
    seed=1,
    name="quick",
)


@base.family
class Mute(MLP):
    """A score, and nothing on single items."""

    def predict(self, model: nn.Module, data: DataSpec, batch: Batch) -> None:
        return None


def _run(folder: Path, study: Study = STUDY) -> Results:
    return run(study, reports=folder, executor="inline", quiet=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return _run(tmp_path_factory.mktemp("unconfirmed"))


def test_a_family_without_answers_is_asked_once(tmp_path: Path) -> None:
    study = replace(STUDY, families=[Mute], trials=1, epochs=1)
    drawn = (_run(tmp_path, study).folder / "report.html").stat().st_mtime_ns
    assert (_run(tmp_path, study).folder / "report.html").stat().st_mtime_ns == drawn


@pytest.mark.parametrize("family", ["CNN", "MLP"])
def test_the_saved_model_has_a_temperature_of_select(finished: Results, family: str) -> None:
    best = finished.folder / "best" / family
    found, metrics = read_calibration(best), json.loads((best / "metrics.json").read_text())
    assert found
    assert (found.trial, found.seed) == (metrics["trial"], metrics["seed"])
    assert (found.test_items, found.test_ece_after) == (0, None)
    assert found.items == finished.summary["data"]["splits"]["select"]
    assert found.select_nll_after <= found.select_nll_before
    assert load_model(best).temperature == found.temperature
    table = finished.predictions[family]
    own = table[table["split"] == "select"]
    assert len(own) == found.items
    is_correct = own["is_correct"].to_numpy(dtype=bool)
    errors = [
        expected_error(own[name].to_numpy(), is_correct) for name in ("confidence", "crossfitted")
    ]
    assert errors == pytest.approx([found.select_ece_before, found.select_ece_after])
    hotter = found.temperature > 1
    assert ((own["calibrated"] < own["confidence"]) == hotter).mean() > 0.9


def test_neither_test_nor_any_other_trial_is_looked_at(finished: Results) -> None:
    for family, table in finished.predictions.items():
        assert set(table["split"]) == {"valid", "select"}
        assert table["seed"].nunique() == 1, family
    assert not list((finished.folder / "checkpoints").rglob("test.npz"))
    assert len(list((finished.folder / "checkpoints").rglob("select.npz"))) == 2
    assert finished.confirmation.empty
    assert not [name for name in finished.trials if name.startswith("select_")]


def test_the_report_says_on_which_split_and_what_chose_what(finished: Results) -> None:
    content = exhibits(Story(finished))
    panels = [one for one in content.context["panels"] if one["name"].startswith("confidence")]
    assert len(panels) == 2
    found = read_calibration(finished.folder / "best" / "CNN")
    assert found
    assert found.select_ece_before is not None
    assert found.select_ece_after is not None
    said = " ".join(panels[0]["about"])
    assert (
        f"expected calibration error {100 * found.select_ece_before:.1f}% before and "
        f"{100 * found.select_ece_after:.1f}% after a temperature of {found.temperature:.2f} "
        f"fitted on {found.items} select images."
    ) in said
    assert "the test split was not read, and the validation split chose this trial" in said
    assert "each of 5 parts of select is judged at the temperature of the others" in said
    assert f"On {found.items} select images that error would be" in said
    assert panels[0]["name"] in content.figures


def test_a_second_run_changes_nothing_and_reads_nothing_again(
    finished: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    path = next((finished.folder / "checkpoints").rglob("select.npz"))
    before = path.stat().st_mtime_ns
    run(STUDY, reports=finished.folder.parent, executor="inline", watcher=PlainLines())
    assert "calibrate" not in capsys.readouterr().out
    assert path.stat().st_mtime_ns == before


def test_a_run_of_an_earlier_version_is_calibrated_by_the_next(
    finished: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(tmp_path)
    folder = tmp_path / "quick"
    for path in (*folder.rglob("select.npz"), *folder.rglob("calibration.json")):
        path.unlink()
    run(STUDY, reports=tmp_path, executor="inline", watcher=PlainLines())
    said = capsys.readouterr().out
    assert "calibrate CNN #" in said
    assert "calibrate MLP #" in said
    for family in ("CNN", "MLP"):
        places = [each / "best" / family / "calibration.json" for each in (folder, finished.folder)]
        assert places[0].read_bytes() == places[1].read_bytes()
    pd.testing.assert_frame_equal(
        read_results(folder).predictions["CNN"], finished.predictions["CNN"]
    )


def test_where_it_fails_the_run_ends_well_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(job: Job, *given: object) -> Outcome:
        return Outcome(status=Status.CRASHED, reason="ValueError: no such answer")

    monkeypatch.setattr(jobs, "_calibrate", broken)
    run(
        replace(STUDY, families=[MLP]),
        reports=tmp_path,
        executor="inline",
        watcher=PlainLines(),
    )
    said = capsys.readouterr().out
    assert said.count("calibrate MLP #") == 1
    assert "ValueError: no such answer" in said
    assert "report:" in said
    assert read_calibration(tmp_path / "quick" / "best" / "MLP") is None


def test_damaged_weights_are_named_and_left(finished: Results, tmp_path: Path) -> None:
    weights = next((finished.folder / "checkpoints" / "MLP").rglob("weights.pt"))
    place = tmp_path / weights.parent.name
    shutil.copytree(weights.parent, place)
    (place / "weights.pt").write_bytes(b"damaged")
    data = prepare(Images("digits"), seed=1)
    job = replace(job_for(MLP, data, place), action="calibrate", purpose="search")
    outcome = jobs.run(job, lambda payload: None, lambda: False)
    assert outcome.status is Status.CRASHED
    assert outcome.reason.startswith(f"{place / 'weights.pt'} is damaged")
    assert (place / "weights.pt").exists()


def test_what_predicts_nothing_is_not_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = Study(
        data="digits",
        families=[Autoencoder],
        minimize="reconstruction_error",
        trials=1,
        epochs=1,
        confirm=None,
        name="codes",
    )
    run(study, reports=tmp_path, executor="inline", watcher=PlainLines())
    assert "calibrate" not in capsys.readouterr().out
    assert not list(tmp_path.rglob("select.npz"))


def test_the_page_is_drawn_from_the_tables_alone(
    finished: Results, whole_page: Callable[[Path], str]
) -> None:
    page = whole_page(finished.folder)
    assert "is its confidence right?" in page
    answers = read_arrays(next((finished.folder / "checkpoints" / "CNN").rglob("select.npz")))
    assert answers
    assert np.isfinite(answers["crossfitted"]).all()
