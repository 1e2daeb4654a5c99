"""The board of a run: the ledger's contents, found without looking through all of them."""

from pathlib import Path

import pytest

from torchstudy.execution.board import Board
from torchstudy.execution.ledger import Ledger
from torchstudy.records import Outcome, Purpose, Status, TrainingKey, Trial


@pytest.fixture
def board(tmp_path: Path) -> Board:
    ledger = Ledger(f"sqlite:///{tmp_path / 'studies.sqlite'}")
    ledger.claim("lines", {})
    board = Board(ledger, "lines", ["A", "B"])
    board.propose(
        [
            Trial(family=family, number=number, config={"width": number}, origin="sobol")
            for family in ("A", "B")
            for number in range(4)
        ]
    )
    return board


def begun(board: Board, family: str, number: int, seed: int, purpose: Purpose = "search") -> None:
    board.begin(TrainingKey(family=family, number=number, seed=seed), purpose, "w")


def ended(board: Board, family: str, number: int, seed: int, status: Status) -> None:
    key = TrainingKey(family=family, number=number, seed=seed)
    assert board.end(key, board.trainings[key].attempt, Outcome(status=status), 1.0)


def shown(board: Board) -> dict[str, object]:
    """Everything that the board can be asked for."""
    return {
        "searched": {family: board.searched(family) for family in ("A", "B")},
        "confirmed": {family: board.confirmed(family) for family in ("A", "B")},
        "paused": board.paused(),
        "trainings": board.trainings,
    }


def test_trainings_stand_by_trial_number_whatever_began_first(board: Board) -> None:
    for number in (2, 0, 3, 1):
        begun(board, "A", number, 5)
        begun(board, "B", number, 6)
    for seed in (9, 8):
        for number in (3, 1):
            begun(board, "A", number, seed, "confirmation")
    assert [t.trial.number for t in board.searched("A")] == [0, 1, 2, 3]
    assert [t.seed for t in board.searched("B")] == [6, 6, 6, 6]
    assert [t.trial.number for t in board.confirmed("A")] == [1, 1, 3, 3]
    assert board.confirmed("B") == []


def test_what_is_paused_waits_until_it_goes_on(board: Board) -> None:
    for family, number in (("B", 1), ("A", 1), ("A", 2), ("A", 0)):
        begun(board, family, number, 5)
        ended(board, family, number, 5, Status.PAUSED)
    assert [(key.family, key.number) for key in board.paused()] == [
        ("A", 0),
        ("A", 1),
        ("B", 1),
        ("A", 2),
    ]
    begun(board, "A", 1, 5)
    assert [(key.family, key.number) for key in board.paused()] == [("A", 0), ("B", 1), ("A", 2)]
    ended(board, "A", 1, 5, Status.COMPLETED)
    assert len(board.paused()) == 3
    assert board.searched("A")[1].status is Status.COMPLETED


def test_a_board_read_afresh_shows_the_same(board: Board) -> None:
    for number, status in enumerate((Status.COMPLETED, Status.PAUSED, Status.DIVERGED)):
        begun(board, "A", number, 5)
        ended(board, "A", number, 5, status)
    begun(board, "B", 0, 5)
    begun(board, "A", 0, 9, "confirmation")
    before = shown(board)
    board.refresh()
    assert shown(board) == before
    assert shown(Board(board.ledger, "lines", ["A", "B"])) == before


def test_a_lost_worker_and_the_environment_reach_the_ledger(board: Board) -> None:
    key = TrainingKey(family="A", number=0, seed=5)
    for environment in ("one", "two"):
        attempt = board.begin(key, "search", "w", environment)
        assert board.end(key, attempt, Outcome(status=Status.PAUSED), 1.0, is_lost=True)
    board.end(key, board.begin(key, "search", "w", "two"), Outcome(status=Status.PAUSED), 1.0)
    assert (board.trainings[key].losses, board.trainings[key].attempt) == (2, 3)
    assert board.trainings[key].environment == "one+two"
