"""Crashed trainings begin again once their cause is mended, and nothing of them is forgotten."""

import json
import shutil
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from tests.command import optimize, write_study
from tests.test_runner import Stop, StopAt, assert_same_results, linear_study, run_inline, timeless
from torch import nn

from torchstudy.analysis.tables import Results, read_results, read_table
from torchstudy.data.spec import DataSpec
from torchstudy.domains import Choice
from torchstudy.errors import RunError, StudyError
from torchstudy.execution.examples import record_path
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.outputs import training_folder
from torchstudy.execution.retrying import retry
from torchstudy.execution.watching import Silent
from torchstudy.families.base import Family, family
from torchstudy.overview import status_lines, study_lines
from torchstudy.planning import plan_lines
from torchstudy.records import Epoch, Outcome, Status, TrainingKey, Trial
from torchstudy.repeats import repeat_name
from torchstudy.report.sentences import standing
from torchstudy.report.story import Story
from torchstudy.report.trouble import failures
from torchstudy.schemas import ATTEMPT_COLUMNS
from torchstudy.study import Study

pytestmark = pytest.mark.usefixtures("short_reports")
BUG = {"is_there": True}


@pytest.fixture(autouse=True)
def _bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUG, "is_there", True)


@family
class Mendable(Family):
    """A linear layer that breaks: `weak` ones until they are mended, `broken` ones always."""

    how: str = Choice("weak", "broken", "fine", default="weak")

    def build(self, data: DataSpec) -> nn.Module:
        if self.how == "broken" or (self.how == "weak" and BUG["is_there"]):
            raise RuntimeError(f"the {self.how} layer does not fit")
        pixels = data.channels * data.height * data.width
        return nn.Sequential(nn.Flatten(), nn.Linear(pixels, data.num_classes))


class Notes(Silent):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def weak(**changes: object) -> Study:
    return linear_study(**{"families": [Mendable], "space": {"how": "weak"}, **changes})


def mixed(**changes: object) -> Study:
    return linear_study(**{"families": [Mendable], "trials": 4, "confirm": None, **changes})


def ledger_in(folder: Path) -> Ledger:
    return Ledger(f"sqlite:///{folder / 'studies.sqlite'}", read_only=True)


def attempts_in(results: Results) -> pd.DataFrame:
    table = read_table(results.folder / "attempts.parquet", ATTEMPT_COLUMNS)
    assert table is not None
    return table


def test_a_mended_study_has_the_tables_of_one_that_never_crashed(tmp_path: Path) -> None:
    study = weak(trials=5)
    with pytest.raises(RunError, match=r"once it is mended, --retry-crashed trains them again$"):
        run_inline(study, tmp_path / "mended")
    BUG["is_there"] = False
    watcher = Notes()
    found = run_inline(study, tmp_path / "mended", retry_crashed=True, watcher=watcher)
    assert "trained again: Mendable #0, Mendable #1, Mendable #2" in watcher.texts
    assert_same_results(found, run_inline(study, tmp_path / "sound"))
    attempts = attempts_in(found)
    assert attempts["trial"].tolist() == [0, 1, 2]
    assert attempts["status"].eq("crashed").all()
    assert attempts["reason"].str.endswith("RuntimeError: the weak layer does not fit\n").all()
    assert attempts["attempt"].tolist() == [1, 1, 1]
    assert (tmp_path / "sound/lines/attempts.parquet").exists() is False


def test_without_being_asked_what_crashed_stays_and_the_way_on_is_said(tmp_path: Path) -> None:
    first = run_inline(mixed(), tmp_path)
    crashed = first.trials.loc[first.trials["status"] == "crashed", "trial"].tolist()
    assert 0 < len(crashed) < 4
    BUG["is_there"] = False
    watcher = Notes()
    assert_same_results(run_inline(mixed(), tmp_path, watcher=watcher), first)
    named = ", ".join(f"Mendable #{number}" for number in crashed)
    assert watcher.texts == [
        f"crashed: {named}; once the cause is mended, --retry-crashed trains them again"
    ]


def test_a_dry_run_counts_what_would_be_trained_again(tmp_path: Path) -> None:
    first = run_inline(mixed(repeats=2), tmp_path)
    crashed = int(first.trials["status"].eq("crashed").sum())
    with closing(ledger_in(tmp_path)) as ledger:
        again = [t for t in ledger.trainings(repeat_name("lines", 2)) if t.status == "crashed"]

    def planned(**options: bool) -> tuple[str, str]:
        _, ((_, trials, _, left, _, _),), footer = plan_lines(
            mixed(repeats=2),
            reports=tmp_path,
            storage=None,
            workers=1,
            executor="inline",
            families=None,
            **options,
        )
        assert trials == "8"
        return left, footer

    BUG["is_there"] = False  # its recipe is trained to see how long that takes
    left, footer = planned()
    assert left == "0"
    named = ", ".join(f"Mendable #{t.trial.number}" for t in again)
    assert f"\nrepeat 2: crashed: {named}; once the cause is mended, --retry-" in footer
    left, footer = planned(retry_crashed=True)
    assert left == str(crashed + len(again)) != "0"
    assert footer.startswith("trained again: Mendable #")
    left, footer = planned(fresh=True)
    assert left == "8"
    assert "again" not in footer
    with pytest.raises(StudyError, match="--fresh deletes what --retry-crashed would train again"):
        planned(fresh=True, retry_crashed=True)


def test_only_what_is_still_broken_crashes_again_and_other_trials_are_left_alone(
    tmp_path: Path,
) -> None:
    first = run_inline(mixed(), tmp_path)
    BUG["is_there"] = False
    found = run_inline(mixed(), tmp_path, retry_crashed=True)
    said = failures(Story(found)).context["sentences"]
    begun = (
        f"{len(attempts_in(found))} trainings crashed at first and were begun again; attempts.csv"
    )
    assert any(sentence.startswith(begun) for sentence in said)
    how = found.trials["config.how"]
    assert found.trials["status"].eq("crashed").tolist() == how.eq("broken").tolist()
    unbroken = first.trials["status"] == "completed"
    assert_same = pd.testing.assert_frame_equal
    names = list(first.trials)  # their order follows the first trial
    assert_same(found.trials.loc[unbroken, names], first.trials[unbroken])
    assert_same(
        timeless(found.proposals[["decision", "trial", "origin", "until", "pending"]]),
        timeless(first.proposals[["decision", "trial", "origin", "until", "pending"]]),
    )
    assert len(attempts_in(found)) == (~unbroken).sum()
    with closing(ledger_in(tmp_path)) as ledger:
        assert [bool(t.earlier) for t in ledger.trainings("lines")] == (~unbroken).tolist()


@pytest.mark.slow
def test_retried_and_interrupted_anywhere_it_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """What crashes again is tried again by every repetition of the command: no decision changes.

    Slow: more trials than the first ten, which need no results, again and again.
    """
    first = run_inline(mixed(trials=11), tmp_path / "once")
    assert first.trials["status"].iloc[9:].tolist() == ["crashed", "completed"]
    shutil.copytree(tmp_path / "once", tmp_path / "often")
    BUG["is_there"] = False
    study = mixed(trials=13)
    expected = run_inline(study, tmp_path / "once", retry_crashed=True)
    decided = expected.proposals.set_index("decision")
    assert decided.loc[10:, "pending"].tolist() == [
        "9",
        "10",
        "11",
    ]  # all that began again is known
    for step in range(60):
        watcher = StopAt(9 + step % 4)
        try:
            results = run_inline(study, tmp_path / "often", retry_crashed=True, watcher=watcher)
        except Stop:
            continue
        break
    else:
        pytest.fail("the run never came to its end")
    assert step > 2
    assert_same_results(results, expected)


def test_a_crashed_confirmation_is_trained_again(tmp_path: Path) -> None:
    study = mixed(trials=2, space={"how": "fine"}, confirm=(1, 2))
    whole = run_inline(study, tmp_path)
    url = f"sqlite:///{tmp_path / 'studies.sqlite'}"
    key = TrainingKey(
        family="Mendable",
        number=int(whole.confirmation["trial"].iloc[0]),
        seed=int(whole.confirmation["seed"].iloc[0]),
    )
    with closing(Ledger(url)) as ledger:  # as if its worker had died of what is mended now
        attempt = ledger.begin("lines", key, "confirmation", "w")
        ledger.end("lines", key, attempt, Outcome(status=Status.CRASHED, reason="killed"), 1.0)
    found = run_inline(study, tmp_path, retry_crashed=True)
    assert found.confirmation["status"].eq("completed").all()
    scores = ["trial", "seed", "select_accuracy", "test_accuracy", "chosen"]
    pd.testing.assert_frame_equal(found.confirmation[scores], whole.confirmation[scores])
    assert attempts_in(found)[["purpose", "reason"]].to_numpy().tolist() == [
        ["confirmation", "killed"]
    ]


def test_what_a_crash_has_left_is_not_gone_on_from(tmp_path: Path) -> None:
    results = run_inline(weak(trials=1, confirm=None), tmp_path)
    key = TrainingKey(family="Mendable", number=0, seed=int(results.trials["seed"].iloc[0]))
    folder = training_folder(results.folder, key)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "checkpoint.pt").write_bytes(b"of the crash")
    record_path(folder).parent.mkdir(exist_ok=True)
    record_path(folder).write_bytes(b"answers at a rung before the crash")
    with closing(Ledger(f"sqlite:///{tmp_path / 'studies.sqlite'}")) as ledger:
        said = retry(ledger, "lines", results.folder, ["Mendable"])
    assert said == "trained again: Mendable #0"
    assert not folder.exists()
    assert not record_path(folder).exists()


def test_a_family_that_takes_no_part_keeps_its_crashes(tmp_path: Path) -> None:
    from tests.test_runner import Linear

    study = mixed(families=[Mendable, Linear], trials=1, space={"how": "weak"})
    run_inline(study, tmp_path)
    BUG["is_there"] = False
    watcher = Notes()
    found = run_inline(study, tmp_path, retry_crashed=True, families=["Linear"], watcher=watcher)
    assert "nothing crashed that could be retried" in watcher.texts
    assert found.trials["status"].tolist() == ["crashed", "completed"]


def epoch(number: int, loss: float = 1.0) -> Epoch:
    return Epoch(
        epoch=number,
        seconds=0.5,
        finished="2026-01-01T00:00:00+00:00",
        train_loss=loss,
        valid_loss=loss,
        learning_rate=0.1,
        grad_norm=1.0,
    )


def test_the_ledger_keeps_a_crashed_attempt_with_its_epochs_apart() -> None:
    ledger, key = Ledger("sqlite://"), TrainingKey(family="CNN", number=0, seed=11)
    ledger.claim("digits", {})
    ledger.propose("digits", [Trial(family="CNN", number=0, config={}, origin="recipe")])
    first = ledger.begin("digits", key, "search", "w", "aa")
    for number in (1, 2):
        assert ledger.add_epoch("digits", key, first, epoch(number))
    crash = Outcome(status=Status.CRASHED, reason="no", epochs=2, metrics={"flops": 3.0})
    assert ledger.end("digits", key, first, crash, 2.0, is_lost=True)
    ledger.retry("digits", [key])
    waiting = ledger.training("digits", key)
    assert (waiting.status, waiting.epochs, waiting.seconds) == (Status.PAUSED, 0, 0.0)
    assert (waiting.reason, waiting.losses, waiting.environment) == ("", 0, "")
    assert (dict(waiting.metrics), waiting.started) == ({}, "")
    (kept,) = waiting.earlier
    assert (kept.number, kept.status, kept.reason) == (1, Status.CRASHED, "no")
    assert (kept.seconds, kept.losses, kept.environment) == (2.0, 1, "aa")
    assert kept.epochs == (epoch(1), epoch(2))
    assert ledger.epochs("digits") == []
    assert not ledger.add_epoch("digits", key, first, epoch(3))
    second = ledger.begin("digits", key, "search", "w", "bb")
    assert second == 2
    assert ledger.add_epoch("digits", key, second, epoch(1, loss=0.5))
    again = ledger.training("digits", key)
    assert (again.environment, bool(again.started)) == ("bb", True)
    assert ledger.end("digits", key, second, Outcome(status=Status.COMPLETED), 1.0)
    ledger.retry("digits", [key])  # it has not crashed: nothing happens
    assert ledger.training("digits", key).status is Status.COMPLETED
    assert [row.train_loss for _, row in ledger.epochs("digits")] == [0.5]


def test_fresh_and_retry_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="--fresh deletes what --retry-crashed would train again"):
        run_inline(weak(), tmp_path, fresh=True, retry_crashed=True)
    assert not list(tmp_path.iterdir())


def test_status_and_list_say_on_which_error_a_run_stopped(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        run_inline(weak(trials=9), tmp_path)
    ((title, _),) = status_lines(tmp_path, None, "lines")
    assert title == (
        "lines: stopped on an error: the first 3 trials of Mendable crashed alike: RuntimeError: "
        "the weak layer does not fit; once it is mended, --retry-crashed trains them again"
    )
    (line,) = [line for line in study_lines(tmp_path, None) if line[0] == "lines"]
    assert line[1] == "stopped on an error"
    said = standing(Story(read_results(tmp_path / "lines")))
    assert said == (
        f"The study {title.removeprefix('lines: ')}. 3 of 9 planned trials ended. "
        '"optimize run lines" goes on from there.'
    )
    BUG["is_there"] = False
    with pytest.raises(Stop):
        run_inline(weak(trials=9), tmp_path, watcher=StopAt(4))
    ((title, _),) = status_lines(tmp_path, None, "lines")
    assert title == "lines: interrupted"
    assert "error" not in json.loads((tmp_path / "lines" / "study.json").read_text())
    run_inline(weak(trials=4), tmp_path)
    ((title, _),) = status_lines(tmp_path, None, "lines")
    assert title == "lines: finished"


def test_a_signal_is_no_error(tmp_path: Path) -> None:
    import os
    import signal

    from torchstudy.errors import Interrupted

    class Press(Silent):
        def epoch(self, subject: object, row: object) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        run_inline(linear_study(), tmp_path, watcher=Press())
    ((title, _),) = status_lines(tmp_path, None, "lines")
    assert title == "lines: interrupted"


def test_an_error_in_a_repeat_is_that_of_the_study_too(tmp_path: Path) -> None:
    class AtRepeat(Silent):
        plans = 0

        def begun(self, plan: object) -> None:
            self.plans += 1
            if self.plans == 2:
                raise RunError("no room")

    with pytest.raises(RunError):
        run_inline(linear_study(repeats=2, trials=1, confirm=None), tmp_path, watcher=AtRepeat())
    titles = [title for title, _ in status_lines(tmp_path, None, "lines")]
    assert titles == [
        "lines: stopped on an error, repeat 2 of 2: no room",
        "lines, repeat 2: stopped on an error: no room",
    ]
    said = json.loads((tmp_path / "lines" / "study.json").read_text())
    assert (said["state"], said["error"]) == ("interrupted", "no room")


MENDED = """
class Odd(Family):
    def build(self, data):
        BODY

study = Study(**{**GOOD, "families": [family(Odd)], "space": {}, "trials": 3, "confirm": None})
"""
SOUND = "from torch import nn; return nn.Sequential(nn.Flatten(), nn.LazyLinear(data.num_classes))"


def test_a_user_mends_his_file_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path, "odd", MENDED.replace("BODY", "raise RuntimeError('it does not fit')"))
    words = ("run", "odd", "--executor", "inline")
    ended = optimize(*words)
    assert ended.exit_code == 1
    assert ended.stderr.endswith("once it is mended, --retry-crashed trains them again\n")
    way_on = "once the cause is mended, optimize run with --retry-crashed trains it again"
    assert f"RuntimeError: it does not fit: {way_on}" in ended.stdout
    write_study(
        tmp_path, "odd", MENDED.replace("BODY", SOUND.replace("LazyLinear(", "Linear(64, "))
    )
    ended = optimize(*words, "--retry-crashed")
    assert ended.exit_code == 0, ended.stderr
    assert "trained again: Odd #0, Odd #1, Odd #2" in ended.stdout
    shown = optimize("table", "odd", "--what", "attempts").stdout
    assert shown.count("RuntimeError: it does not fit") == 3
    assert optimize("status", "odd").stdout.startswith("odd: finished\n")
