"""Disks that are full or must not be written: the run says so, and goes on once there is room."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.test_runner import assert_same_results, linear_study, run_inline

from torchstudy.analysis.tables import Results
from torchstudy.errors import CannotWrite, RunError
from torchstudy.execution import room
from torchstudy.execution.ledger import Ledger
from torchstudy.failpoints import arm
from torchstudy.records import Status
from torchstudy.study import Study

pytestmark = pytest.mark.usefixtures("short_reports")

FULL = r"cannot be written \(No space left on device\); make room there and repeat the command"


def small_study() -> Study:
    return linear_study(trials=2, epochs=3, confirm=None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run_inline(small_study(), tmp_path_factory.mktemp("whole"))


@pytest.fixture
def failing() -> Iterator[Callable[[str], None]]:
    yield arm
    arm("")


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def statuses(folder: Path) -> set[Status]:
    ledger = Ledger(f"sqlite:///{folder / 'studies.sqlite'}")
    found = {training.status for training in ledger.trainings("lines")}
    ledger.close()
    return found


# The 2nd checkpoint; the 1st weights, after the items that are shown, 3 checkpoints and a record; a
# model at the end of the run.
@pytest.mark.parametrize("point", ["amid-checkpoint:full@2", "before-rename:full@6", "amid-best"])
def test_a_full_disk_ends_the_run_with_a_clear_sentence_and_costs_nothing(
    whole: Results, tmp_path: Path, failing: Callable[[str], None], point: str
) -> None:
    failing(point if ":" in point else f"{point}:full")
    with pytest.raises(CannotWrite if point == "amid-best" else RunError, match=FULL):
        run_inline(small_study(), tmp_path)
    failing("")
    assert statuses(tmp_path) <= {Status.PAUSED, Status.COMPLETED}
    assert not [name for name in files_of(tmp_path) if name.endswith(".part")]
    assert_same_results(run_inline(small_study(), tmp_path), whole)
    assert files_of(tmp_path / "lines") == files_of(whole.folder)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB; mounting one takes rights that few have."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_really_full_keeps_the_old_checkpoint_and_the_training_goes_on_from_it(
    whole: Results, disk: Path, tmp_path: Path
) -> None:
    options = {"storage": f"sqlite:///{tmp_path / 'studies.sqlite'}"}
    (disk / "filler").write_bytes(bytes(8 * 2**20 - 24 * 1024))  # a checkpoint, but not two
    with pytest.raises(RunError, match=rf"{re.escape(str(disk))}.*checkpoint\.pt {FULL}"):
        run_inline(small_study(), disk, **options)
    assert statuses(tmp_path) == {Status.PAUSED}
    left = {Path(name).name for name in files_of(disk / "lines")}
    assert left == {"checkpoint.pt", "examples.npz"}
    (disk / "filler").unlink()
    assert_same_results(run_inline(small_study(), disk, **options), whole)


def test_a_run_stops_where_its_checkpoints_need_more_than_they_may(
    whole: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LOOK_EVERY", 0.0)
    with pytest.raises(RunError, match=r"checkpoints takes .* GB, and may take 1e-06 GB: allow"):
        run_inline(small_study(), tmp_path, disk=1e-6)
    assert statuses(tmp_path) <= {Status.PAUSED, Status.COMPLETED}
    assert_same_results(run_inline(small_study(), tmp_path), whole)


def test_what_killed_processes_left_is_gone_after_the_next_run(
    whole: Results, tmp_path: Path
) -> None:
    folder = tmp_path / "lines"
    shutil.copytree(whole.folder, folder)
    shutil.copyfile(whole.folder.parent / "studies.sqlite", tmp_path / "studies.sqlite")
    kept = next((folder / "checkpoints" / "Linear").glob("*-*"))
    ended = subprocess.Popen(["true"])
    ended.wait()
    (kept / f".checkpoint.pt.{ended.pid}.abcd.part").write_bytes(b"half")
    (kept / f".report.html.{os.getppid()}.abcd.part").write_bytes(b"of a process that goes on")
    (kept / "checkpoint.pt").write_bytes(b"of a training that has ended")
    (folder / "best" / ".Linear.0123.old").mkdir()
    run_inline(small_study(), tmp_path)
    parts = list(folder.rglob("*.part"))
    assert parts == [kept / f".report.html.{os.getppid()}.abcd.part"]
    parts[0].unlink()
    assert files_of(folder) == files_of(whole.folder)
    assert not (folder / "best" / ".Linear.0123.old").exists()


def test_every_file_and_folder_gets_the_users_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHSTUDY_CACHE", str(tmp_path / "cache"))
    before = os.umask(0o007)
    try:
        run_inline(small_study(), tmp_path / "reports")
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes.pop(tmp_path / "reports" / "studies.sqlite") == 0o640  # SQLite asks for 0644
    odd = {path: oct(mode) for path, mode in modes.items() if mode != 0o660 + 0o110 * path.is_dir()}
    assert not odd
