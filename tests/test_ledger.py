import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from sqlalchemy import update
from tests.postgres import KINDS, new_url

from torchstudy.errors import RunError, StudyChanged, StudyClaimed, StudyError
from torchstudy.execution import schema
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.owner import Owner
from torchstudy.records import Epoch, Outcome, Status, TrainingKey, Trial

DECLARATION = {"epochs": 3, "families": {"CNN": {"width": {"low": 8, "high": 64}}}}
KEY = TrainingKey(family="CNN", number=0, seed=11)


def epoch(number: int) -> Epoch:
    return Epoch(
        epoch=number,
        seconds=1.5,
        finished="2026-01-01T00:00:00+00:00",
        train_loss=0.5,
        valid_loss=float("nan"),
        learning_rate=0.1,
        grad_norm=1.0,
        metrics={"accuracy": 0.25 * number},
    )


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_url(request.param, tmp_path)


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    ledger = Ledger(url)
    ledger.claim("digits", DECLARATION)
    ledger.propose("digits", [Trial(family="CNN", number=0, config={"width": 8}, origin="recipe")])
    yield ledger
    ledger.close()


@pytest.fixture
def reader(url: str, ledger: Ledger) -> Iterator[Ledger]:
    reader = Ledger(url, read_only=True)
    yield reader
    reader.close()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return new_url("sqlite", tmp_path)


@pytest.fixture
def sqlite_ledger(sqlite_url: str) -> Iterator[Ledger]:
    ledger = Ledger(sqlite_url)
    ledger.claim("digits", DECLARATION)
    yield ledger
    ledger.close()


def claimed_by(ledger: Ledger, owner: Owner) -> None:
    with ledger.database.writing() as connection:
        connection.execute(update(schema.studies).values(owner=json.dumps(asdict(owner))))


def test_what_was_written_is_read_by_another_connection(ledger: Ledger, reader: Ledger) -> None:
    attempt = ledger.begin("digits", KEY, "search", "here:1")
    assert ledger.add_epoch("digits", KEY, attempt, epoch(1))
    outcome = Outcome(
        status=Status.COMPLETED,
        epochs=1,
        best_epoch=1,
        parameters=7,
        metrics={"valid_accuracy": 0.25},
    )
    assert ledger.end("digits", KEY, attempt, outcome, 2.5)
    (training,) = reader.trainings("digits", "search")
    assert training.status is Status.COMPLETED
    assert training.trial == Trial(family="CNN", number=0, config={"width": 8}, origin="recipe")
    assert (training.seconds, training.parameters, training.metrics["valid_accuracy"]) == (
        2.5,
        7,
        0.25,
    )
    ((key, row),) = reader.epochs("digits")
    assert key == KEY
    assert str(row) == str(epoch(1))  # NaN and all


def test_an_epoch_sent_twice_is_recorded_once(ledger: Ledger) -> None:
    attempt = ledger.begin("digits", KEY, "search", "w")
    assert ledger.add_epoch("digits", KEY, attempt, epoch(1))
    assert not ledger.add_epoch("digits", KEY, attempt, epoch(1))
    assert len(ledger.epochs("digits")) == 1


def test_results_of_an_attempt_that_was_given_up_are_refused(ledger: Ledger) -> None:
    first = ledger.begin("digits", KEY, "search", "w")
    second = ledger.begin("digits", KEY, "search", "w")
    assert second == first + 1
    assert not ledger.add_epoch("digits", KEY, first, epoch(1))
    assert not ledger.end("digits", KEY, first, Outcome(status=Status.COMPLETED), 1.0)
    assert ledger.trainings("digits")[0].status is Status.RUNNING
    assert ledger.end("digits", KEY, second, Outcome(status=Status.DIVERGED, reason="x"), 1.0)
    assert not ledger.end("digits", KEY, second, Outcome(status=Status.COMPLETED), 1.0)
    assert ledger.trainings("digits")[0].status is Status.DIVERGED


def test_the_last_epochs_are_those_of_unfinished_trainings(ledger: Ledger) -> None:
    attempt = ledger.begin("digits", KEY, "search", "w")
    assert ledger.last_epochs("digits") == {KEY: 0}
    for number in (1, 2):
        ledger.add_epoch("digits", KEY, attempt, epoch(number))
    assert ledger.last_epochs("digits") == {KEY: 2}
    ledger.end("digits", KEY, attempt, Outcome(status=Status.COMPLETED), 1.0)
    assert ledger.last_epochs("digits") == {}


def test_seconds_add_up_over_legs(ledger: Ledger) -> None:
    for status in (Status.PAUSED, Status.COMPLETED):
        attempt = ledger.begin("digits", KEY, "search", "w")
        ledger.end("digits", KEY, attempt, Outcome(status=status), 1.25)
    (training,) = ledger.trainings("digits")
    assert training.seconds == 2.5
    assert training.finished


def test_losses_are_counted_and_environments_joined(ledger: Ledger) -> None:
    for environment, is_lost in (("aa", True), ("aa", True), ("", False), ("bb", False)):
        attempt = ledger.begin("digits", KEY, "search", "w", environment)
        outcome = Outcome(status=Status.PAUSED)
        assert ledger.end("digits", KEY, attempt, outcome, 1.0, is_lost=is_lost)
    training = ledger.training("digits", KEY)
    assert (training.losses, training.environment, training.attempt) == (2, "aa+bb", 4)


def test_any_text_can_be_a_reason(ledger: Ledger) -> None:
    attempt = ledger.begin("digits", KEY, "search", "w")
    said = "NUL \0, half a character \udcff, é, \U0001f600"
    ledger.end("digits", KEY, attempt, Outcome(status=Status.CRASHED, reason=said), 1.0)
    kept = "NUL \\x00, half a character \\xff, é, \U0001f600"
    assert ledger.training("digits", KEY).reason == kept


def test_a_study_held_by_a_living_process_is_refused_with_who_and_since_when(
    ledger: Ledger,
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        started = Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[19]
        holder = Owner(host=Owner.here().host, pid=other.pid, started=started)
        claimed_by(ledger, holder)
        expected = rf"study 'digits' is being run by process {other.pid} on .* since 20\d\d-.* UTC"
        with pytest.raises(StudyClaimed, match=expected):
            ledger.claim("digits", DECLARATION)
        with pytest.raises(StudyClaimed):
            ledger.forget("digits")
        other.communicate(b"\n")
    ledger.claim("digits", DECLARATION)


def test_a_dead_holder_is_taken_over_and_its_trainings_pause(ledger: Ledger) -> None:
    attempt = ledger.begin("digits", KEY, "search", "w")
    ledger.add_epoch("digits", KEY, attempt, epoch(1))
    ledger.add_epoch("digits", KEY, attempt, epoch(2))
    me = Owner.here()
    # The same process number, started at another time: a number that was used again.
    claimed_by(ledger, Owner(host=me.host, pid=me.pid, started="1"))
    ledger.claim("digits", DECLARATION)
    (training,) = ledger.trainings("digits")
    assert training.status is Status.PAUSED
    assert training.seconds == 3.0  # of the two epochs that are recorded


def test_a_holder_on_another_host_counts_as_living(ledger: Ledger) -> None:
    claimed_by(ledger, Owner(host="elsewhere", pid=1, started="1"))
    with pytest.raises(StudyClaimed, match="on elsewhere"):
        ledger.claim("digits", DECLARATION)


def test_a_changed_declaration_is_refused_with_every_difference(ledger: Ledger) -> None:
    changed = {"epochs": 5, "families": {"CNN": {"width": {"low": 8, "high": 32}, "depth": {}}}}
    with pytest.raises(StudyChanged) as caught:
        ledger.claim("digits", changed)
    message = str(caught.value)
    assert "  - epochs: was 3, now 5\n" in message
    assert "  - families.CNN.width.high: was 64, now 32\n" in message
    assert "families.CNN.depth: was absent, now {}" in message
    assert "--fresh" in message
    ledger.claim("digits", DECLARATION)


def test_forgetting_a_study_leaves_others_alone(ledger: Ledger) -> None:
    ledger.claim("other", DECLARATION)
    ledger.begin("digits", KEY, "search", "w")
    ledger.forget("digits")
    assert [state.name for state in ledger.studies()] == ["other"]
    assert ledger.trainings("digits") == []
    ledger.forget("digits")


def test_a_reader_does_not_wait_for_a_writer(ledger: Ledger, reader: Ledger) -> None:
    ledger.begin("digits", KEY, "search", "w")
    with ledger.database.writing() as connection:
        connection.execute(update(schema.trainings).values(worker="changed"))
        assert reader.trainings("digits")[0].worker == "w"
    assert reader.trainings("digits")[0].worker == "changed"


def test_the_database_is_durable_and_lets_readers_through(sqlite_ledger: Ledger) -> None:
    with sqlite_ledger.database.reading() as connection:
        modes = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert modes == ["wal", 2, 1]  # 2 is FULL


def test_storage_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="storage 'nonsense' is not a database URL"):
        Ledger("nonsense")
    (tmp_path / "no.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(RunError, match=r"storage sqlite:///.*no.sqlite cannot be used"):
        Ledger(f"sqlite:///{tmp_path / 'no.sqlite'}")


def test_the_ledger_is_a_plain_sqlite_file(sqlite_ledger: Ledger, sqlite_url: str) -> None:
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as connection:
        assert connection.execute("select name, state from studies").fetchall() == [
            ("digits", "running")
        ]
    connection.close()
