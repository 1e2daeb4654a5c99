"""Every picture shows what its table holds, and every figure keeps the page's promises."""

import json
from typing import Any

import pandas as pd
import pytest
from tests.report_data import HOSTILE, Made, write_study

from torchstudy.analysis.progress import best_so_far, learning_curves, search_epochs
from torchstudy.analysis.statistics import family_scores
from torchstudy.analysis.tables import Results, read_results
from torchstudy.report import budget, details, figures, sections, trouble
from torchstudy.report.axes import label, line_axis, log_ticks, scale_of, time_axis, unit_of
from torchstudy.report.formats import (
    Metric,
    called,
    counted,
    duration,
    joined,
    p_value,
    setting,
    shortened,
)
from torchstudy.report.looks import looks_of
from torchstudy.report.story import Story

ACCURACY = Metric(name="accuracy")
LOSS = Metric(name="loss")
FIGURES = {"forest", "spent", "curves", "fewer", "cost", "outcomes", "trial-curve"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(write_study(tmp_path_factory.mktemp("digits")))


@pytest.fixture(scope="module")
def drawn(results: Results) -> dict[str, Any]:
    return _drawn(results)


def _drawn(results: Results) -> dict[str, Any]:
    story = Story(results)
    made = (sections.families, budget.curves, details.trials, trouble.failures)
    contents = [make(story) for make in made]
    every = {name: figure for one in contents for name, figure in one.figures.items()}
    return {name: figures.drawable(figure) for name, figure in every.items()}


def test_every_figure_hides_the_logo_and_never_offers_the_cloud(drawn: dict[str, Any]) -> None:
    assert set(drawn) == FIGURES
    for figure in drawn.values():
        assert figure["config"]["displaylogo"] is False
        assert figure["config"]["showSendToCloud"] is False


def test_every_figure_is_plain_json_without_nan(drawn: dict[str, Any]) -> None:
    json.dumps(drawn, allow_nan=False)


def test_colours_are_left_to_the_page(drawn: dict[str, Any]) -> None:
    text = json.dumps(drawn)
    assert "var(--family-0)" in text
    assert '"#' not in text


def test_families_differ_by_colour_symbol_and_dash() -> None:
    looks = list(looks_of([f"family {index}" for index in range(6)]).values())
    for key in ("color", "symbol", "dash"):
        assert len({getattr(look, key) for look in looks}) == 6
    many = looks_of([f"family {index}" for index in range(40)]).values()
    assert len({(look.color, look.symbol) for look in many}) == 40


def test_forest_shows_every_seed_the_mean_and_the_interval(
    results: Results, drawn: dict[str, Any]
) -> None:
    scores = family_scores(results)
    traces = drawn["forest"]["data"]
    means = [trace for trace in traces if "error_x" in trace]
    assert [trace["x"][0] for trace in means] == list(scores["mean"])
    ends = [trace["x"][0] + trace["error_x"]["array"][0] for trace in means]
    assert ends == pytest.approx(list(scores["high"]))
    ticks = [trace for trace in traces if trace["marker"]["symbol"] == "line-ns-open"]
    assert [tuple(trace["x"]) for trace in ticks] == list(scores["scores"])


def test_spent_ends_at_each_family_s_last_second(results: Results, drawn: dict[str, Any]) -> None:
    progress = best_so_far(results.trials, results.objective)
    last = progress.groupby("family")["seconds"].max()
    assert {trace["name"]: trace["x"][-1] for trace in drawn["spent"]["data"]} == dict(last)


def test_curves_show_the_median_of_every_epoch(results: Results, drawn: dict[str, Any]) -> None:
    bands = learning_curves(search_epochs(results))
    medians = [t for t in drawn["curves"]["data"] if "median" in t.get("name", "")]
    assert sum(len(trace["x"]) for trace in medians) == len(bands)
    cnn = bands[bands["family"] == "CNN"]
    assert medians[0]["y"] == pytest.approx(list(1 - cnn["median"]))


def test_cost_draws_every_trial_with_a_value_once(results: Results, drawn: dict[str, Any]) -> None:
    rows = [row for trace in drawn["cost"]["data"] for row in trace["customdata"]]
    assert sorted(rows) == sorted(results.values[results.values.notna()].index)


def test_cost_never_mixes_filled_and_open_marks_in_a_trace(drawn: dict[str, Any]) -> None:
    symbols = [trace["marker"]["symbol"] for trace in drawn["cost"]["data"]]
    assert all(isinstance(symbol, str) for symbol in symbols)
    assert len(set(symbols)) == len(symbols)


def test_outcome_bars_add_up_to_the_trials(results: Results, drawn: dict[str, Any]) -> None:
    bars = drawn["outcomes"]["data"]
    assert sum(sum(trace["x"]) for trace in bars) == len(results.trials)
    assert {trace["marker"]["pattern"]["fillmode"] for trace in bars} == {"overlay"}


def test_few_trials_are_counted_in_whole_numbers(drawn: dict[str, Any]) -> None:
    counts = pd.DataFrame({"family": ["CNN"], "status": ["completed"], "n": [3]})
    assert figures.outcomes(counts, ["CNN"]).layout.xaxis.dtick == 1
    assert "dtick" not in drawn["outcomes"]["layout"]["xaxis"]


def test_hostile_names_reach_plotly_as_text(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = write_study(tmp_path_factory.mktemp("hostile"), Made(hostile=True, trials=6))
    for figure in _drawn(read_results(folder)).values():
        for text in _texts(figure):
            bare = text
            for tag in ("<br>", "<b>", "</b>"):
                bare = bare.replace(tag, "")
            assert "<" not in bare
    assert label(HOSTILE).startswith("&lt;/script&gt;&lt;img src=x")


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else []


def test_accuracy_is_drawn_by_its_error_and_a_perfect_score_has_a_place() -> None:
    scale = scale_of(ACCURACY, 270)
    assert scale.place(0.9) == pytest.approx(0.1)
    assert scale.place(1.0) == pytest.approx(0.5 / 270)
    assert scale.place(float("nan")) is None
    axis = scale.axis("accuracy", [0.5, 0.9, 1.0])
    assert axis["type"] == "log"
    assert axis["ticktext"][-1] == "100%"
    assert axis["range"][0] > axis["range"][1]


def test_a_wide_loss_gets_a_log_axis_and_a_narrow_or_negative_one_does_not() -> None:
    scale = scale_of(LOSS, 270)
    assert scale.axis("loss", [0.01, 3.0])["type"] == "log"
    assert "type" not in scale.axis("loss", [0.2, 0.4])
    assert "type" not in scale.axis("loss", [-3.0, 900.0])
    assert "type" not in scale.axis("loss", [])
    assert "type" not in scale_of(ACCURACY, 0).axis("accuracy", [])


def test_ticks_are_round_and_enough() -> None:
    assert log_ticks(0.01, 0.9) == [0.01, 0.02, 0.05, 0.1, 0.2, 0.5]
    assert log_ticks(0.041, 0.089) == [0.05, 0.06, 0.07, 0.08]
    assert log_ticks(0.11, 0.12) == [0.11, 0.12]
    assert time_axis("time", [0.5, 130.0])["ticktext"][-2:] == ["1 min", "2 min"]
    assert time_axis("time", [3.0, 3.0])["ticktext"] == ["3 s"]
    assert [unit_of(seconds)[0] for seconds in (60, 600, 90_000)] == ["seconds", "minutes", "hours"]


def test_one_point_still_makes_axes() -> None:
    point = pd.DataFrame(
        [("CNN", 0, "completed", 3.0, 0.9, 0)],
        columns=["family", "trial", "status", "seconds", "value", "row"],
    )
    figure = figures.cost(point, scale_of(ACCURACY, 270), looks_of(["CNN"]))
    assert list(figure.data[0].x) == [3.0]


def test_numbers_are_written_for_people() -> None:
    assert ACCURACY.score(0.98765) == "98.8%"
    assert ACCURACY.score(0.98765, 2) == "98.77%"
    assert LOSS.score(0.123456) == "0.1235"
    assert ACCURACY.difference(-0.012) == "\u22121.20 points"
    assert ACCURACY.difference(0.123) == "12.3 points"
    assert ACCURACY.difference(0.01) == "1.00 point"
    assert LOSS.difference(-0.5) == "\u22120.5"
    assert ACCURACY.difference(float("nan")) == ACCURACY.score(float("nan")) == "\u2013"
    assert ACCURACY.span(float("nan"), 1.0) == "no interval"
    assert [duration(s) for s in (0.44, 12.3, 204, 7560)] == ["0.4 s", "12 s", "3.4 min", "2.1 h"]
    assert duration(float("nan")) == "\u2013"
    assert [p_value(p) for p in (0.0001, 0.0312, 0.5)] == ["p < 0.001", "p = 0.031", "p = 0.50"]
    assert [setting(v) for v in (True, 3, 0.00123456, "sgd")] == ["true", "3", "0.001235", "sgd"]
    assert [counted(n, "trial") for n in (1, 1234)] == ["1 trial", "1,234 trials"]
    assert [joined(list(w)) for w in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]
    assert shortened("a  b\nc" * 2000, 9) == "a b ca b\u2026"
    assert len(called("x" * 4096)) == 60


def test_every_metric_has_its_words_unit_and_decimals() -> None:
    psnr = Metric(name="psnr", direction="maximize")
    assert psnr.axis("test") == "Test PSNR (dB, higher is better)"
    assert psnr.title("best") == "Best PSNR (dB)"
    assert [psnr.score(24.3149), psnr.difference(-0.004)] == ["24.31 dB", "\u22120.004 dB"]
    assert [psnr.difference(-0.0), LOSS.difference(-0.0)] == ["0.00 dB", "0"]
    assert psnr.span(24.1, 24.567) == "24.10 to 24.57 dB"
    r2 = Metric(name="r2", direction="maximize")
    assert r2.axis("validation") == "Validation R\u00b2 (higher is better)"
    assert [r2.score(0.7912), r2.score(-3.25)] == ["0.791", "\u22123.250"]
    mse = Metric(name="mse", direction="minimize")
    assert mse.axis("test") == "Test mean squared error (lower is better)"
    assert Metric(name="accuracy", direction="maximize").axis("test") == "Test accuracy"
    assert Metric(name="own_number").on("test") == "test own number"


def test_costs_are_the_same_on_every_split() -> None:
    latency = Metric(name="latency_p50", direction="minimize")
    assert latency.axis("test") == "Median latency (ms, lower is better)"
    assert latency.score(0.81234) == "0.8123 ms"
    assert Metric(name="parameters").score(1234567.0) == "1,234,567"
    assert Metric(name="flops").score(2_345_678.0) == "2,345,678 FLOPs"


def test_shares_below_zero_have_a_place_on_the_axis_of_errors() -> None:
    scale = scale_of(Metric(name="r2"), 80)
    assert scale.place(-4.0) == 5.0
    axis = scale.axis("R2", [-4.0, 0.5, 0.9])
    assert axis["type"] == "log"
    assert dict(zip(axis["tickvals"], axis["ticktext"], strict=True))[2.0] == "\u22121"
    assert "%" not in "".join(axis["ticktext"])


def test_a_long_title_of_an_axis_has_several_lines() -> None:
    title = line_axis("Best validation generation distance (lower is better)")["title"]["text"]
    assert title == "Best validation generation<br>distance (lower is better)"
