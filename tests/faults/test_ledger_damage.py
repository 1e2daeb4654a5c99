"""Ledgers that were cut, overwritten or zeroed are noticed, kept aside, and rescued."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from torchstudy.errors import RunError, StorageError
from torchstudy.execution import integrity
from torchstudy.execution.ledger import Ledger
from torchstudy.records import Epoch, Outcome, Status, TrainingKey, Trial

TRIALS, EPOCHS = 40, 6
PAGE = 4096


def key(number: int) -> TrainingKey:
    return TrainingKey(family="CNN", number=number, seed=number)


def epoch(number: int) -> Epoch:
    return Epoch(
        epoch=number,
        seconds=1.0,
        finished="2026-01-01T00:00:00+00:00",
        train_loss=0.5,
        valid_loss=float("nan"),
        learning_rate=0.1,
        grad_norm=1.0,
        metrics={f"metric{name}": 0.25 for name in range(20)},
    )


@pytest.fixture(scope="module")
def _whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A ledger of 40 trainings with 6 epochs each, of the last of which one is under way."""
    path = tmp_path_factory.mktemp("whole") / "studies.sqlite"
    ledger = Ledger(f"sqlite:///{path}")
    ledger.claim("digits", {})
    config = {f"parameter{number}": "x" * 20 for number in range(10)}
    trials = [
        Trial(family="CNN", number=number, config=config, origin="sobol")
        for number in range(TRIALS)
    ]
    ledger.propose("digits", trials)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA synchronous=OFF")
    connection.close()
    for number in range(TRIALS):
        ledger.begin("digits", key(number), "search", "w")
        for at in range(1, EPOCHS + 1):
            ledger.add_epoch("digits", key(number), 1, epoch(at))
        if number < TRIALS - 1:
            ledger.end("digits", key(number), 1, Outcome(status=Status.COMPLETED, epochs=6), 6.0)
    ledger.release("digits", "interrupted")
    ledger.close()
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, _whole: bytes) -> Path:
    path = tmp_path / "studies.sqlite"
    path.write_bytes(_whole)
    return path


def pages_of(path: Path, table: str) -> list[int]:
    """The numbers of the pages that hold rows of `table`: its leaves."""
    with sqlite3.connect(path) as connection:
        root = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)
        ).fetchone()[0]
    connection.close()
    data = path.read_bytes()
    page = data[(root - 1) * PAGE : root * PAGE]
    if page[0] == 13:
        return [root]
    count = int.from_bytes(page[3:5], "big")
    cells = [int.from_bytes(page[12 + 2 * at : 14 + 2 * at], "big") for at in range(count)]
    children = [int.from_bytes(page[cell : cell + 4], "big") for cell in cells]
    return [*children, int.from_bytes(page[8:12], "big")]


def overwrite(path: Path, page: int, content: bytes = b"\xa5" * PAGE) -> None:
    with open(path, "r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(content)


@pytest.fixture
def opened() -> Iterator[Callable[[Path], Ledger]]:
    """Opens ledgers and closes them in the end."""
    ledgers: list[Ledger] = []

    def open_one(path: Path) -> Ledger:
        ledgers.append(Ledger(f"sqlite:///{path}"))
        return ledgers[-1]

    yield open_one
    for ledger in ledgers:
        ledger.close()


def kept(path: Path) -> list[Path]:
    return sorted(path.parent.glob("studies.sqlite.damaged-*Z"))


Opener = Callable[[Path], Ledger]


def test_a_whole_ledger_is_opened_as_it_is(path: Path, opened: Opener) -> None:
    ledger = opened(path)
    assert ledger.note == ""
    assert len(ledger.epochs("digits")) == TRIALS * EPOCHS
    assert kept(path) == []


def test_a_page_of_epochs_that_was_overwritten_costs_its_rows_alone(
    path: Path, opened: Opener
) -> None:
    overwrite(path, pages_of(path, "epochs")[3])
    damaged = path.read_bytes()
    ledger = opened(path)
    rows = len(ledger.epochs("digits"))
    assert TRIALS * EPOCHS - 12 <= rows < TRIALS * EPOCHS
    assert len(ledger.trainings("digits")) == TRIALS
    (copy,) = kept(path)
    assert copy.read_bytes() == damaged
    assert f"the ledger sqlite:///{path} was damaged (" in ledger.note
    assert f"1 of 1 studies, 40 of 40 trials, 40 of 40 trainings, {rows} of 240" in ledger.note
    assert ledger.note.endswith(f"The damaged file is {copy}")
    assert sorted(path.parent.iterdir()) == sorted(
        [
            path,
            copy,
            Path(f"{copy}.txt"),
            *(path.with_name(f"{path.name}{end}") for end in ("-shm", "-wal")),
        ]
    )
    assert Path(f"{copy}.txt").read_text() == f"{ledger.note}\n"
    assert opened(path).note == ""


@pytest.mark.parametrize(("share", "expected"), [(0.2, 0), (0.5, 75), (0.95, 220), (0.99, 230)])
def test_of_a_ledger_that_was_cut_everything_before_is_kept(
    path: Path, opened: Opener, share: float, expected: int
) -> None:
    os.truncate(path, int(path.stat().st_size * share))
    ledger = opened(path)
    assert "damaged" in ledger.note
    epochs = ledger.epochs("digits")
    assert expected <= len(epochs) < expected + 15
    numbers = {trial.number for trial in ledger.trials("digits", "CNN")}
    assert {found.number for found, _ in epochs} <= numbers
    assert ledger.claim("digits", {}) is False
    ledger.propose("digits", [Trial(family="CNN", number=99, config={}, origin="sobol")])


@pytest.mark.parametrize(
    "lost", [b"\0" * PAGE, b"\xff" * PAGE, b"\0" * 100], ids=["zeros", "ones", "header"]
)
def test_a_ledger_without_its_first_page_loses_nothing(
    path: Path, opened: Opener, lost: bytes
) -> None:
    overwrite(path, 1, lost)
    ledger = opened(path)
    assert len(ledger.epochs("digits")) == TRIALS * EPOCHS
    trainings = ledger.trainings("digits")
    assert [training.status for training in trainings].count(Status.COMPLETED) == TRIALS - 1
    assert "40 of 40 trials, 40 of 40 trainings, 240 of 240 epochs" in ledger.note


def test_trials_after_a_lost_one_are_dropped_and_counted(path: Path, opened: Opener) -> None:
    overwrite(path, pages_of(path, "trials")[1])
    ledger = opened(path)
    numbers = [trial.number for trial in ledger.trials("digits", "CNN")]
    assert numbers == list(range(len(numbers)))
    assert 0 < len(numbers) < TRIALS
    assert {training.trial.number for training in ledger.trainings("digits")} == set(numbers)
    assert "trials after a lost one were dropped" in ledger.note
    assert "trainings of lost trials were dropped" in ledger.note


def test_damage_in_an_index_costs_nothing(path: Path, opened: Opener) -> None:
    overwrite(path, pages_of(path, "sqlite_autoindex_epochs_1")[0])
    ledger = opened(path)
    assert len(ledger.epochs("digits")) == TRIALS * EPOCHS
    assert len(kept(path)) == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 9000, b"SQLite format 3\0 and no more"],
    ids=["empty", "zeros", "header"],
)
def test_a_file_of_nothing_is_begun_anew_and_that_is_said(
    path: Path, opened: Opener, content: bytes
) -> None:
    path.write_bytes(content)
    (path.parent / "digits").mkdir()
    (path.parent / "digits" / "study.json").write_text("{}")
    ledger = opened(path)
    assert ledger.studies() == []
    if content:
        assert "Kept: 0 of" in ledger.note
        assert kept(path)[0].read_bytes() == content
    else:
        assert "is empty (0 bytes), though there are results of digits" in ledger.note


def test_a_first_run_that_was_killed_at_once_is_no_damage(tmp_path: Path, opened: Opener) -> None:
    (tmp_path / "studies.sqlite").write_bytes(b"")
    assert opened(tmp_path / "studies.sqlite").note == ""


def test_a_file_that_is_no_ledger_is_left_alone(path: Path, opened: Opener) -> None:
    content = b"Dear diary, today I learned about databases. " * 500
    path.write_bytes(content)
    expected = r"file is not a database; nothing in it is a ledger's, so it is left as it is; move"
    with pytest.raises(StorageError, match=expected):
        opened(path)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_log_that_was_lost_leaves_an_earlier_state_and_one_that_was_cut_its_beginning(
    path: Path, opened: Opener, tmp_path: Path
) -> None:
    ledger = opened(path)
    ledger.claim("digits", {})
    config = {"x": "y" * 3000}
    for number in range(TRIALS, TRIALS + 10):
        trial = Trial(family="CNN", number=number, config=config, origin="sobol")
        ledger.propose("digits", [trial])
    log = path.with_name("studies.sqlite-wal").read_bytes()
    for size, expected in ((0, range(1)), (len(log) // 2, range(2, 9)), (len(log), range(10, 11))):
        place = tmp_path / f"cut{size}"
        place.mkdir()
        (place / "studies.sqlite").write_bytes(path.read_bytes())
        if size:
            (place / "studies.sqlite-wal").write_bytes(log[:size])
        found = opened(place / "studies.sqlite")
        assert found.note == ""
        assert len(found.trials("digits", "CNN")) - TRIALS in expected


@pytest.mark.parametrize("content", [b"no database" * 1000, None], ids=["all", "page"])
def test_readers_say_in_one_line_that_a_ledger_is_damaged(
    path: Path, content: bytes | None
) -> None:
    if content:
        path.write_bytes(content)
    else:
        overwrite(path, pages_of(path, "epochs")[3])
    before = path.read_bytes()

    def read() -> None:
        ledger = Ledger(f"sqlite:///{path}", read_only=True)
        try:
            ledger.epochs("digits")
        finally:
            ledger.close()

    with pytest.raises(RunError, match="`optimize run` keeps a copy and goes on with") as caught:
        read()
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_damaged_ledger_that_another_process_has_open_is_not_touched(
    path: Path, opened: Opener
) -> None:
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
        "c.execute('SELECT count(*) FROM studies').fetchall(); print('open', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        overwrite(path, pages_of(path, "epochs")[3])
        before = path.read_bytes()
        with pytest.raises(StorageError, match="is damaged, and another process has it open"):
            opened(path)
        assert path.read_bytes() == before
        other.communicate(b"\n")
    assert "was damaged" in opened(path).note


def test_a_rescue_without_room_leaves_everything_as_it_was(path: Path) -> None:
    overwrite(path, pages_of(path, "epochs")[3])
    before = path.read_bytes()
    code = (
        "import resource, signal, sys; from torchstudy.execution.ledger import Ledger\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
        "Ledger(sys.argv[1])"
    )
    line = [sys.executable, "-c", code, f"sqlite:///{path}", str(len(before) // 2)]
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    said = ended.stderr.strip().rpartition("\n")[2]
    assert "is damaged (" in said
    assert "cannot be repaired: File too large; its folder must be writable, with room" in said
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_rescue_that_was_killed_before_its_last_step_is_finished(
    path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    overwrite(path, pages_of(path, "epochs")[3])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(integrity, "_put_in_place", killed)
        with pytest.raises(KeyboardInterrupt):
            opened(path)
    assert integrity.damage(path)
    ledger = opened(path)
    assert len(ledger.trainings("digits")) == TRIALS
    assert len(kept(path)) == 1  # it was not rescued a second time
    assert f"The damaged file is {kept(path)[0]}" in ledger.note
    assert not path.with_name("studies.sqlite.rescued").exists()
