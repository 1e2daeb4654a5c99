"""A trial trained again gives what was recorded of it, and what is else is told."""

import json
import math
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import stripes
from tests.test_runner import Fragile, Linear, Stop, StopAt, linear_study, run_inline
from torch import nn

from torchstudy.data.spec import DataSpec
from torchstudy.domains import Float
from torchstudy.errors import StudyError
from torchstudy.execution.comparison import (
    SAME,
    Fact,
    compared_epochs,
    compared_metrics,
    level_of,
)
from torchstudy.execution.replay import Replay
from torchstudy.families.base import Family, family
from torchstudy.records import Epoch
from torchstudy.replaying import description, lines, replay, sentences

pytestmark = pytest.mark.usefixtures("short_reports")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a finished study: three trials of Linear, and two fresh seeds of some."""
    folder = tmp_path_factory.mktemp("replayed")
    run_inline(linear_study(), folder)
    return folder


@pytest.fixture
def rewritten(reports: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of those results in which something was recorded otherwise."""

    def rewrite(statement: str, *values: object) -> Path:
        with sqlite3.connect(reports / "studies.sqlite") as source:
            target = sqlite3.connect(tmp_path / "studies.sqlite")
            source.backup(target)
        with target:
            assert target.execute(statement, values).rowcount > 0
        target.close()
        return tmp_path

    return rewrite


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


def measure(found: Replay, name: str) -> float:
    return next(m.digits for m in found.agreement.measures if m.name == name)


def test_a_trial_repeats_bit_for_bit_and_leaves_the_run_as_it_was(reports: Path) -> None:
    before = contents(reports)
    found = replay(linear_study(), 1, reports=reports)
    assert contents(reports) == before
    assert found.level == "bit for bit"
    assert found.is_reproduced
    assert found.changed == ()
    assert found.epochs == 2
    names = {m.name for m in found.agreement.measures}
    assert {"train_loss", "valid_loss", "valid_accuracy", "grad_norm"} <= names
    assert {"best_valid_accuracy", "flops"} <= names
    assert not {"seconds", "latency_p50"} & names
    assert sentences(found)[0].startswith("determinism: bit for bit (2 epochs, ")
    assert len(sentences(found)) == 1


def test_seeds_that_were_trained_as_one_network_repeat_as_one(reports: Path) -> None:
    with pytest.raises(StudyError, match=r"was confirmed with the seeds (\d+), (\d+); say") as said:
        replay(linear_study(), 0, purpose="confirmation", reports=reports)
    seed = int(str(said.value).split()[-6].rstrip(";,"))
    found = replay(linear_study(), 0, purpose="confirmation", seed=seed, reports=reports)
    assert found.level == "bit for bit"
    assert measure(found, "select_accuracy") == SAME
    assert not any(m.name.startswith("test_") for m in found.agreement.measures)


def test_a_trial_that_was_stopped_and_went_on_repeats_in_one_go(tmp_path: Path) -> None:
    study = linear_study(trials=1, confirm=None, epochs=4)
    with pytest.raises(Stop):
        run_inline(study, tmp_path, watcher=StopAt(4))  # begun, started, two epochs
    paused = replay(study, 0, reports=tmp_path)
    assert paused.level == "bit for bit"
    assert 1 <= paused.epochs < 4
    run_inline(study, tmp_path)
    whole = replay(study, 0, reports=tmp_path)
    assert (whole.level, whole.epochs) == ("bit for bit", 4)


def test_trials_that_failed_fail_again_alike(tmp_path: Path) -> None:
    study = linear_study(families=[Fragile], trials=4, epochs=1, confirm=None)
    results = run_inline(study, tmp_path)
    numbers = dict(zip(results.trials["config.how"], results.trials["trial"], strict=True))
    for how, status in (("diverge", "diverged"), ("crash", "crashed")):
        found = replay(study, int(numbers[how]), reports=tmp_path)
        assert found.training.status == status
        assert found.level == "bit for bit", lines(found)
        assert found.epochs == 0


def test_one_number_that_differs_is_found_and_nothing_explains_it(
    rewritten: Callable[..., Path],
) -> None:
    folder = rewritten(
        "update epochs set row = json_set(row, '$.train_loss', "
        "json_extract(row, '$.train_loss') * 1.00001) where number = 1 and epoch = 2"
    )
    found = replay(linear_study(), 1, reports=folder)
    assert found.level == "equal to 4 digits" or found.level == "equal to 5 digits"
    assert measure(found, "valid_loss") == SAME
    assert not found.is_reproduced
    assert "what has changed: nothing that is recorded" in sentences(found)
    assert sentences(found)[-1] == "not reproduced"


def test_after_an_update_a_small_difference_is_expected_and_what_changed_is_told(
    rewritten: Callable[..., Path],
) -> None:
    folder = rewritten(
        "update epochs set row = json_set(row, '$.train_loss', "
        "json_extract(row, '$.train_loss') * 1.00001) where number = 1 and epoch = 2"
    )
    database = sqlite3.connect(folder / "studies.sqlite")
    with database:
        (text,) = database.execute("select summary from studies").fetchone()
        summary = json.loads(text)
        (facts,) = summary["environments"].values()
        facts["torch"] = "1.0.0"
        database.execute("update studies set summary = ?", (json.dumps(summary),))
    database.close()
    found = replay(linear_study(), 1, reports=folder)
    assert [change.partition(" -> ")[0] for change in found.changed] == ["torch 1.0.0"]
    assert found.is_reproduced
    assert sentences(found)[-1] == "reproduced"


def test_an_ending_that_differs_is_never_called_reproduced(rewritten: Callable[..., Path]) -> None:
    folder = rewritten(
        "update trainings set status = 'diverged', reason = 'loss was not finite', "
        "environment = '' where number = 1"
    )
    found = replay(linear_study(), 1, reports=folder)
    assert found.level == "different"
    assert found.notes == ("the environment that it was trained in was not recorded",)
    assert not found.is_reproduced
    assert ["status", "", "diverged", "completed", "different", ""] in lines(found)


def test_a_trial_that_ran_out_of_memory_is_compared_as_far_as_it_came(
    rewritten: Callable[..., Path],
) -> None:
    folder = rewritten(
        "delete from epochs where number = 1 and epoch = 2",
    )
    database = sqlite3.connect(folder / "studies.sqlite")
    with database:
        database.execute("update trainings set status = 'out_of_memory' where number in (1, 2)")
        database.execute("delete from epochs where number = 2")
    database.close()
    found = replay(linear_study(), 1, reports=folder)
    assert (found.level, found.epochs) == ("bit for bit", 1)
    with pytest.raises(StudyError, match="Linear #2 is out_of_memory and none of its epochs was"):
        replay(linear_study(), 2, reports=folder)


@family
class Wider(Family):
    """Linear, with a hyperparameter more."""

    scale: float = Float(0.5, 2.0, log=True, default=1.0)
    shift: float = Float(0.0, 1.0, default=0.0)

    def build(self, data: DataSpec) -> nn.Module:
        return nn.Linear(data.height, data.num_classes)


def renamed(cls: type[Family], name: str) -> type[Family]:
    copy = type(name, (cls,), {"__module__": cls.__module__, "__doc__": cls.__doc__})
    return family(copy)


def others() -> object:
    images, labels = stripes()
    return 255 - images, labels


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"number": 7}, "has no search training of a trial 7"),
        ({}, {"number": 1, "family": "Lineer"}, r"no family 'Lineer' \(did you mean 'Linear'\?\)"),
        ({}, {"number": 1, "seed": 5}, "was not trained with seed 5, but with"),
        ({}, {"number": 1, "purpose": "test"}, "purpose: 'test' is not one of search"),
        ({"name": "liness"}, {"number": 1}, "study 'liness' has not been run yet"),
        ({"data": others}, {"number": 1}, "data: fingerprint was "),
        ({"families": [Fragile]}, {"number": 1}, "has no family 'Linear'"),
        ({"families": [renamed(Wider, "Linear")]}, {"number": 1}, "than when trial 1 .*new: shift"),
    ],
)
def test_what_cannot_be_replayed_is_said(
    reports: Path, changes: dict[str, object], options: dict[str, object], message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        replay(linear_study(**changes), reports=reports, **options)  # type: ignore[arg-type]


def test_a_trial_of_several_families_needs_a_name(tmp_path: Path) -> None:
    study = linear_study(families=[Linear, Fragile], trials=1, epochs=1, confirm=None)
    run_inline(study, tmp_path)
    with pytest.raises(StudyError, match="exists of Linear, Fragile; say which with --family"):
        replay(study, 0, reports=tmp_path)


def row(epoch: int, loss: float, **metrics: float) -> Epoch:
    return Epoch(
        epoch=epoch,
        seconds=epoch,
        finished="",
        train_loss=loss,
        valid_loss=math.nan,
        learning_rate=0.1,
        grad_norm=1.0,
        metrics=metrics,
    )


def test_digits_are_counted_at_the_largest_number_of_a_column() -> None:
    recorded = [row(1, 100.0, accuracy=0.5), row(2, 0.001, accuracy=0.75)]
    replayed = [row(1, 100.0, accuracy=0.5), row(2, 0.002, accuracy=0.75)]
    found = {m.name: m for m in compared_epochs(recorded, replayed)}
    loss = found["train_loss"]
    assert (loss.digits, loss.epoch, loss.recorded, loss.replayed) == (5, 2, 0.001, 0.002)
    assert loss.difference == 0.001
    assert found["valid_loss"].digits == SAME  # missing in both
    assert level_of(list(found.values()), []) == "equal to 5 digits"
    assert "seconds" not in found


def test_a_number_in_one_alone_or_fewer_than_three_digits_are_different() -> None:
    assert level_of(compared_epochs([row(1, math.nan)], [row(1, 2.0)]), []) == "different"
    assert level_of(compared_epochs([row(1, 2.0)], [row(1, 2.01)]), []) == "different"
    assert level_of(compared_epochs([row(1, 2.0)], [row(1, 2.001)]), []) == "equal to 3 digits"
    assert level_of([], []) == "bit for bit"
    assert level_of([], [Fact(name="status", recorded="a", replayed="b")]) == "different"


def test_speed_and_the_test_split_are_not_compared() -> None:
    told = {"valid_loss": 1.0, "latency_p50": 1.0, "device_memory": 2.0, "test_loss": 3.0}
    assert [m.name for m in compared_metrics(told, {"valid_loss": 1.0})] == ["best_valid_loss"]


def test_a_replay_as_json_holds_no_number_that_is_none(reports: Path) -> None:
    found = replay(linear_study(), 2, reports=reports)
    broken = replace(found, spread=math.nan)
    text = json.dumps(description(broken), allow_nan=False)
    assert json.loads(text)["level"] == "bit for bit"
    assert json.loads(text)["spread"] is None
    assert {m["digits"] for m in json.loads(text)["measures"]} == {"all"}
