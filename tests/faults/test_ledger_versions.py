"""Ledgers of earlier versions are read and brought up to date; those of later ones are refused."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from tests.postgres import KINDS, new_url

from torchstudy.errors import StorageError, StudyClaimed
from torchstudy.execution.ledger import Ledger
from torchstudy.records import Outcome, Status, TrainingKey

KEY = TrainingKey(family="CNN", number=0, seed=11)

# What the version before the first change of format wrote, less what no longer matters.
FIRST_FORMAT = """
CREATE TABLE studies (
    name VARCHAR(200) NOT NULL, declaration TEXT NOT NULL, summary TEXT NOT NULL,
    state VARCHAR(20) NOT NULL, owner TEXT NOT NULL, claimed VARCHAR(40) NOT NULL,
    PRIMARY KEY (name));
CREATE TABLE trials (
    study VARCHAR(200) NOT NULL, family VARCHAR(200) NOT NULL, number INTEGER NOT NULL,
    config TEXT NOT NULL, origin VARCHAR(20) NOT NULL, proposed VARCHAR(40) NOT NULL,
    PRIMARY KEY (study, family, number));
CREATE TABLE epochs (
    study VARCHAR(200) NOT NULL, family VARCHAR(200) NOT NULL, number INTEGER NOT NULL,
    seed INTEGER NOT NULL, epoch INTEGER NOT NULL, attempt INTEGER NOT NULL,
    seconds FLOAT NOT NULL, row TEXT NOT NULL, PRIMARY KEY (study, family, number, seed, epoch));
CREATE TABLE trainings (
    study VARCHAR(200) NOT NULL, family VARCHAR(200) NOT NULL, number INTEGER NOT NULL,
    seed INTEGER NOT NULL, purpose VARCHAR(20) NOT NULL, status VARCHAR(20) NOT NULL,
    attempt INTEGER NOT NULL, reason TEXT NOT NULL, epochs INTEGER NOT NULL,
    best_epoch INTEGER NOT NULL, parameters INTEGER NOT NULL, seconds FLOAT NOT NULL,
    started VARCHAR(40) NOT NULL, finished VARCHAR(40) NOT NULL, worker VARCHAR(200) NOT NULL,
    metrics TEXT NOT NULL, tested VARCHAR(40) NOT NULL, PRIMARY KEY (study, family, number, seed),
    FOREIGN KEY(study, family, number) REFERENCES trials (study, family, number));
INSERT INTO studies VALUES ('digits', '{}', '{}', 'interrupted', OWNER, '2026-01-01T00:00:00');
INSERT INTO trials VALUES ('digits', 'CNN', 0, '{}', 'recipe', '2026-01-01T00:00:00');
INSERT INTO trainings VALUES
    ('digits', 'CNN', 0, 11, 'search', 'paused', 1, '', 0, 0, 0, 1.5, '', '', 'w', '{}', '');
"""
ELSEWHERE = '\'{"host": "elsewhere", "pid": 1, "started": "1"}\''


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A ledger as the first format had it."""
    url = new_url(request.param, tmp_path)
    write(url, FIRST_FORMAT.replace("OWNER", "''"))
    return url


def write(url: str, statements: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in filter(str.strip, statements.split(";\n")):
            connection.exec_driver_sql(statement)
    engine.dispose()


def test_an_earlier_ledger_is_read_without_being_changed(url: str) -> None:
    for _ in range(2):
        with closing(Ledger(url, read_only=True)) as reader:
            (training,) = reader.trainings("digits")
            assert (training.seconds, training.losses, training.environment) == (1.5, 0, "")
            assert reader.training("digits", KEY) == training
            assert reader.studies()[0].seen == ""
            assert reader.epochs("digits") == []
    engine = create_engine(url)
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT * FROM trainings").one()
    engine.dispose()
    assert len(found) == 17


def test_an_earlier_ledger_gets_what_it_lacks_and_goes_on(url: str) -> None:
    with closing(Ledger(url)) as ledger:
        assert not ledger.claim("digits", {})
        attempt = ledger.begin("digits", KEY, "search", "w", "aa")
        outcome = Outcome(status=Status.PAUSED)
        assert ledger.end("digits", KEY, attempt, outcome, 1.0, is_lost=True)
        training = ledger.training("digits", KEY)
    assert (training.attempt, training.seconds) == (2, 2.5)
    assert (training.losses, training.environment) == (1, "aa")
    with closing(Ledger(url)) as again:
        assert again.training("digits", KEY) == training


def test_an_earlier_program_can_go_on_writing_to_a_ledger_brought_up_to_date(url: str) -> None:
    with closing(Ledger(url)) as ledger:
        names = "study, family, number, seed, purpose, status, attempt, reason, epochs, best_epoch"
        names += ", parameters, seconds, started, finished, worker, metrics, tested"
        values = "'digits', 'CNN', 0, 12, 'search', 'paused', 1, '', 0, 0, 0, 1.5, '', '', 'w'"
        write(url, f"INSERT INTO trainings ({names}) VALUES ({values}, '{{}}', '')")
        assert [training.losses for training in ledger.trainings("digits")] == [0, 0]


def test_a_holder_of_an_earlier_version_on_another_host_counts_as_living(tmp_path: Path) -> None:
    url = new_url("sqlite", tmp_path)
    write(url, FIRST_FORMAT.replace("OWNER", ELSEWHERE))
    with closing(Ledger(url)) as ledger, pytest.raises(StudyClaimed, match="1 on elsewhere since"):
        ledger.claim("digits", {})


@pytest.mark.parametrize("read_only", [True, False])
def test_a_ledger_of_a_later_version_is_refused(tmp_path: Path, read_only: bool) -> None:
    url = new_url("sqlite", tmp_path)
    Ledger(url).close()
    write(url, "UPDATE format SET version = 99")
    expected = r"was written by a later version of torchstudy \(format 99, this version knows 5\)"
    with pytest.raises(StorageError, match=expected):
        Ledger(url, read_only=read_only)


def test_the_first_tables_lie_in_the_same_place_in_every_format(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    old, new = new_url("sqlite", tmp_path / "old"), new_url("sqlite", tmp_path)
    write(old, FIRST_FORMAT.replace("OWNER", "''"))
    Ledger(old).close()
    Ledger(new).close()
    query = "SELECT name, rootpage FROM sqlite_schema ORDER BY rootpage LIMIT 8"
    places = []
    for url in (old, new):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            places.append(connection.execute(query).fetchall())
    assert places[0] == places[1]
