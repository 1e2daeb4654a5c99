"""kill -9 at every failpoint: nothing acknowledged is lost or doubled, and the end is the same."""

import random
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from pandas.testing import assert_frame_equal
from tests.faults.killing import Killer, killer
from tests.test_runner import assert_same_results

from torchstudy.analysis.examples import read_examples
from torchstudy.analysis.tables import Results, read_results
from torchstudy.failpoints import POINTS

EPOCHS = 12  # of the study `lines`: two trials, four fresh trainings of two epochs each
GONE_WITHIN = 60  # seconds; 2 on a quiet machine, where a forkserver is still importing torch
UNSAVED = ("before-checkpoint", "amid-checkpoint", "before-rename")  # an epoch ends, and is lost
# A run that was killed at one goes on to the next: no more than three, of nearly the same moment.
IN_A_ROW = [POINTS[place : place + 3] for place in range(0, len(POINTS), 3)]
FREQUENT = {  # points before the files are written, and the last passing to be killed at
    "before-ledger-commit": 9,
    "after-ledger-commit": 9,
    "after-begin": 2,
    "before-checkpoint": 2,
    "amid-checkpoint": 2,
    "after-checkpoint": 2,
    "after-epoch": 2,
    "before-rename": 6,
    "after-rename": 6,
    "before-weights": 2,
    "after-weights": 2,
    "after-outcome": 2,
    "after-confirmation": 2,
    "after-test": 2,
}

Row = tuple[object, ...]


@pytest.fixture(scope="module")
def lines() -> Iterator[Killer]:
    with killer() as made:
        yield made


@pytest.fixture(scope="module")
def whole(lines: Killer, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What the study comes to when nothing happens to it."""
    folder = tmp_path_factory.mktemp("whole")
    assert lines.run(folder) == 0, (folder / "said.txt").read_text()
    return read_results(folder / "lines")


def acknowledged(folder: Path) -> tuple[set[Row], set[Row]]:
    """Trainings that have ended, and epoch rows, of a ledger that is found whole."""
    with sqlite3.connect(folder / "studies.sqlite") as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        ended = connection.execute(
            "select family, number, seed, status, epochs from trainings "
            "where status not in ('running', 'paused')"
        ).fetchall()
        epochs = connection.execute("select family, number, seed, epoch, row from epochs")
        found = set(ended), set(epochs.fetchall())
    connection.close()
    return found


def check_checkpoints(folder: Path) -> None:
    """Every epoch that the ledger has of an unfinished training is in its checkpoint."""
    with sqlite3.connect(folder / "studies.sqlite") as connection:
        rows = connection.execute(
            "select family, number, seed, count(row) from trainings natural join "
            "(select family, number, seed, row from epochs) where status = 'running' "
            "group by family, number, seed"
        ).fetchall()
    connection.close()
    for family, number, seed, count in rows:
        path = folder / "lines" / "checkpoints" / family / f"{number}-{seed}" / "checkpoint.pt"
        assert len(torch.load(path, weights_only=True)["rows"]) >= count


def files_of(folder: Path) -> set[str]:
    """Everything there is but the logs of workers, which a run in one process has not."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "log.txt")
    return {str(path.relative_to(folder)) for path in paths}


def notes(folder: Path) -> str:
    return f"before-checkpoint:note:{folder / 'trained.txt'}"


def num_trained(folder: Path) -> int:
    """How many epochs have been trained, over all runs."""
    path = folder / "trained.txt"
    return len(path.read_text().split()) if path.exists() else 0


def check_end(folder: Path, whole: Results) -> None:
    """The study has come to where it comes when nothing happens to it."""
    found = read_results(folder / "lines")
    assert_same_results(found, whole)
    assert files_of(found.folder) == files_of(whole.folder)
    shown, expected = (read_examples(each.folder) for each in (found, whole))
    assert shown is not None
    assert expected is not None
    assert_frame_equal(shown.table, expected.table)
    first, second = (
        torch.load(each.folder / "best" / "Linear" / "model.pt", weights_only=True)
        for each in (found, whole)
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
@pytest.mark.parametrize("points", IN_A_ROW, ids=" then ".join)
def test_a_run_killed_at_failpoints_goes_on_and_comes_to_the_same_end(
    lines: Killer, whole: Results, tmp_path: Path, points: tuple[str, ...]
) -> None:
    """Slow: a run for each point, and one that comes to its end and draws a report."""
    known: tuple[set[Row], set[Row]] = (set(), set())
    for point in points:
        code = lines.run(tmp_path, f"{notes(tmp_path)},{point}:kill")
        assert code == -signal.SIGKILL, (point, (tmp_path / "said.txt").read_text())
        now = acknowledged(tmp_path)
        assert known[0] <= now[0], point
        assert known[1] <= now[1], point
        known = now
        check_checkpoints(tmp_path)
    assert lines.run(tmp_path, notes(tmp_path)) == 0, (tmp_path / "said.txt").read_text()
    ended, epochs = acknowledged(tmp_path)
    assert known[0] <= ended
    assert known[1] <= epochs
    assert len(epochs) == EPOCHS
    unsaved = sum(point in UNSAVED for point in points)
    assert num_trained(tmp_path) - EPOCHS <= unsaved, "a training began again"
    check_end(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 3])
def test_a_run_killed_again_and_again_comes_to_the_same_end(
    lines: Killer, whole: Results, tmp_path: Path, seed: int
) -> None:
    """Slow: a dozen runs, of which the last comes to its end."""
    generator = random.Random(seed)
    known: tuple[set[Row], set[Row]] = (set(), set())
    kills, unsaved, code = 0, 0, -signal.SIGKILL
    while code != 0:
        assert code == -signal.SIGKILL, (tmp_path / "said.txt").read_text()
        point = generator.choice(list(FREQUENT))
        passing = generator.randint(1, FREQUENT[point])
        code = lines.run(tmp_path, f"{notes(tmp_path)},{point}:kill@{passing}")
        now = acknowledged(tmp_path)
        assert known[0] <= now[0]
        assert known[1] <= now[1]
        known = now
        kills += code != 0
        unsaved += code != 0 and point in UNSAVED
    assert kills >= 5
    assert num_trained(tmp_path) - EPOCHS <= unsaved, "a training began again"
    check_end(tmp_path, whole)


@pytest.mark.slow
def test_the_coordinator_killed_alone_leaves_no_process_and_the_run_goes_on(
    lines: Killer, whole: Results, tmp_path: Path
) -> None:
    """Slow: the processes of its run have a forkserver, which has to import torch."""
    code = lines.run(tmp_path, "after-ledger-commit:kill@7", executor="local", workers=1)
    assert code == -signal.SIGKILL, (tmp_path / "said.txt").read_text()
    began = time.monotonic()
    while left := processes_in(tmp_path):
        assert time.monotonic() - began < GONE_WITHIN, f"{left} are left behind"
        time.sleep(0.02)
    known = acknowledged(tmp_path)
    assert known[1], "no worker had sent anything"
    assert lines.run(tmp_path) == 0, (tmp_path / "said.txt").read_text()
    now = acknowledged(tmp_path)
    assert known[0] <= now[0]
    assert known[1] <= now[1]
    check_end(tmp_path, whole)


def processes_in(folder: Path) -> list[str]:
    """The processes that write what they say to the run's file, as all of a run do."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/2"):
        with suppress(OSError):  # it has just ended, or is somebody else's
            if link.readlink().is_relative_to(folder):
                found.append(link.parts[2])
    return found
