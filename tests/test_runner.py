"""Whole runs: what they leave, and that stopping anywhere changes nothing."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal
from tests.conftest import stripes
from torch import nn
from typing_extensions import override

from torchstudy.analysis.tables import Results
from torchstudy.data.spec import DataSpec
from torchstudy.domains import Choice, Float
from torchstudy.errors import Interrupted, RunError, StudyChanged, StudyError
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.runner import run
from torchstudy.execution.watching import Plan, Silent, Subject
from torchstudy.families.base import Family, family
from torchstudy.families.cnn import CNN
from torchstudy.models.saved import load_model
from torchstudy.quiet import quiet_ax
from torchstudy.records import Epoch, Outcome
from torchstudy.schemas import CLOCK_COLUMNS
from torchstudy.study import Study

pytestmark = pytest.mark.usefixtures("short_reports")


@family
class Linear(Family):
    """One linear layer: the quickest thing that learns."""

    scale: float = Float(0.5, 2.0, log=True, default=1.0)

    def build(self, data: DataSpec) -> nn.Module:
        pixels = data.channels * data.height * data.width
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(pixels, data.num_classes))


def linear_study(**changes: object) -> Study:
    declared: dict[str, object] = {
        "name": "lines",
        "data": stripes,
        "families": [Linear],
        "maximize": "accuracy",
        "space": {"batch_size": 32},
        "trials": 3,
        "epochs": 2,
        "confirm": (1, 2),
        **changes,
    }
    return Study(**declared)  # type: ignore[arg-type]


def run_inline(study: Study, folder: Path, **options: object) -> Results:
    return run(study, reports=folder, executor="inline", quiet=True, **options)  # type: ignore[arg-type]


def timeless(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=[name for name in CLOCK_COLUMNS if name in table])


def assert_same_results(found: Results, expected: Results) -> None:
    for name in ("trials", "epochs", "confirmation", "proposals"):
        assert_frame_equal(timeless(getattr(found, name)), timeless(getattr(expected, name)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run_inline(linear_study(), tmp_path_factory.mktemp("finished"))


def test_a_run_leaves_every_file_that_the_design_names(finished: Results) -> None:
    folder = finished.folder
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    expected = {
        f"{table}.{suffix}"
        for table in ("trials", "epochs", "confirmation", "proposals")
        for suffix in ("csv", "parquet")
    }
    expected |= {f"best/Linear/{name}" for name in ("model.pt", "config.json", "metrics.json")}
    expected |= {"best/Linear/preprocessing.json", "evidence/Linear/predictions.parquet"}
    assert expected | {"study.json", "Linear.ax.json", "report.html"} <= names
    assert not [name for name in names if "checkpoint.pt" in name or name.endswith(".part")]


def test_tables_hold_every_trial_epoch_and_confirmation(finished: Results) -> None:
    assert finished.trials["trial"].tolist() == [0, 1, 2]
    assert finished.trials["origin"].tolist() == ["recipe", "near", "sobol"]
    assert (finished.trials["status"] == "completed").all()
    assert finished.trials["config.scale"].iloc[0] == 1.0
    assert len(finished.epochs) == (3 + len(finished.confirmation)) * 2
    chosen = finished.confirmation[finished.confirmation["chosen"]]
    assert len(chosen) == 2
    assert chosen["test_accuracy"].notna().all()
    assert finished.confirmation.loc[~finished.confirmation["chosen"], "test_accuracy"].isna().all()
    assert finished.summary["state"] == "finished"


def test_plain_ax_reads_the_experiment_with_the_same_best(finished: Results) -> None:
    with quiet_ax():
        from ax.api.client import Client

        client = Client.load_from_json_file(str(finished.folder / "Linear.ax.json"))
        summary = client.summarize()
    assert len(summary) == len(finished.trials)
    assert summary["accuracy"].max() == finished.trials["best_valid_accuracy"].max()


def test_the_saved_model_is_the_confirmed_one(finished: Results) -> None:
    model = load_model(finished.folder / "best" / "Linear", [Linear])
    metrics = json.loads((finished.folder / "best" / "Linear" / "metrics.json").read_text())
    chosen = finished.confirmation[finished.confirmation["chosen"]]
    assert metrics["trial"] == chosen["trial"].iloc[0]
    assert metrics["all_seeds"]["test_accuracy"] == chosen["test_accuracy"].tolist()
    assert model.probabilities(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)).sum().item() == (
        pytest.approx(1.0)
    )


def test_the_same_study_and_seed_give_the_same_tables(finished: Results, tmp_path: Path) -> None:
    assert_same_results(run_inline(linear_study(), tmp_path), finished)
    other = run_inline(linear_study(seed=1), tmp_path / "other")
    assert not timeless(other.trials).equals(timeless(finished.trials))


class Stop(BaseException):
    """Ends a run as nothing the library expects would."""


class StopAt(Silent):
    """Raises at the n-th thing it is told."""

    def __init__(self, step: int) -> None:
        self.left = step

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Stop

    @override
    def begun(self, plan: Plan) -> None:
        self._count()

    @override
    def started(self, subject: Subject) -> None:
        self._count()

    @override
    def epoch(self, subject: Subject, row: Epoch) -> None:
        self._count()

    @override
    def ended(self, subject: Subject, outcome: Outcome, seconds: float) -> None:
        self._count()


def test_a_run_interrupted_after_every_step_ends_with_the_same_tables(
    finished: Results, tmp_path: Path
) -> None:
    for step in range(40):
        try:
            results = run_inline(linear_study(), tmp_path, watcher=StopAt(1 + step % 4))
        except Stop:
            continue
        break
    else:
        pytest.fail("the run never came to its end")
    assert step > 8
    assert_same_results(results, finished)


RUNGS = {"trials": 10, "epochs": 6, "confirm": (1, 1)}  # rungs at 3 and 6


@pytest.fixture(scope="module")
def climbed(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run_inline(linear_study(**RUNGS), tmp_path_factory.mktemp("climbed"))


def test_trials_wait_at_rungs_and_the_promising_go_on(climbed: Results) -> None:
    trials, decided = climbed.trials, climbed.proposals
    assert set(trials["status"]) == {"completed", "stopped"}
    ended = trials["status"] == "completed"
    assert (trials.loc[ended, "epochs"] == 6).all()
    assert (trials.loc[~ended, "epochs"] == 3).all()
    assert trials.loc[~ended, "reason"].str.startswith("not promoted").all()
    assert ended[0]  # the recipe
    assert 3 <= ended.sum() <= 6
    promoted = decided.loc[decided["origin"] == "promotion", "trial"]
    straight = decided.loc[decided["until"].eq(6) & decided["after"].eq(0), "trial"]
    assert sorted([*promoted, *straight]) == trials.loc[ended, "trial"].tolist()
    assert decided["origin"].tolist()[:8] == ["recipe", *["near", "sobol"] * 3, "near"]
    assert "model" in set(decided["origin"])
    model = decided[decided["origin"] == "model"]
    assert model["spread"].gt(0).all()
    assert model["expected_seconds"].gt(0).all()
    reached = decided.set_index("decision")["seen"]
    assert reached.notna().all()


def test_a_search_with_rungs_ends_with_the_same_tables_wherever_it_is_interrupted(
    climbed: Results, tmp_path: Path
) -> None:
    for step in range(120):
        try:
            results = run_inline(
                linear_study(**RUNGS), tmp_path, watcher=StopAt(3 + 4 * (step % 3))
            )
        except Stop:
            continue
        break
    else:
        pytest.fail("the run never came to its end")
    assert step > 6
    assert_same_results(results, climbed)


def test_a_larger_budget_may_promote_what_was_stopped(tmp_path: Path) -> None:
    study = linear_study(**RUNGS, seed=1)
    before = run_inline(study, tmp_path).trials["status"]
    results = run_inline(replace(study, trials=19), tmp_path)
    after = results.trials["status"]
    assert len(after) == 19
    gone_on = [n for n in range(10) if before[n] == "stopped" and after[n] == "completed"]
    assert gone_on
    assert (results.trials.loc[gone_on, "epochs"] == 6).all()


def test_with_the_budget_spent_the_same_command_changes_nothing(tmp_path: Path) -> None:
    run_inline(linear_study(), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.suffix != ""}
    run_inline(linear_study(), tmp_path)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.suffix != ""}
    ledger = {path for path in before if "sqlite" in path.name}
    assert {path for path in after if before.get(path) != after[path]} <= ledger


def test_trials_is_the_total_and_a_larger_budget_goes_on(finished: Results, tmp_path: Path) -> None:
    run_inline(linear_study(trials=2), tmp_path)
    results = run_inline(linear_study(trials=3), tmp_path)
    assert_frame_equal(timeless(results.trials), timeless(finished.trials))


def test_a_changed_study_is_refused_and_fresh_starts_over(tmp_path: Path) -> None:
    run_inline(linear_study(trials=1, confirm=None), tmp_path)
    changed = linear_study(trials=1, confirm=None, epochs=1)
    with pytest.raises(StudyChanged, match="epochs: was 2, now 1"):
        run_inline(changed, tmp_path)
    results = run_inline(changed, tmp_path, fresh=True)
    assert results.trials["epochs"].tolist() == [1]
    assert results.confirmation.empty


def test_changed_data_are_a_changed_study(tmp_path: Path) -> None:
    run_inline(linear_study(trials=1, confirm=None), tmp_path)

    def others() -> object:
        images, labels = stripes()
        return 255 - images, labels

    with pytest.raises(StudyChanged, match="fingerprint: was "):
        run_inline(linear_study(trials=1, confirm=None, data=others), tmp_path)


def test_a_discrete_space_that_is_used_up_ends_the_search(tmp_path: Path) -> None:
    fixed = {
        "scale": Choice(0.5, 1.0),
        "batch_size": 32,
        "optimizer": "adam",
        "learning_rate": 0.01,
        "weight_decay": 0.0,
        "schedule": "cosine",
    }
    results = run_inline(linear_study(space=fixed, trials=9, epochs=1, confirm=None), tmp_path)
    assert sorted(results.trials["config.scale"]) == [0.5, 1.0]


def test_one_family_alone_can_go_on(tmp_path: Path) -> None:
    study = linear_study(families=[Linear, CNN], trials=1, epochs=1, confirm=None)
    first = run_inline(study, tmp_path, families=["Linear"])
    assert set(first.trials["family"]) == {"Linear"}
    both = run_inline(study, tmp_path)
    assert both.trials["family"].tolist() == ["Linear", "CNN"]
    with pytest.raises(StudyError, match=r"no family 'Cnn' \(did you mean 'CNN'\?\)"):
        run_inline(study, tmp_path, families=["Cnn"])


def test_no_time_left_starts_nothing_new(tmp_path: Path) -> None:
    results = run_inline(linear_study(trials=9, minutes=1e-9, confirm=None), tmp_path)
    assert results.trials["trial"].tolist() == [0]


@family
class Fragile(Family):
    """Breaks, or diverges, as its field says."""

    how: str = Choice("diverge", "crash", "fine", default="diverge")

    def build(self, data: DataSpec) -> nn.Module:
        if self.how == "crash":
            raise RuntimeError("the layer does not fit")
        net = nn.Linear(data.height * data.width, data.num_classes)
        if self.how == "diverge":
            nn.init.constant_(net.weight, float("inf"))
        return nn.Sequential(nn.Flatten(), net)


def test_failed_trials_are_rows_with_a_reason_and_the_run_ends_well(tmp_path: Path) -> None:
    study = linear_study(families=[Fragile], trials=4, epochs=1)
    results = run_inline(study, tmp_path)
    by_how = results.trials.set_index("config.how")
    assert by_how.loc[["diverge"], "status"].eq("diverged").all()
    diverged = by_how.loc[["diverge"]].iloc[0]
    assert (
        "training loss was not finite before any step, first seen in 1.weight" in diverged["reason"]
    )
    assert pd.isna(diverged["best_valid_accuracy"])
    assert (results.folder / "report.html").exists()


def test_trials_that_all_crash_alike_stop_the_run_and_show_why_once(tmp_path: Path) -> None:
    study = linear_study(families=[Fragile], trials=9, space={"how": "crash"})
    with pytest.raises(RunError, match="the first 3 trials of Fragile crashed alike") as caught:
        run_inline(study, tmp_path)
    assert "RuntimeError: the layer does not fit" in str(caught.value)
    assert "raise RuntimeError" in str(caught.value)
    with pytest.raises(RunError, match="the first 4 trials of Fragile crashed alike"):
        run_inline(study, tmp_path)  # repeated without a change: stopped before it said so, or not


def test_a_configuration_that_cannot_work_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    from torchstudy.domains import Int

    study = linear_study(families=[CNN], space={"depth": Int(1, 4)})
    with pytest.raises(StudyError, match="CNN: depth=4 halves the image 4 times"):
        run_inline(study, tmp_path / "reports")
    assert not (tmp_path / "reports").exists()


def test_a_run_can_be_stopped_by_a_signal_and_goes_on(finished: Results, tmp_path: Path) -> None:
    import os
    import signal

    class Press(Silent):
        @override
        def epoch(self, subject: Subject, row: Epoch) -> None:
            if subject.trial.number == 1:
                os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="everything finished is saved"):
        run_inline(linear_study(), tmp_path, watcher=Press())
    assert signal.getsignal(signal.SIGINT) is before
    assert_same_results(run_inline(linear_study(), tmp_path), finished)


def test_a_run_killed_while_it_wrote_its_files_writes_them_again(
    finished: Results, tmp_path: Path
) -> None:
    class StopAtEnd(StopAt):
        @override
        def finished(self, report: Path | None) -> None:
            raise Stop

    run_inline(linear_study(trials=2, confirm=None), tmp_path)
    with pytest.raises(Stop):
        run_inline(linear_study(), tmp_path, watcher=StopAtEnd(99))
    # As after kill -9: nobody released the study, and the files are of the run before.
    url = f"sqlite:///{tmp_path / 'studies.sqlite'}"
    Ledger(url).release("lines", "running")
    (tmp_path / "lines" / "trials.parquet").write_bytes(b"cut off")
    assert_same_results(run_inline(linear_study(), tmp_path), finished)


def test_weights_that_are_gone_are_said_and_the_rest_is_written(tmp_path: Path) -> None:
    import shutil

    class Notes(Silent):
        def __init__(self) -> None:
            self.texts: list[str] = []

        @override
        def note(self, text: str) -> None:
            self.texts.append(text)

    run_inline(linear_study(trials=1, confirm=None), tmp_path)
    shutil.rmtree(tmp_path / "lines")
    watcher = Notes()
    results = run_inline(linear_study(trials=1, confirm=None), tmp_path, watcher=watcher)
    assert results.trials["status"].tolist() == ["completed"]
    assert watcher.texts == [
        "Linear: the weights of its best training are gone, so best/Linear was not written; "
        "--fresh trains them again"
    ]
