import dataclasses
import math

import pandas as pd
import pytest

from torchstudy.records import Epoch, Objective, Outcome, Status, Training, Trial
from torchstudy.schemas import (
    CLOCK_COLUMNS,
    CONFIRMATION_COLUMNS,
    EPOCH_COLUMNS,
    PROPOSAL_COLUMNS,
    TRIAL_COLUMNS,
)

ACCURACY = Objective(metric="accuracy", direction="maximize")
LOSS = Objective(metric="loss", direction="minimize")
TABLES = {"trials": TRIAL_COLUMNS, "epochs": EPOCH_COLUMNS, "confirmation": CONFIRMATION_COLUMNS}


def training(**metrics: float) -> Training:
    return Training(
        trial=Trial(family="CNN", number=0, config={"width": 8}, origin="recipe"),
        seed=1,
        purpose="search",
        status=Status.COMPLETED,
        attempt=1,
        reason="",
        epochs=3,
        best_epoch=2,
        parameters=100,
        seconds=1.5,
        started="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T00:00:02+00:00",
        worker="host:1",
        metrics=metrics,
    )


def test_the_statuses_are_those_of_the_tables() -> None:
    assert [str(status) for status in Status] == [
        "running",
        "paused",
        "completed",
        "stopped",
        "diverged",
        "out_of_memory",
        "timed_out",
        "crashed",
    ]


def test_only_running_and_paused_trainings_go_on() -> None:
    assert [status for status in Status if not status.is_final] == [Status.RUNNING, Status.PAUSED]


def test_a_failure_is_an_end_without_a_usable_result() -> None:
    assert [status for status in Status if status.is_failure] == [
        Status.DIVERGED,
        Status.OUT_OF_MEMORY,
        Status.TIMED_OUT,
        Status.CRASHED,
    ]
    assert all(status.is_final for status in Status if status.is_failure)


@pytest.mark.parametrize(
    ("objective", "value", "than", "is_better"),
    [
        (ACCURACY, 0.9, 0.8, True),
        (ACCURACY, 0.8, 0.9, False),
        (ACCURACY, 0.9, 0.9, False),
        (LOSS, 0.8, 0.9, True),
        (LOSS, 0.9, 0.8, False),
        (LOSS, 0.9, 0.9, False),
        (ACCURACY, 0.0, math.nan, True),
        (LOSS, math.inf, math.nan, True),
        (ACCURACY, math.nan, 0.0, False),
        (LOSS, math.nan, 0.0, False),
        (ACCURACY, math.nan, math.nan, False),
    ],
)
def test_anything_beats_nan_and_nan_beats_nothing(
    objective: Objective, value: float, than: float, is_better: bool
) -> None:
    assert objective.is_better(value, than) is is_better


def test_a_signed_value_is_better_when_larger() -> None:
    assert (ACCURACY.sign, LOSS.sign) == (1, -1)


def test_an_epoch_names_its_numbers_as_the_table_does() -> None:
    epoch = Epoch(
        epoch=1,
        seconds=2.0,
        finished="2026-01-01T00:00:00+00:00",
        train_loss=0.5,
        valid_loss=0.6,
        learning_rate=1e-3,
        grad_norm=2.5,
        metrics={"accuracy": 0.9, "loss": 0.7},
    )
    values = epoch.values()
    assert values == {
        "train_loss": 0.5,
        "valid_loss": 0.7,  # the metric, as scored on the whole split
        "learning_rate": 1e-3,
        "grad_norm": 2.5,
        "valid_accuracy": 0.9,
    }
    assert set(values) - {"valid_accuracy"} <= set(EPOCH_COLUMNS)


def test_a_training_without_the_objective_is_worth_nan() -> None:
    assert training(valid_accuracy=0.9).valid(ACCURACY) == 0.9
    assert math.isnan(training(test_accuracy=0.9).valid(ACCURACY))


def test_records_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Outcome(status=Status.COMPLETED).status = Status.CRASHED
    assert not hasattr(training(), "__dict__")


@pytest.mark.parametrize("table", TABLES)
def test_every_column_has_a_type_in_which_nothing_is_missing_by_accident(table: str) -> None:
    frame = pd.DataFrame({name: pd.Series([], dtype=kind) for name, kind in TABLES[table].items()})
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == TABLES[table]
    assert all("int64" not in kind for kind in TABLES[table].values())  # Int64 holds NaN, int64 not


@pytest.mark.parametrize("table", TABLES)
def test_a_row_can_be_identified_in_every_table(table: str) -> None:
    assert {"study", "family", "trial", "seed"} <= set(TABLES[table])


def test_clock_columns_exist_and_times_are_in_utc() -> None:
    every = {**TRIAL_COLUMNS, **EPOCH_COLUMNS, **CONFIRMATION_COLUMNS, **PROPOSAL_COLUMNS}
    assert set(CLOCK_COLUMNS) <= set(every)
    times = {name for name, kind in every.items() if kind.startswith("datetime")}
    assert times == {"started", "finished", "decided", "tested"}
    assert {every[name] for name in times} == {"datetime64[us, UTC]"}
    assert times <= set(CLOCK_COLUMNS)
