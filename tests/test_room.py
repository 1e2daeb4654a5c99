"""How much the checkpoints of a study may take, and which trainings lose theirs."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from torchstudy.errors import StudyError
from torchstudy.execution.board import Board
from torchstudy.execution.job import CHECKPOINT
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.manifest import MANIFEST, damaged_files, note_files
from torchstudy.execution.outputs import training_folder
from torchstudy.execution.room import Room, checked_disk
from torchstudy.records import Objective, Outcome, Status, TrainingKey, Trial

ACCURACY = Objective(metric="accuracy", direction="maximize")
VALUES = [0.5, 0.9, 0.4, None, 0.8]  # of trials that wait; one has no epoch yet


def key(number: int) -> TrainingKey:
    return TrainingKey(family="CNN", number=number, seed=7)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    """Five trials that wait to go on, each with a checkpoint of 1000 bytes."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'studies.sqlite'}")
    ledger.claim("digits", {})
    board = Board(ledger, "digits", ["CNN"])
    board.propose(
        [Trial(family="CNN", number=n, config={}, origin="sobol") for n in range(len(VALUES))]
    )
    for number, value in enumerate(VALUES):
        attempt = board.begin(key(number), "search", "w")
        metrics = {} if value is None else {"valid_accuracy": value}
        board.end(key(number), attempt, Outcome(status=Status.PAUSED, metrics=metrics), 1.0)
        folder = training_folder(tmp_path, key(number))
        folder.mkdir(parents=True)
        (folder / CHECKPOINT).write_bytes(bytes(1000))
    yield board
    ledger.close()


def kept(folder: Path) -> list[int]:
    return [n for n in range(5) if (training_folder(folder, key(n)) / CHECKPOINT).exists()]


@pytest.mark.parametrize(
    ("limit", "expected"), [(5000, [0, 1, 2, 3, 4]), (4500, [0, 1, 2, 4]), (2000, [1, 4])]
)
def test_trainings_that_wait_lose_their_checkpoints_the_least_promising_first(
    board: Board, tmp_path: Path, limit: float, expected: list[int]
) -> None:
    notes, end = Room(tmp_path, limit).look(board, ACCURACY, [])
    assert end is None
    assert kept(tmp_path) == expected
    assert len(notes) == 5 - len(expected)
    assert all("its checkpoint was removed" in note for note in notes)


def test_the_objective_says_what_is_promising(board: Board, tmp_path: Path) -> None:
    worst = Objective(metric="accuracy", direction="minimize")
    Room(tmp_path, 2000).look(board, worst, [])
    assert kept(tmp_path) == [0, 2]


def test_what_runs_keeps_its_checkpoint_and_the_run_ends_where_that_is_too_much(
    board: Board, tmp_path: Path
) -> None:
    notes, end = Room(tmp_path, 1500).look(board, ACCURACY, [key(2), key(3)])
    assert kept(tmp_path) == [2, 3]
    assert len(notes) == 3
    assert "checkpoints takes 2e-06 GB, and may take 1.5e-06 GB: allow more" in str(end)


def test_the_disk_is_looked_at_now_and_then(board: Board, tmp_path: Path) -> None:
    room = Room(tmp_path, 2000)
    room.look(board, ACCURACY, [])
    (training_folder(tmp_path, key(0)) / CHECKPOINT).write_bytes(bytes(1000))
    assert room.look(board, ACCURACY, []) == ([], None)
    assert kept(tmp_path) == [0, 1, 4]


@pytest.mark.parametrize("amount", [0, -1, float("nan"), float("inf")])
def test_what_is_no_amount_is_refused(amount: float) -> None:
    assert checked_disk(None) == 20e9
    assert checked_disk(0.5) == 5e8
    with pytest.raises(StudyError, match="it takes gigabytes above 0, such as 20"):
        checked_disk(amount)


def test_files_that_are_not_as_they_were_written_are_listed(tmp_path: Path) -> None:
    for name in ("trials.csv", "best/CNN/model.pt", "checkpoints/CNN/0-1/weights.pt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    assert damaged_files(tmp_path) == []
    note_files(tmp_path)
    assert damaged_files(tmp_path) == []
    (tmp_path / "checkpoints/CNN/0-1/weights.pt").unlink()
    (tmp_path / "own notes.txt").write_text("a file of the user's")
    assert damaged_files(tmp_path) == []
    (tmp_path / "trials.csv").write_text("trials.csw")
    (tmp_path / "best/CNN/model.pt").unlink()
    assert damaged_files(tmp_path) == ["best/CNN/model.pt", "trials.csv"]
    for text in ("{", "[]", json.dumps({"a": 1})[:-3]):
        (tmp_path / MANIFEST).write_text(text)
        assert damaged_files(tmp_path) == [MANIFEST]
