"""Tables of many rows are made by the column, and hold what they held when made row by row."""

import io
import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from torchstudy import spreadsheets
from torchstudy.analysis.tables import frame
from torchstudy.execution.epochs import epoch_table
from torchstudy.records import PARTS, SECONDS, Epoch, TrainingKey
from torchstudy.schemas import EPOCH_COLUMNS

KINDS = {  # what a family measures
    "CNN": {"accuracy": 0.5},
    "AE": {"reconstruction_error": 0.125, "codes": 3, "is_linear": True},
}


def made(family: str, number: int, epoch: int, **changes: object) -> tuple[TrainingKey, Epoch]:
    key = TrainingKey(family=family, number=number, seed=7)
    values: dict[str, object] = {
        "epoch": epoch,
        "seconds": 0.5,
        "finished": f"2026-01-01T00:00:0{epoch}+00:00",
        "train_loss": 1 / epoch,
        "valid_loss": math.nan if family == "AE" else 0.1 * epoch,
        "learning_rate": 1e-7,
        "grad_norm": 2.0,
        "metrics": {name: value * epoch for name, value in KINDS[family].items()},
        "measured": {"health_dead_share": 0.0},
        "parts": {f"seconds_{part}": 0.1 for part in PARTS},
        "precision": "bf16" if family == "CNN" else "fp32",
        **changes,
    }
    return key, Epoch(**values)  # type: ignore[arg-type]


def by_the_row(rows: list[tuple[TrainingKey, Epoch]]) -> pd.DataFrame:
    listed = [
        {
            "study": "s",
            "family": key.family,
            "trial": key.number,
            "seed": key.seed,
            "epoch": row.epoch,
            "seconds": row.seconds,
            "finished": row.finished,
            **row.values(),
            **row.parts,
        }
        for key, row in rows
    ]
    return frame(listed, EPOCH_COLUMNS)


def as_stored(rows: list[tuple[TrainingKey, Epoch]]) -> Iterator[tuple[TrainingKey, str]]:
    yield from ((key, json.dumps(asdict(row))) for key, row in rows)


@pytest.fixture
def rows() -> list[tuple[TrainingKey, Epoch]]:
    """Three trainings of two families; one is of a version that timed nothing."""
    found = [made("AE", 0, epoch, metrics=dict(KINDS["AE"])) for epoch in (1, 2)]
    found += [made("CNN", 0, epoch) for epoch in (1, 2, 3)]
    return [*found, made("CNN", 1, 1, parts={}, precision="", train_loss=math.inf)]


def test_epochs_by_the_column_are_epochs_by_the_row(rows: list[tuple[TrainingKey, Epoch]]) -> None:
    found = epoch_table("s", list(as_stored(rows)))
    assert_frame_equal(found.table, by_the_row(rows))
    assert found.table["valid_codes"].dtype == "Int64"
    assert_frame_equal(epoch_table("s", []).table, by_the_row([]))


def test_a_metric_that_is_a_truth_value_and_a_number_is_a_number() -> None:
    mixed = [made("CNN", 0, 1, metrics={"good": True}), made("CNN", 0, 2, metrics={"good": 0.5})]
    found = epoch_table("s", list(as_stored(mixed)))
    assert found.table["valid_good"].tolist() == [1.0, 0.5]


def test_a_trial_takes_its_last_epoch_and_the_seconds_of_all(
    rows: list[tuple[TrainingKey, Epoch]],
) -> None:
    last = epoch_table("s", list(as_stored(rows))).last_rows()
    cnn, old = (last[TrainingKey(family="CNN", number=number, seed=7)] for number in (0, 1))
    assert cnn["valid_accuracy"] == 1.5
    assert cnn["precision"] == "bf16"
    assert cnn["seconds_forward"] == pytest.approx(0.3)
    assert not {"valid_codes", "valid_reconstruction_error"} & cnn.keys()
    assert not set(SECONDS) & old.keys()
    assert old["precision"] is None


def test_a_long_table_is_the_same_csv(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    size = 300
    table = pd.DataFrame(
        {
            "name": pd.Series(["CNN", None, "=é"] * (size // 3), dtype="string"),
            "whole": pd.Series([1, None, -3] * (size // 3), dtype="Int64"),
            "is_good": pd.Series([True, None, False] * (size // 3), dtype="boolean"),
            "at": pd.to_datetime(["2026-01-01T00:00:00.5Z"] * size, utc=True).as_unit("us"),
            "round": [1.0, 2.0, -3.0] * (size // 3),  # read as whole numbers without their `.0`
            "share": 10.0 ** generator.uniform(-300, 300, size) * generator.choice([-1, 1], size),
            "plain": [0.0, 1.0, -2.0, 1e15, 1e16, 1e-5, math.nan, math.inf, 0.1, 123456.0] * 30,
        }
    )
    whole = spreadsheets.as_csv(table)
    monkeypatch.setattr(spreadsheets, "MANY", 1)
    by_column = spreadsheets.as_csv(table)
    assert_frame_equal(
        pd.read_csv(io.StringIO(by_column)),
        pd.read_csv(io.StringIO(whole)),
        check_exact=True,
    )
    assert by_column != whole  # `1e-05` is spelled otherwise: it was another way
    assert all(line.count(",") == 6 for line in by_column.splitlines())
    quoted = table.assign(name="a,b")
    assert spreadsheets.as_csv(quoted).splitlines()[1].startswith('"a,b",1,True,')


@pytest.mark.parametrize("fraction", ["", ".25", ".000125"])
def test_times_of_a_long_table_are_spelled_as_pandas_does(
    monkeypatch: pytest.MonkeyPatch, fraction: str
) -> None:
    texts = [f"2026-01-01T00:00:09{fraction}Z", None, "1999-12-31T23:59:59Z"]
    at = pd.Series(pd.to_datetime(texts, utc=True, format="ISO8601")).dt.as_unit("us")
    table = pd.DataFrame({"at": at, "share": [0.5, 0.25, math.nan]})
    whole = spreadsheets.as_csv(table)
    monkeypatch.setattr(spreadsheets, "MANY", 1)
    assert spreadsheets.as_csv(table) == whole


def test_rows_of_one_training_stand_together(rows: list[tuple[TrainingKey, Epoch]]) -> None:
    keys = epoch_table("s", list(as_stored(rows))).keys
    starts = [after for before, after in pairwise([None, *keys]) if before != after]
    assert len(starts) == len(set(keys)) == 3
