"""Files that were cut, changed, exchanged or made to harm: noticed, said, and never run."""

import errno
import os
import pickle
import re
import resource
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.command import optimize
from tests.test_runner import Linear
from tests.training_jobs import job_for, run_job, steady

from torchstudy import files
from torchstudy.data.dataset import REBUILT, ImageData, prepare
from torchstudy.data.images import Images
from torchstudy.errors import CannotWrite, StudyError
from torchstudy.execution import job as jobs
from torchstudy.execution.job import CHECKPOINT, WEIGHTS, Job, Note
from torchstudy.families.backbones import find_backbone
from torchstudy.files import digest_of, write_text, written_aside
from torchstudy.models.saved import load_model
from torchstudy.records import Epoch, Outcome, Status
from torchstudy.training.features import sift_features
from torchstudy.training.tensorfiles import Damaged, read_tensors, write_tensors

PACKAGE = Path(__file__).parents[2] / "src" / "torchstudy"


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.target),)


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << (place % 8)
    path.write_bytes(content)


def paused(data: ImageData, folder: Path) -> Job:
    """A job of four epochs that was stopped after two."""
    job = job_for(Linear, data, folder, epochs=4)
    rows: list[object] = []

    def told(payload: object) -> None:
        rows.extend([payload] if isinstance(payload, Epoch) else [])

    assert jobs.run(job, told, lambda: len(rows) == 2).status is Status.PAUSED
    assert (folder / CHECKPOINT).exists()
    return job


def told(job: Job) -> tuple[Outcome, list[Epoch], list[str]]:
    """The outcome of a job, its epochs without what clocks say, and its notes."""
    rows, notes = [], []

    def report(payload: Epoch | Note) -> None:
        if isinstance(payload, Note):
            notes.append(payload.text)
        else:
            rows.append(replace(payload, seconds=0.0, finished="", parts={}))

    return steady(jobs.run(job, report, lambda: False)), rows, notes


def another_trials(path: Path) -> None:
    shutil.copyfile(path.parents[1] / "1-5" / CHECKPOINT, path)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "a flipped bit in its numbers": lambda path: flip(path, path.stat().st_size // 2),
    "zeroes": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "empty": lambda path: path.write_bytes(b""),
    "another trial's": another_trials,
    "a bomb": lambda path: torch.save({"version": 4, "x": Bomb(path.with_name("hit"))}, path),
    "a bare bomb": lambda path: path.write_bytes(pickle.dumps(Bomb(path.with_name("hit")))),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_costs_that_trainings_progress_only_and_is_said(
    striped: ImageData, tmp_path: Path, damage: str
) -> None:
    paused(striped, tmp_path / "Linear" / "1-5")
    job = paused(striped, tmp_path / "Linear" / "0-5")
    DAMAGE[damage](job.folder / CHECKPOINT)
    outcome, rows, notes = told(job)
    expected = told(job_for(Linear, striped, tmp_path / "whole", epochs=4))
    assert (outcome, rows) == expected[:2]
    assert re.fullmatch(r".*checkpoint\.pt is damaged \(.+\) and was removed: .*", "".join(notes))
    assert not (job.folder / "hit").exists()


def test_a_whole_checkpoint_is_gone_on_from_wherever_the_studys_folder_has_moved(
    striped: ImageData, tmp_path: Path
) -> None:
    job = paused(striped, tmp_path / "one" / "Linear" / "0-5")
    (tmp_path / "one").rename(tmp_path / "two")
    moved = replace(job, folder=tmp_path / "two" / "Linear" / "0-5")
    saved = read_tensors(moved.folder / CHECKPOINT)
    saved["rows"][0]["train_loss"] = 0.125  # so that rows that are trained again are told apart
    write_tensors(moved.folder / CHECKPOINT, saved)
    _, rows, notes = told(moved)
    assert rows[0].train_loss == 0.125
    assert len(rows) == 4
    assert notes == []


def test_a_checkpoint_of_another_network_is_not_half_loaded(
    striped: ImageData, tmp_path: Path
) -> None:
    job = paused(striped, tmp_path / "Linear" / "0-5")
    saved = read_tensors(job.folder / CHECKPOINT)
    for part in ("model", "best_weights"):
        saved[part]["2.bias"] = torch.zeros(7)
        saved[part]["2.weight"] += 1.0
    write_tensors(job.folder / CHECKPOINT, saved)
    expected = told(job_for(Linear, striped, tmp_path / "whole", epochs=4))
    assert told(job)[:2] == expected[:2]


def test_no_flipped_bit_in_a_file_of_tensors_changes_a_number(tmp_path: Path) -> None:
    path, generator = tmp_path / "weights.pt", np.random.default_rng(0)
    value = {"weight": torch.randn(300, generator=torch.Generator().manual_seed(0)), "epoch": 7}
    write_tensors(path, value)
    whole, num_noticed = path.read_bytes(), 0
    for place in generator.integers(0, len(whole), 150):
        path.write_bytes(whole)
        flip(path, int(place))
        try:
            found = read_tensors(path)
        except Damaged:
            num_noticed += 1
        else:  # in the zip file's padding, dates and the like
            assert found["epoch"] == 7
            assert torch.equal(found["weight"], value["weight"])
    assert num_noticed > 75


def test_damaged_weights_are_removed_and_trained_again(striped: ImageData, tmp_path: Path) -> None:
    job = job_for(Linear, striped, tmp_path)
    run_job(job)
    flip(tmp_path / WEIGHTS, (tmp_path / WEIGHTS).stat().st_size // 2)
    outcome, _, notes = told(replace(job, action="test"))
    assert outcome.status is Status.PAUSED
    assert re.fullmatch(r".*weights\.pt is damaged \(.+\) and was removed: .*", notes[0])
    assert not (tmp_path / WEIGHTS).exists()


@pytest.fixture
def copied(finished_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a study that has been run, as the current folder."""
    folder = tmp_path / "copied"
    shutil.copytree(finished_study, folder)
    monkeypatch.chdir(folder)
    return folder


def test_whatever_was_damaged_in_a_studys_folder_is_written_again_by_the_next_run(
    copied: Path,
) -> None:
    folder = copied / "reports" / "tiny"
    names = ["trials.parquet", "epochs.csv", "report.html", "study.json", "CNN.ax.json"]
    names += ["best/CNN/model.pt", "best/CNN/metrics.json", "evidence/CNN/predictions.parquet"]
    before = {name: (folder / name).read_bytes() for name in names}
    for name in names:
        os.truncate(folder / name, len(before[name]) // 2)
    for command in ("best tiny", "table tiny", "status tiny", "list"):
        assert optimize(*command.split()).exit_code == 0
    drawn = optimize("report", "tiny")
    assert (drawn.exit_code, drawn.stdout) == (2, "")
    assert "predictions.parquet is damaged" in drawn.stderr
    again = optimize("run", "tiny", "--executor", "inline")
    assert again.exit_code == 0, again.stderr
    assert "changed since they were written: " in again.stdout
    same = [name for name in names if name not in ("report.html", "study.json", "CNN.ax.json")]
    assert {name: (folder / name).read_bytes() for name in same} == {n: before[n] for n in same}
    assert (folder / "report.html").stat().st_size > 0.9 * len(before["report.html"])
    assert "changed since" not in optimize("run", "tiny", "--executor", "inline").stdout


@pytest.mark.parametrize("name", ["model.pt", "config.json"])
def test_a_damaged_model_says_what_to_do(copied: Path, name: str) -> None:
    folder = copied / "reports" / "tiny" / "best" / "CNN"
    os.truncate(folder / name, (folder / name).stat().st_size // 2)
    with pytest.raises(StudyError, match=rf"{name} is damaged .*`optimize run` of its study"):
        load_model(folder)


def test_a_model_that_is_a_bomb_is_refused_and_nothing_is_run(copied: Path) -> None:
    folder = copied / "reports" / "tiny" / "best" / "CNN"
    torch.save({"weight": Bomb(copied / "hit")}, folder / "model.pt")
    with pytest.raises(StudyError, match=r"holds more than tensors.* nothing in it was run"):
        load_model(folder)
    assert not (copied / "hit").exists()


def test_weights_of_a_backbone_that_are_a_bomb_are_refused_and_nothing_is_run(
    tmp_path: Path,
) -> None:
    torch.save({"state_dict": Bomb(tmp_path / "hit")}, tmp_path / "weights.pt")
    with pytest.raises(StudyError, match="refused, the file holds more than tensors"):
        find_backbone("resnet18", str(tmp_path / "weights.pt")).build()
    assert not (tmp_path / "hit").exists()


def test_nothing_in_the_package_loads_pickles() -> None:
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        loads = re.findall(r"torch\.load\(.*", text)
        assert all("weights_only=True)" in line for line in loads), path
        assert not re.search(r"allow_pickle=True|\bpickle\.loads?\(|read_pickle|joblib", text)
    text = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    # Work for the children of this process, through its own pipes; never from a file.
    assert text.count("cloudpickle.loads(") == 1


def test_a_changed_byte_in_the_cache_is_noticed_once_said_and_made_good(
    striped: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.conftest import stripes

    monkeypatch.setenv("TORCHSTUDY_CACHE", str(tmp_path))
    before = prepare(Images(stripes), seed=0)
    flip(before.handle.folder / "images.npy", 5000)
    after = prepare(Images(stripes), seed=0)
    assert (after.pixels == striped.pixels).all()
    assert after.notes == (*striped.notes, REBUILT)
    assert prepare(Images(stripes), seed=0).notes == striped.notes


def test_changed_features_leave_the_cache_at_the_start_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHSTUDY_CACHE", str(tmp_path))
    path = tmp_path / "features" / "abcd.npy"
    path.parent.mkdir()
    with path.open("wb") as file:
        np.save(file, np.ones((4, 2), dtype=np.float32))
    write_text(path.with_suffix(".json"), f'{{"data": "0123", "digest": "{digest_of(path)}"}}')
    assert sift_features("0123") == 0
    flip(path, path.stat().st_size - 1)
    assert sift_features("4567") == 0
    assert path.exists()
    assert sift_features("0123") == 1
    assert not path.exists()


def test_of_a_large_file_a_digest_reads_the_size_both_ends_and_pieces_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, piece = 2**20, 2**14
    monkeypatch.setattr(files, "WHOLE", whole)
    monkeypatch.setattr(files, "PIECE", piece)
    path, size = tmp_path / "large.npy", 4 * whole
    path.write_bytes(bytes(size))
    before = digest_of(path)
    for place in (0, size - 1, (size - piece) * 10 // (whole // piece - 1)):
        flip(path, place)
        assert digest_of(path) != before, place
        flip(path, place)
    assert digest_of(path) == before
    flip(path, piece + 1)  # between two pieces: the price of a bound
    assert digest_of(path) == before
    os.truncate(path, size - 1)
    assert digest_of(path) != before


@pytest.fixture
def limited() -> Iterator[None]:
    """Files of more than 64 kB cannot be written, as under a quota."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def save_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(100_000))


def save_arrays(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, values=np.zeros(100_000))


WRITERS: dict[str, Callable[[Path], object]] = {
    "tensors": lambda path: write_tensors(path, {"weight": torch.zeros(100_000)}),
    "text": lambda path: path.write_text("x" * 100_000),
    "an array": save_array,
    "arrays": save_arrays,
}


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("kind", WRITERS)
def test_what_cannot_be_written_leaves_the_old_file_and_names_it(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write() -> None:
        with written_aside(path) as aside:
            WRITERS[kind](aside)

    with pytest.raises(CannotWrite, match=rf"^{re.escape(str(path))} cannot be written") as caught:
        write()
    assert caught.value.errno in (errno.EFBIG, errno.ENOSPC)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_may_not_be_changed_is_named_with_what_to_do(tmp_path: Path) -> None:
    shared = Path(os.path.realpath("/tmp")) / f"torchstudy-{tmp_path.parent.name}-{os.getpid()}"
    shared.mkdir()
    shared.chmod(0o555)
    if is_root := os.geteuid() == 0:
        os.seteuid(65534)  # nobody: root may write anywhere
    try:
        with pytest.raises(CannotWrite, match=r"\(Permission denied\); let it be written"):
            write_text(shared / "file", "new")
    finally:
        if is_root:
            os.seteuid(0)
        shared.rmdir()
