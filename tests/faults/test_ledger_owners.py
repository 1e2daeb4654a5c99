"""Who holds a study is told apart from who held it once, wherever that was."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from sqlalchemy import select, update
from tests.postgres import KINDS, new_url

from torchstudy.errors import StudyClaimed
from torchstudy.execution import heartbeat, owner, schema
from torchstudy.execution.heartbeat import Heartbeat
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.owner import Owner
from torchstudy.overview import status_lines
from torchstudy.records import Epoch, Outcome, Status, TrainingKey, Trial

KEY = TrainingKey(family="CNN", number=0, seed=11)
TRIAL = Trial(family="CNN", number=0, config={}, origin="recipe")
ROW = Epoch(
    epoch=1,
    seconds=1.5,
    finished="2026-01-01T00:00:00+00:00",
    train_loss=0.5,
    valid_loss=0.5,
    learning_rate=0.1,
    grad_norm=1.0,
)
# An earlier boot, another container on this machine, another machine, one of the same host name.
OUT_OF_SIGHT = {
    "before a reboot": {"boot": "an earlier one"},
    "in another container": {"space": "pid:[1]"},
    "on another host": {"host": "elsewhere", "boot": "its own"},
}


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_url(request.param, tmp_path)


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with closing(Ledger(url)) as ledger:
        ledger.claim("digits", {})
        ledger.propose("digits", [TRIAL])
        yield ledger


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT", 0.05)
    monkeypatch.setattr(heartbeat, "PATIENCE", 0.3)


def give_to(url: str, holder: Owner) -> None:
    """Let the study be held by another process, which gives no signs of life."""
    with closing(Ledger(url)) as ledger, ledger.database.writing() as connection:
        change = update(schema.studies).values(owner=json.dumps(asdict(holder)))
        connection.execute(change)


def seen(ledger: Ledger) -> str:
    with ledger.database.reading() as connection:
        return str(connection.execute(select(schema.studies.c.seen)).scalar_one())


@pytest.mark.parametrize("where", OUT_OF_SIGHT)
def test_a_holder_out_of_sight_that_gives_no_sign_of_life_is_taken_over(
    tmp_path: Path, where: str
) -> None:
    url, told = new_url("sqlite", tmp_path), list[str]()
    with closing(Ledger(url)) as first:
        first.claim("digits", {})
        first.propose("digits", [TRIAL])
        first.begin("digits", KEY, "search", "w")
    give_to(url, replace(Owner.here(), **OUT_OF_SIGHT[where]))
    with closing(Ledger(url)) as second:
        second.claim("digits", {}, tell=told.append)
        assert second.training("digits", KEY).status is Status.PAUSED
    (sentence,) = told
    assert f"study 'digits' is held by process {os.getpid()} on " in sentence
    assert "waiting 0 s for a sign of life" in sentence


def test_a_study_of_a_holder_that_gives_no_sign_of_life_can_be_forgotten(
    ledger: Ledger, url: str
) -> None:
    give_to(url, replace(Owner.here(), host="elsewhere", boot="its own"))
    with closing(Ledger(url)) as other:
        other.forget("digits")
        assert other.studies() == []


@pytest.mark.parametrize("where", OUT_OF_SIGHT)
def test_a_holder_out_of_sight_that_gives_signs_of_life_is_not(tmp_path: Path, where: str) -> None:
    url = new_url("sqlite", tmp_path)
    with closing(Ledger(url)) as first:
        first.claim("digits", {})
    holder = replace(Owner.here(), pid=123, **OUT_OF_SIGHT[where])
    give_to(url, holder)
    with closing(Ledger(url)) as ledger:

        def beat() -> bool:
            with ledger.database.writing() as connection:
                connection.execute(update(schema.studies).values(seen=str(time.perf_counter())))
            return True

        beating = Heartbeat(beat, 0.05)
        expected = f"is being run by process 123 on {holder.host} since 20.* UTC, last heard of at"
        with pytest.raises(StudyClaimed, match=expected):
            ledger.claim("digits", {})
        beating.stop()


def test_a_run_gives_signs_of_life_until_it_lets_go(ledger: Ledger) -> None:
    def next_sign(before: str) -> str:
        end = time.monotonic() + 5
        while seen(ledger) == before and time.monotonic() < end:
            time.sleep(0.01)
        return seen(ledger)

    first = seen(ledger)
    second = next_sign(first)
    assert first < second < next_sign(second)
    ledger.release("digits", "finished")
    last = seen(ledger)
    time.sleep(0.2)
    assert seen(ledger) == last


def test_a_ledger_that_is_forgotten_gives_no_more_signs_of_life(url: str) -> None:
    ledger = Ledger(url)
    before = threading.active_count()
    ledger.claim("digits", {})
    engine = ledger.database.engine
    del ledger
    end = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() == before
    engine.dispose()


def test_a_run_that_was_taken_over_can_change_nothing_any_more(ledger: Ledger, url: str) -> None:
    attempt = ledger.begin("digits", KEY, "search", "w")
    give_to(url, replace(Owner.here(), host="elsewhere", boot="its own"))
    with closing(Ledger(url)) as other:
        other.claim("digits", {})
        give_to(url, replace(Owner.here(), pid=77))
        lost = "study 'digits' was taken over by process 77 on .* this run gave no sign of life"
        for change in (
            lambda: ledger.propose("digits", [replace(TRIAL, number=1)]),
            lambda: ledger.begin("digits", KEY, "search", "w"),
            lambda: ledger.add_test("digits", KEY, {"test_accuracy": 1.0}),
            lambda: ledger.describe("digits", {"study": "another"}),
        ):
            with pytest.raises(StudyClaimed, match=lost):
                change()
        assert not ledger.add_epoch("digits", KEY, attempt, ROW)
        assert not ledger.end("digits", KEY, attempt, Outcome(status=Status.COMPLETED), 1.0)
        ledger.release("digits", "finished")
        (state,) = other.studies()
        assert (state.state, state.owner) == ("running", replace(Owner.here(), pid=77))
        assert other.training("digits", KEY).status is Status.PAUSED
        assert len(other.trials("digits", "CNN")) == 1


def test_of_runs_that_begin_at_once_one_gets_the_study(url: str) -> None:
    Ledger(url).close()
    code = (
        "import sys; from torchstudy.execution.ledger import Ledger\n"
        "from torchstudy.errors import StudyClaimed\n"
        "ledger = Ledger(sys.argv[1]); print('ready', flush=True); input()\n"
        "try: ledger.claim('digits', {}); print('held', flush=True)\n"
        "except StudyClaimed: print('refused', flush=True)\n"
        "input()"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    streams = [(run.stdin, run.stdout) for run in runs]
    assert all(out is not None and out.readline() == "ready\n" for _, out in streams)
    for given, _ in streams:
        assert given is not None
        given.write("\n")
        given.flush()
    said = sorted(out.readline().strip() for _, out in streams if out is not None)
    for run in runs:
        run.communicate("\n")
    assert said == ["held", "refused"]


def test_a_process_is_recognised_though_it_may_not_be_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    me = Owner.here()
    assert not me.is_gone
    assert replace(me, started="0").is_gone  # the same number, used again
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        while Path(f"/proc/{ended.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        assert replace(me, pid=ended.pid).is_gone  # dead, though nobody has waited for it
    assert replace(me, pid=ended.pid).is_gone
    monkeypatch.setattr(owner, "_start_time", lambda pid: None)  # as where /proc hides others
    assert not replace(me, pid=os.getppid()).is_gone


def test_status_says_where_a_run_that_cannot_be_seen_was_last_heard_of(
    ledger: Ledger, url: str, tmp_path: Path
) -> None:
    objective = {"metric": "accuracy", "direction": "maximize"}
    budget = {"trials": 2, "epochs": 7}
    ledger.describe("digits", {"objective": objective, "budget": budget, "families": {"CNN": {}}})
    attempt = ledger.begin("digits", KEY, "search", "w")
    for number in (1, 2):
        ledger.add_epoch("digits", KEY, attempt, replace(ROW, epoch=number))
    ((title, lines),) = status_lines(tmp_path, url, "digits")
    assert title == "digits: running"
    assert lines[0][:4] == ["CNN", "0/2", "#0 epoch 2/7", "-"]
    give_to(url, replace(Owner.here(), host="elsewhere", boot="its own"))
    last = seen(ledger)[:19]
    ((title, lines),) = status_lines(tmp_path, url, "digits")
    assert title == f"digits: running on elsewhere, last heard of at {last} UTC"
    give_to(url, replace(Owner.here(), started="0"))
    ((title, lines),) = status_lines(tmp_path, url, "digits")
    assert title == "digits: interrupted"
    assert lines[0][:4] == ["CNN", "0/2", "-", "#0 epoch 2/7"]


def test_readers_neither_wait_for_a_writer_nor_keep_it_waiting(ledger: Ledger, url: str) -> None:
    attempt = ledger.begin("digits", KEY, "search", "w")
    end, counts = threading.Event(), list[int]()

    def read() -> None:
        with closing(Ledger(url, read_only=True)) as reader:
            while not end.is_set():
                counts.append(len(reader.epochs("digits")))

    readers = [threading.Thread(target=read) for _ in range(8)]
    for reader in readers:
        reader.start()
    waits = []
    for number in range(1, 31):
        began = time.perf_counter()
        assert ledger.add_epoch("digits", KEY, attempt, replace(ROW, epoch=number))
        waits.append(time.perf_counter() - began)
    with ledger.database.writing() as connection:  # and nobody waits for a transaction
        connection.execute(update(schema.trainings).values(worker="changed"))
        before = len(counts)
        until = time.monotonic() + 5
        while len(counts) < before + 8 and time.monotonic() < until:
            time.sleep(0.01)
        assert len(counts) >= before + 8
    end.set()
    for reader in readers:
        reader.join()
    assert max(waits) < 5  # 0.05 s alone; the two cores are shared with eight busy readers
