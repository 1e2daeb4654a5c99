"""Axes of the parallel coordinates: what varied, from end to end, with marks that can be read."""

from pathlib import Path
from typing import Any

import pytest
from tests.report_data import Made, write_study

from torchstudy.analysis.tables import read_results
from torchstudy.report.details import trials
from torchstudy.report.parallel import MOST_TICKS, example, linear_ticks, parallel_plots
from torchstudy.report.story import Story


def _data(folder: Path, made: Made) -> tuple[Story, dict[str, Any]]:
    story = Story(read_results(write_study(folder, made)))
    data: dict[str, Any] = trials(story).data["trials"]
    return story, data


def _axes(data: dict[str, Any], plot: int) -> dict[str, dict[str, Any]]:
    keys = [column["key"] for column in data["columns"]]
    axes = data["parallel"][plot]["axes"]
    return {keys[axis["place"]].removeprefix("config."): axis for axis in axes}


def test_a_family_has_an_axis_for_all_that_varies_and_one_for_its_value(tmp_path: Path) -> None:
    story, data = _data(tmp_path, Made(fixed=True))
    axes = _axes(data, 0)
    assert [*axes][-1] == "value"
    assert {*axes} == {"learning_rate", "optimizer", "width", "norm", "norm_momentum", "value"}
    assert axes["norm"]["values"] == ["none", "batch"]
    rate = axes["learning_rate"]
    assert rate["log"]
    tried = story.trials["config.learning_rate"]
    assert rate["low"] <= tried.min()
    assert rate["high"] >= tried.max()
    assert all(rate["low"] <= tick <= rate["high"] for tick, _ in rate["ticks"])


def test_the_axis_of_accuracy_is_that_of_its_error(tmp_path: Path) -> None:
    story, data = _data(tmp_path, Made())
    value = _axes(data, 1)["value"]
    assert value["error"] == pytest.approx(0.5 / 270)
    assert value["low"] == pytest.approx(story.results.values.min())
    assert value["high"] == pytest.approx(story.results.values.max())
    assert value["ticks"]
    assert all(text.endswith("%") for _, text in value["ticks"])


def test_a_loss_has_an_axis_of_its_own_numbers(tmp_path: Path) -> None:
    _, data = _data(tmp_path, Made(metric="loss"))
    value = _axes(data, 0)["value"]
    assert "error" not in value
    assert all(value["low"] <= tick <= value["high"] for tick, _ in value["ticks"])


def test_without_any_value_there_is_no_plot(tmp_path: Path) -> None:
    _, data = _data(tmp_path, Made(fail_all=True))
    assert data["parallel"] == []


def test_the_example_of_a_condition_is_about_a_range_of_this_study(tmp_path: Path) -> None:
    story, data = _data(tmp_path, Made())
    keys = [column["key"] for column in data["columns"]]
    assert example(parallel_plots(story, keys), keys) == "learning_rate=0.0001..0.00316"
    assert example([], keys) == "status=completed|stopped"


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (8, 64, [10, 20, 30, 40, 50, 60]),
        (0, 4, [0, 1, 2, 3, 4]),
        (3, 3, [3]),
        (-0.3, 0.3, [-0.2, 0.0, 0.2]),
    ],
)
def test_marks_are_round_numbers(low: float, high: float, ticks: list[float]) -> None:
    found = linear_ticks(low, high)
    assert len(found) <= MOST_TICKS
    assert all(low <= tick <= high for tick in found)
    assert found == pytest.approx(ticks) or len(found) >= 3
