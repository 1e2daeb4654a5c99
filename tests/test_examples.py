"""Every trial is shown the same items, its record survives, and training does not notice."""

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal
from tests.example_records import write_records
from tests.report_data import Made, write_study
from tests.tables import from_csv, homes_csv
from tests.training_jobs import job_for, run_job, steady

from torchstudy import CNN, MLP, Float, Study, run
from torchstudy.analysis.examples import read_examples
from torchstudy.arrays import read_arrays, write_arrays
from torchstudy.data.dataset import ImageData, prepare
from torchstudy.errors import Interrupted, StudyError
from torchstudy.execution import exhibits, standing
from torchstudy.execution import job as jobs
from torchstudy.execution.examples import (
    COUNT,
    NOTE,
    SIDE,
    chosen_places,
    record_path,
    reduced,
    write_examples,
    write_shown,
)
from torchstudy.execution.job import Job
from torchstudy.execution.watching import Silent, Subject
from torchstudy.families.autoencoder import AutoencoderProbe
from torchstudy.families.base import Family
from torchstudy.families.compression import Autoencoder
from torchstudy.families.denoising import Denoiser
from torchstudy.families.gan import GAN
from torchstudy.files import write_json
from torchstudy.records import Epoch, Status
from torchstudy.schemas import EXAMPLE_COLUMNS

pytestmark = pytest.mark.usefixtures("short_reports")


def _searched(job: Job, **changes: object) -> Job:
    return replace(job, purpose="search", **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("counts", "kept"), [([50, 40, 3], [3, 3, 2]), ([90, 1], [7, 1])])
def test_classes_are_as_even_as_can_be(counts: Sequence[int], kept: Sequence[int]) -> None:
    targets = np.repeat(np.arange(len(counts)), counts)
    places = chosen_places(targets, "classification")
    assert len(places) == COUNT
    assert list(places) == sorted(set(places))
    found = np.bincount(targets[places], minlength=len(counts))
    assert sorted(found) == sorted(kept)
    assert found[-1] == min(counts[-1], kept[-1])


def test_of_many_classes_eight_are_shown_and_always_the_same() -> None:
    targets = np.random.default_rng(3).integers(0, 40, 500)
    places = chosen_places(targets, "classification")
    assert len(set(targets[places])) == COUNT
    assert places.tolist() == chosen_places(targets.copy(), "classification").tolist()


def test_numbers_are_shown_from_the_least_to_the_largest() -> None:
    targets = np.random.default_rng(3).permutation(np.arange(71.0))
    places = chosen_places(targets, "regression")
    assert sorted(targets[places]) == list(range(0, 71, 10))
    assert chosen_places(targets[:3], "regression").tolist() == [0, 1, 2]


def test_large_pictures_become_means_of_blocks() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 100, 61), dtype=np.uint8)
    small = reduced(images)
    assert small.shape == (2, 3, 33, 20)
    assert small[1, 2, 4, 5] == round(float(images[1, 2, 12:15, 15:18].mean()))
    assert max(small.shape[2:]) <= SIDE
    assert reduced(images[:, :, :48, :48]).shape == (2, 3, 48, 48)
    assert reduced(images[:, :, :, :1]).shape == (2, 3, 33, 1)


@pytest.mark.parametrize(
    ("cls", "names"),
    [
        (CNN, {"predicted", "confidence"}),
        (AutoencoderProbe, {"predicted", "confidence", "picture/reconstruction"}),
        (Autoencoder, {"picture/reconstruction", "picture/pca"}),
        (Denoiser, {"picture/noisy", "picture/restored"}),
        (GAN, {"picture/samples"}),
    ],
)
def test_a_record_has_what_the_family_is_for(
    striped: ImageData, tmp_path: Path, cls: type[Family], names: set[str]
) -> None:
    job = _searched(job_for(cls, striped, tmp_path / "0-5", epochs=1))
    outcome, _ = run_job(job)
    assert outcome.status is Status.COMPLETED, outcome.reason
    record = read_arrays(record_path(job.folder))
    assert record is not None
    assert record.keys() == names | {"epoch", "epochs", "sees_images"}
    assert record["sees_images"]
    assert (int(record["epoch"]), int(record["epochs"])) == (1, 1)
    for name in names:
        assert len(record[name]) == COUNT
        if name.startswith("picture/"):
            assert record[name].shape == (COUNT, 1, 8, 8)


def test_a_record_holds_the_answers_that_are_given_to_all_of_the_split(
    striped: ImageData, tmp_path: Path
) -> None:
    job = _searched(job_for(CNN, striped, tmp_path / "0-5"))
    run_job(job)
    record = read_arrays(record_path(job.folder))
    answers = read_arrays(exhibits.answers_path(job.folder, "valid"))
    assert record
    assert answers
    places = chosen_places(striped.targets[striped.splits["valid"]], "classification")
    assert record["predicted"].tolist() == answers["predicted"][places].tolist()
    assert record["confidence"] == pytest.approx(answers["confidence"][places], rel=1e-5)


def test_a_trial_that_pauses_at_a_rung_has_a_record_and_an_interrupted_one_keeps_its_last(
    striped: ImageData, tmp_path: Path
) -> None:
    job = _searched(job_for(MLP, striped, tmp_path / "0-5", epochs=4), until=2)
    outcome, _ = run_job(job)
    assert (outcome.status, outcome.epochs) == (Status.PAUSED, 2)
    first = record_path(job.folder).read_bytes()
    told: list[Epoch] = []
    stopped = replace(job, until=None)

    def report(payload: object) -> None:
        if isinstance(payload, Epoch):
            told.append(payload)

    outcome = jobs.run(stopped, report, lambda: len(told) >= 3)
    assert (outcome.status, outcome.epochs) == (Status.PAUSED, 3)
    assert record_path(job.folder).read_bytes() == first
    run_job(stopped)
    record = read_arrays(record_path(job.folder))
    assert record
    assert int(record["epochs"]) == 4


@pytest.mark.parametrize("cls", [GAN, CNN])
def test_training_does_not_notice_that_it_is_looked_at(
    striped: ImageData, tmp_path: Path, cls: type[Family], monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(folder: Path) -> tuple[object, list[dict[str, float]], torch.Tensor]:
        job = _searched(job_for(cls, striped, folder / "0-5", epochs=3), until=1)
        torch.manual_seed(3)
        run_job(job)
        outcome, rows = run_job(replace(job, until=None))
        return steady(outcome), [row.values() for row in rows], torch.get_rng_state()

    looked_at = trained(tmp_path / "with")
    assert record_path(tmp_path / "with" / "0-5").exists()
    monkeypatch.setattr(exhibits, "write_example", lambda *given: None)
    unseen = trained(tmp_path / "without")
    assert not record_path(tmp_path / "without" / "0-5").exists()
    assert looked_at[0] == unseen[0]
    assert str(looked_at[1]) == str(unseen[1])
    assert torch.equal(looked_at[2], unseen[2])


def test_confirmations_have_no_record(striped: ImageData, tmp_path: Path) -> None:
    job = job_for(MLP, striped, tmp_path / "0-5", epochs=1)
    run_job(job)
    assert not record_path(job.folder).exists()


def test_the_items_are_written_once_with_their_first_view(
    striped: ImageData, tmp_path: Path
) -> None:
    write_shown(tmp_path, striped)
    path = tmp_path / "evidence" / "examples.npz"
    shown, before = read_arrays(path), path.stat().st_mtime_ns
    assert shown
    pixels = np.asarray(striped.pixels[shown["item"]])
    assert np.array_equal(shown["images"], pixels)
    assert shown["name"].tolist() == [striped.names[item] for item in shown["item"]]
    assert set(shown["item"]) <= set(striped.splits["valid"].tolist())
    write_shown(tmp_path, striped)
    assert path.stat().st_mtime_ns == before
    path.write_bytes(b"damaged")
    write_shown(tmp_path, striped)
    assert (read_arrays(path) or {}).keys() == shown.keys()
    viewed = replace(
        striped,
        pixels=np.stack([striped.pixels, 255 - striped.pixels], axis=1),
        spec=replace(striped.spec, views=2),
    )
    path.unlink()
    write_shown(tmp_path, viewed)
    assert np.array_equal((read_arrays(path) or {})["images"], pixels)


@pytest.mark.parametrize(("cls", "sees"), [(MLP, False), (CNN, True)])
def test_a_record_says_whether_the_pictures_of_a_table_were_looked_at(
    tmp_path: Path, cls: type[Family], sees: bool
) -> None:
    data = prepare(from_csv(homes_csv(tmp_path / "homes", views=1), target="town"), seed=0)
    job = _searched(job_for(cls, data, tmp_path / "0-5", epochs=1))
    run_job(job)
    record = read_arrays(record_path(job.folder))
    assert record
    assert bool(record["sees_images"]) is sees


def test_items_of_a_table_come_with_their_rows_as_they_were_written(tmp_path: Path) -> None:
    path = homes_csv(tmp_path / "homes", views=1)
    given = pd.read_csv(path)
    given.loc[given.index % 2 == 0, "area"] = float("nan")
    given.to_csv(path, index=False)
    write_shown(tmp_path, prepare(from_csv(path), seed=0))
    shown = read_arrays(tmp_path / "evidence" / "examples.npz")
    assert shown
    assert shown["columns"].tolist() == ["area", "town"]
    for name, cells in zip(shown["name"], shown["cells"].tolist(), strict=True):
        row = given.iloc[int(str(name).removeprefix("row ")) - 1]
        area = "" if np.isnan(row["area"]) else f"{row['area']:g}"
        assert cells == [area, row["town"]]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    folder = write_study(tmp_path, Made(families=("CNN",), trials=5))
    write_records(folder, captions=("reconstruction",))
    return folder


def test_the_table_has_a_row_per_trial_and_item(made: Path) -> None:
    found = read_examples(made)
    assert found
    assert list(found.table.columns) == list(EXAMPLE_COLUMNS)
    assert found.table.groupby("trial").size().tolist() == [COUNT] * 5
    assert (found.table["is_correct"] == (found.table["predicted"] == found.table["target"])).all()
    with found.pictures() as made:
        (picture,) = made("CNN", 3)
        assert made("CNN", 77) == []
    assert (picture.caption, picture.epoch) == ("reconstruction", 1)
    assert picture.images.shape == (COUNT, 1, 12, 12)


def test_what_the_ledger_does_not_know_of_and_what_is_damaged_is_left_out(made: Path) -> None:
    trials = pd.read_parquet(made / "trials.parquet")
    trials.loc[1, "epochs"] = 0  # killed after its first leg was written, before it was recorded
    place = made / "checkpoints" / "CNN" / "examples"
    (place / f"2-{trials['seed'][2]}.npz").write_bytes(b"damaged")
    (place / f"3-{trials['seed'][3]}.npz").unlink()
    (place / f"4-{trials['seed'][4] + 1}.npz").write_bytes(b"of another seed")
    write_examples(made, trials, [str(digit) for digit in range(10)])
    found = read_examples(made)
    assert found
    assert sorted(set(found.table["trial"])) == [0, 4]
    assert {trial for _, trial in found.pictured} == {0, 4}


def test_the_same_records_are_the_same_bytes(made: Path) -> None:
    names = ("examples.parquet", "examples.csv", "examples.npz", "CNN/examples.npz")
    before = [(made / "evidence" / name).read_bytes() for name in names]
    trials = pd.read_parquet(made / "trials.parquet")
    write_examples(made, trials, [str(digit) for digit in range(10)])
    assert [(made / "evidence" / name).read_bytes() for name in names] == before


MADE = ("CNN/examples.npz", "examples.parquet", "examples.csv")
DIGITS = [str(digit) for digit in range(10)]


def _written(folder: Path) -> list[bytes]:
    return [(folder / "evidence" / name).read_bytes() for name in MADE]


def _stamps(folder: Path) -> list[tuple[int, int]]:
    found = [(folder / "evidence" / name).stat() for name in MADE]
    return [(each.st_ino, each.st_mtime_ns) for each in found]


def test_what_would_be_the_same_is_not_written_again(made: Path) -> None:
    trials, before = pd.read_parquet(made / "trials.parquet"), _stamps(made)
    write_examples(made, trials, DIGITS)
    assert _stamps(made) == before
    write_examples(made, trials, [*DIGITS[:9], "nine"])
    assert all(new != old for new, old in zip(_stamps(made), before, strict=True))


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("harm", ["cut", "gone", "edited"])
def test_a_file_that_is_not_as_it_was_written_is_mended(made: Path, name: str, harm: str) -> None:
    before, path = _written(made), made / "evidence" / name
    content, found = path.read_bytes(), path.stat()
    if harm == "gone":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:  # in place, with the size and the time that it had
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    write_examples(made, pd.read_parquet(made / "trials.parquet"), DIGITS)
    assert _written(made) == before


def test_a_record_that_was_replaced_is_read_again_and_the_way_there_leaves_no_trace(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials, before = pd.read_parquet(made / "trials.parquet"), _written(made)
    path = made / "checkpoints" / "CNN" / "examples" / f"2-{trials['seed'][2]}.npz"
    was, found = path.read_bytes(), path.stat()
    record = read_arrays(path) or {}
    record["picture/reconstruction"] = 255 - record["picture/reconstruction"]
    record["confidence"] = 1 - record["confidence"]
    write_arrays(path, record)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert path.stat().st_size == found.st_size

    def killed(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(standing, "write_json", killed)  # all files are new, the note is not
        with pytest.raises(KeyboardInterrupt):
            write_examples(made, trials, DIGITS)
    write_examples(made, trials, DIGITS)
    after = _written(made)
    assert all(new != old for new, old in zip(after, before, strict=True))
    (made / "checkpoints" / NOTE).write_text("[1]")  # as if there had never been a note
    write_examples(made, trials, DIGITS)
    assert _written(made) == after
    write_examples(made, trials[:3], DIGITS)
    path.write_bytes(was)
    write_examples(made, trials, DIGITS)
    assert _written(made) == before


def test_of_two_that_write_at_once_the_note_of_one_does_not_vouch_for_the_other(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials, before = pd.read_parquet(made / "trials.parquet"), _written(made)
    write_examples(made, trials[:2], DIGITS)
    earlier = _written(made)

    def write_note(path: Path, value: object) -> None:
        for name, content in zip(MADE, earlier, strict=True):  # meanwhile, by another process
            (made / "evidence" / name).write_bytes(content)
        write_json(path, value)

    with monkeypatch.context() as patched:
        patched.setattr(standing, "write_json", write_note)
        write_examples(made, trials, DIGITS)
    assert _written(made) == earlier
    write_examples(made, trials, DIGITS)
    assert _written(made) == before


@pytest.mark.parametrize("name", ["examples.npz", "CNN/examples.npz", "examples.parquet"])
def test_a_damaged_file_is_named(made: Path, name: str) -> None:
    (made / "evidence" / name).write_bytes(b"PK\3\4 damaged")
    with pytest.raises(StudyError, match=r"examples\.(npz|parquet) is damaged .* writes it again"):
        read_examples(made)


def test_earlier_versions_left_none(tmp_path: Path) -> None:
    assert read_examples(tmp_path) is None


class _StopsAt(Silent):
    """Interrupts a run when so many epochs have been told of."""

    def __init__(self, epochs: int) -> None:
        self._left = epochs

    def epoch(self, subject: Subject, row: Epoch) -> None:
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.slow
def test_an_interrupted_study_ends_with_the_same_examples(tmp_path: Path) -> None:
    """Two whole studies are trained: four seconds."""
    study = Study(
        data="digits",
        families=[MLP],
        maximize="accuracy",
        space={"learning_rate": Float(1e-3, 3e-2, log=True)},
        trials=4,
        epochs=9,
        confirm=None,
        name="shown",
    )
    whole = run(study, reports=tmp_path / "whole", executor="inline", quiet=True)
    for stop_at in (2, 6):
        with pytest.raises(Interrupted):
            run(study, reports=tmp_path / "cut", executor="inline", watcher=_StopsAt(stop_at))
    cut = run(study, reports=tmp_path / "cut", executor="inline", quiet=True)
    found, expected = read_examples(cut.folder), read_examples(whole.folder)
    assert found
    assert expected
    assert_frame_equal(found.table, expected.table)
    assert sorted(set(found.table["trial"])) == [0, 1, 2, 3]
    ended = dict(zip(whole.trials["trial"], whole.trials["status"], strict=True))
    assert set(ended.values()) >= {"completed", "stopped"}
