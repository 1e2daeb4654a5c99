"""Every second of a training has one place, and old results are told from quick ones."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.report_data import IDLE, PARTS, Made, write_study

from torchstudy import records, schemas
from torchstudy.analysis.profile import SHARE_COLUMNS, TIMES, precisions, time_shares, waiting
from torchstudy.analysis.tables import Results, frame, read_results, write_table
from torchstudy.report.formats import ABSENT
from torchstudy.timing import profile_lines


def _training(family: str, number: int, seconds: float, **more: Any) -> dict[str, Any]:
    row = {"family": family, "trial": number, "seed": number, "status": "completed"}
    return {**row, "seconds": seconds, **more}


def _epoch(family: str, number: int, epoch: int, **seconds: float) -> dict[str, Any]:
    parts = {f"seconds_{part}": taken for part, taken in seconds.items() if part != "seconds"}
    row = {"family": family, "trial": number, "seed": number, "epoch": epoch}
    return {**row, "seconds": seconds.get("seconds", sum(parts.values())), **parts}


def _results(
    trials: Sequence[Mapping[str, object]],
    epochs: Sequence[Mapping[str, object]],
    confirmation: Sequence[Mapping[str, object]] = (),
    **summary: object,
) -> Results:
    objective = {"metric": "accuracy", "direction": "maximize"}
    return Results(
        trials=frame(trials, schemas.TRIAL_COLUMNS),
        epochs=frame(epochs, schemas.EPOCH_COLUMNS),
        confirmation=frame(confirmation, schemas.CONFIRMATION_COLUMNS),
        summary={"study": "made", "objective": objective, "families": {"MLP": {}}, **summary},
        predictions={},
        folder=Path("nowhere"),
    )


def _seconds(results: Results, family: str) -> dict[str, float]:
    """What took any time in a family."""
    table = time_shares(results)
    own = table[(table["family"] == family) & (table["seconds"] > 0)]
    return dict(zip(own["part"], own["seconds"], strict=True))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(write_study(tmp_path_factory.mktemp("digits")))


def test_a_row_per_family_and_part_in_their_orders(made: Results) -> None:
    table = time_shares(made)
    assert list(table) == list(SHARE_COLUMNS)
    expected = [(family, part) for family in made.families for part in TIMES]
    assert list(zip(table["family"], table["part"], strict=True)) == expected
    assert [part for part in TIMES if part != "start"] == list(records.PARTS)


def test_shares_add_up_to_one_and_seconds_to_those_of_the_trainings(made: Results) -> None:
    grouped = time_shares(made).groupby("family")
    spent = pd.concat([made.trials, made.confirmation]).groupby("family")["seconds"]
    for family in made.families:
        assert grouped["share"].sum()[family] == pytest.approx(1, abs=1e-12)
        assert grouped["seconds"].sum()[family] == pytest.approx(spent.sum()[family], rel=1e-12)
        assert set(grouped["trainings"].get_group(family)) == {spent.size()[family]}


def test_shares_are_those_of_the_epochs(made: Results) -> None:
    table = time_shares(made)
    own = table[(table["family"] == "CNN") & (table["part"] != "start")]
    assert list(own["share"]) == pytest.approx(list(PARTS["CNN"]), rel=1e-9)


def test_fresh_trainings_count_as_those_of_the_search_do() -> None:
    results = _results(
        [_training("MLP", 0, 3.0)],
        [_epoch("MLP", 0, 1, forward=1.0), _epoch("MLP", 7, 1, forward=2.0)],
        [_training("MLP", 7, 2.5)],
    )
    assert _seconds(results, "MLP") == {"start": 2.5, "forward": 3.0}
    assert set(time_shares(results)["trainings"]) == {2}


def test_the_start_is_never_negative() -> None:
    running = _training("MLP", 0, 0.0, status="running")
    results = _results([running], [_epoch("MLP", 0, 1, load=0.25, forward=0.75)])
    assert _seconds(results, "MLP") == {"load": 0.25, "forward": 0.75}


def test_a_training_that_died_before_its_first_epoch_is_all_start() -> None:
    trials = [_training("MLP", 0, 4.0, status="crashed"), _training("CNN", 0, 2.0)]
    results = _results(trials, [_epoch("CNN", 0, 1, backward=2.0)])
    assert _seconds(results, "MLP") == {"start": 4.0}
    assert _seconds(results, "CNN") == {"backward": 2.0}


def test_epochs_of_an_older_version_are_neither_parts_nor_start() -> None:
    old = _epoch("MLP", 0, 1, seconds=5.0)
    trials = [_training("MLP", 0, 8.0), _training("MLP", 1, 5.0)]
    new = _epoch("MLP", 0, 2, step=2.0)
    results = _results(trials, [old, new, {**old, "trial": 1, "seed": 1}])
    assert _seconds(results, "MLP") == {"start": 1.0, "step": 2.0}
    assert set(time_shares(results)["trainings"]) == {1}


def test_results_without_times_have_no_shares(tmp_path: Path, made: Results) -> None:
    old = read_results(write_study(tmp_path, Made(timed=False, trials=3)))
    for results in (old, _results([], []), _results([_training("MLP", 0, 4.0)], [])):
        table = time_shares(results)
        assert table.empty
        assert list(table) == list(SHARE_COLUMNS)
        assert profile_lines(results)[1] == []
    assert (waiting(old), precisions(old)) == (None, {})


def test_tables_without_the_columns_have_no_shares(made: Results) -> None:
    epochs = made.epochs.drop(columns=list(records.SECONDS))
    trials = made.trials.drop(columns=["precision", *records.SECONDS])
    bare = replace(made, epochs=epochs, trials=trials)
    assert time_shares(bare).empty
    assert precisions(bare) == {}


def test_waiting_is_a_share_of_all_worker_seconds(made: Results) -> None:
    found = waiting(made)
    assert found is not None
    assert found.waited == pytest.approx(IDLE["computing"] + IDLE["results"])
    assert found.share == pytest.approx(1.2 / 340)


@pytest.mark.parametrize("idle", [None, [], {}, {"busy": 0.0, "computing": 0, "results": None}])
def test_waiting_that_was_not_measured_is_none(idle: object) -> None:
    assert waiting(_results([], [], idle=idle)) is None


def test_precisions_are_counted_where_they_are_known() -> None:
    named = ["bf16", "fp32", "bf16", "", None]
    trials = [_training("MLP", n, 1.0, precision=name) for n, name in enumerate(named)]
    assert precisions(_results(trials, [])) == {"bf16": 2, "fp32": 1}


def test_a_profile_has_a_line_per_family_and_counts_small_parts_as_other() -> None:
    small = _epoch("MLP", 0, 1, load=0.2, forward=39.4, backward=60.0, other=0.2)
    large = _epoch("CNN", 0, 1, forward=40.0, backward=57.0, checkpoint=1.0, other=2.0)
    results = _results([_training("MLP", 0, 99.8), _training("CNN", 0, 100.0)], [small, large])
    header, lines = profile_lines(results)
    assert header == ["family", "total", "forward", "backward", "checkpoint", "other"]
    assert lines == [
        ["MLP", "1.7 min", "39%", "60%", ABSENT, "<1%"],
        ["CNN", "1.7 min", "40%", "57%", "1%", "2%"],
    ]


def test_shares_are_written_and_read_as_a_table(made: Results, tmp_path: Path) -> None:
    table = time_shares(made)
    write_table(table, tmp_path / "profile")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "profile.parquet"), table)
    assert math.isclose(pd.read_csv(tmp_path / "profile.csv")["share"].sum(), 3)
