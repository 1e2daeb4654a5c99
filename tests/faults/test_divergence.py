"""Numbers that are not finite, and errors in what a user wrote: rows in a table, and it goes on."""

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from tests.conftest import stripes
from tests.test_runner import Linear, linear_study, run_inline
from torch import Tensor, nn

from torchstudy.analysis.tables import Results
from torchstudy.data.images import Images
from torchstudy.data.spec import DataSpec
from torchstudy.domains import Choice
from torchstudy.execution.board import Board
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.schedule import Schedule
from torchstudy.families.base import Family, family
from torchstudy.families.phases import Phase
from torchstudy.training.batches import Batch
from torchstudy.training.optim import TrainingConfig

SIZES = {"select": 30, "test": 40}  # so that a score knows which split it has
FIXED = {  # all but `scale` and the fields of a family
    "batch_size": 32,
    "optimizer": "adam",
    "schedule": "constant",
    "weight_decay": 0.0,
    "learning_rate": 0.01,
}


def refuse(constant: str) -> None:
    raise AssertionError(f"JSON has no {constant}")


def check_files(results: Results) -> None:
    """Every JSON file is one, tables have no infinity, and all of the report was drawn."""
    paths = list(results.folder.rglob("*.json"))
    assert len(paths) >= 2
    for path in paths:
        if not path.name.endswith(".ax.json"):  # Ax has NaN of its own, where no error is known
            json.loads(path.read_text(), parse_constant=refuse)
    for name in ("trials", "epochs", "confirmation"):
        table = pd.read_parquet(results.folder / f"{name}.parquet")
        numbers = table.select_dtypes("number").astype("float64")
        assert not numbers.map(math.isinf).any(axis=None), name
    assert "This section could not be drawn" not in (results.folder / "report.html").read_text()


@family
class Odd(Linear):
    """Has a metric of its own, which is `bad` on the split that `where` names."""

    where: str = Choice("valid", "select", "test", default="valid")
    bad: str = Choice("nan", "inf", "-inf", default="nan")
    metrics = (*Family.metrics, "own")

    def score(self, model: nn.Module, data: DataSpec, batches: Iterable[Batch]) -> dict[str, float]:
        given = list(batches)
        found = super().score(model, data, iter(given))
        sizes = {size: name for name, size in SIZES.items()}
        is_bad = sizes.get(sum(map(len, given)), "valid") == self.where
        return {**found, "own": float(self.bad) if is_bad else found["accuracy"]}


def odd_run(folder: Path, **changes: object) -> Results:
    given = {"families": [Odd], "maximize": "own", "data": Images(stripes, **SIZES), **changes}
    return run_inline(linear_study(**given), folder)


def test_a_study_in_which_every_trial_diverges_comes_to_an_end_and_the_model_sees_none(
    tmp_path: Path,
) -> None:
    study = linear_study(
        families=[Odd],
        maximize="own",
        data=Images(stripes, **SIZES),
        trials=6,
        epochs=1,
        space={"where": "valid", "bad": "inf", **FIXED},
    )
    results = run_inline(study, tmp_path)
    assert results.trials["status"].tolist() == ["diverged"] * 6
    assert set(results.trials["origin"]) <= {"recipe", "near", "sobol", "random"}
    assert results.trials["reason"].unique().tolist() == [
        "validation own was not finite in epoch 1, first seen in the metric itself: what every "
        "layer gave was finite"
    ]
    assert results.trials["best_valid_own"].isna().all()
    assert results.confirmation.empty
    check_files(results)
    ledger = Ledger(f"sqlite:///{tmp_path / 'studies.sqlite'}")
    schedule = Schedule(
        study=replace(study, trials=99),
        board=Board(ledger, "lines", ["Odd"]),
        folder=results.folder,
        num_workers=1,
        families=["Odd"],
    )
    found = schedule.inquiry.question()
    assert found is not None
    assert [trial.state for trial in found.question.tried] == ["failed"] * 5 + ["pending"]
    assert not any(trial.values for trial in found.question.tried)
    ledger.close()


@pytest.mark.slow
def test_the_model_goes_on_among_trials_that_diverge(tmp_path: Path) -> None:
    """A model dies of an infinity, and must get none."""
    results = odd_run(
        tmp_path,
        trials=6,
        epochs=1,
        confirm=None,
        space={
            "where": Choice("valid", "select", default="select"),
            "bad": "inf",
            **FIXED,
        },
    )
    is_bad = results.trials["config.where"] == "valid"
    assert results.trials["status"].tolist() == [
        "diverged" if bad else "completed" for bad in is_bad
    ]
    assert 0 < is_bad.sum() < 5
    assert "model" in results.trials["origin"].tolist()
    assert results.trials.loc[~is_bad, "best_valid_own"].notna().all()
    check_files(results)


def test_a_fresh_training_whose_select_score_is_not_finite_has_diverged(tmp_path: Path) -> None:
    space = {"where": "select", "bad": "nan", "batch_size": 32}
    results = odd_run(tmp_path, trials=1, epochs=1, confirm=(1, 1), space=space)
    assert results.trials["status"].tolist() == ["completed"]
    assert results.confirmation["status"].tolist() == ["diverged"]
    assert results.confirmation["reason"].tolist() == ["select own was not finite"]
    assert not results.confirmation["chosen"].any()
    check_files(results)


def test_a_test_score_that_is_not_finite_is_missing_and_read_once(tmp_path: Path) -> None:
    space = {"where": "test", "bad": "inf", "batch_size": 32}
    results = odd_run(tmp_path, trials=1, epochs=1, confirm=(1, 1), space=space)
    assert results.confirmation["status"].tolist() == ["completed"]
    assert results.confirmation["test_own"].isna().all()
    assert results.confirmation["test_accuracy"].notna().all()
    kept = json.loads((results.folder / "best" / "Odd" / "metrics.json").read_text())
    assert kept["test_own"] is None
    assert kept["all_seeds"]["test_own"] == [None]
    check_files(results)


@family
class Broken(Linear):
    """Raises in the place that its field names."""

    place: str = Choice("build", "phases", "loss", "score", default="build")

    def build(self, data: DataSpec) -> nn.Module:
        if self.place == "build":
            raise ZeroDivisionError("in build")
        return super().build(data)

    def phases(self, data: DataSpec, config: TrainingConfig) -> tuple[Phase, ...]:
        if self.place == "phases":
            raise ZeroDivisionError("in phases")
        return (Phase(name="own", loss=self.loss),)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        if self.place == "loss":
            raise ZeroDivisionError("in loss")
        return torch.as_tensor(model(batch.inputs)).square().mean()

    def score(self, model: nn.Module, data: DataSpec, batches: Iterable[Batch]) -> dict[str, float]:
        if self.place == "score":
            raise ZeroDivisionError("in score")
        return super().score(model, data, batches)


@pytest.mark.parametrize("place", ["phases", "loss", "score"])
def test_an_error_in_what_a_user_wrote_is_a_row_with_their_own_traceback(
    tmp_path: Path, place: str
) -> None:
    study = linear_study(
        families=[Broken], trials=1, epochs=1, space={"place": place, "batch_size": 32}
    )
    results = run_inline(study, tmp_path)
    assert results.trials["status"].tolist() == ["crashed"]
    reason = results.trials["reason"].iloc[0].splitlines()
    assert reason[-1] == f"ZeroDivisionError: in {place}"
    assert reason[-2].strip() == f'raise ZeroDivisionError("in {place}")'
    assert reason[-3].strip().startswith(f'File "{__file__}"')
    assert reason[-3].endswith(f"in {place}")
    assert reason[1].strip().startswith(f'File "{__file__}"'), "frames of this package come first"
    check_files(results)
