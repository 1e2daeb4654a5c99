"""The section on what mattered: no importance without its floor, and the same numbers as words."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.report_data import Made, write_study
from tests.simulated import simulated, together

from torchstudy.analysis.importance import importance
from torchstudy.analysis.tables import Results, read_results
from torchstudy.report import mattered, page
from torchstudy.report.figures import drawable
from torchstudy.report.formats import ABSENT
from torchstudy.report.packing import json_text
from torchstudy.report.page import render
from torchstudy.report.sections import Content
from torchstudy.report.story import Story

MATTERS = ("learning_rate", "weight_decay")
NUMBERS = (
    *("width", "depth", "batch_size", "dropout", "label_smoothing"),
    *("learning_rate", "weight_decay"),
)


@pytest.fixture(scope="module")
def results() -> Results:
    return together(
        simulated(3, trials=100, matters=MATTERS),
        simulated(4, trials=40, name="MLP"),
        simulated(5, trials=8, name="Tiny"),
    )


@pytest.fixture(scope="module")
def content(results: Results) -> Content:
    return mattered.mattered(Story(results))


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page has this section alone: the others take seconds."""
    own = tuple(section for section in page.SECTIONS if section.anchor == "mattered")
    monkeypatch.setattr(page, "SECTIONS", own)


def _section(results: Results) -> str:
    found = re.search(r'<section id="mattered".*?</section>', render(results), re.DOTALL)
    assert found
    assert "could not be drawn" not in found[0]
    return found[0]


def test_the_section_stands_after_the_curves() -> None:
    anchors = [section.anchor for section in page.SECTIONS]
    assert anchors[anchors.index("curves") + 1] == "mattered"


def test_what_stands_above_the_floor_is_said_with_numbers(
    results: Results, content: Content
) -> None:
    table = importance(results)
    own = table[table["family"] == "CNN"].set_index("hyperparameter")
    rate, decay = own.loc["learning_rate"], own.loc["weight_decay"]
    assert content.context["said"][1] == (
        f"CNN: learning_rate ({rate['importance']:.0%}) and weight_decay "
        f"({decay['importance']:.0%}) stand above the noise floor of {rate['floor']:.0%} "
        "(12 hyperparameters, 100 trials)."
    )
    assert content.context["said"][2] == (
        "Tiny: nothing can be said of its hyperparameters: 8 trials with a result are too few: "
        "10 are needed."
    )


def test_nothing_above_the_floor_is_said_too() -> None:
    said = mattered.mattered(Story(simulated(0, trials=20, matters=()))).context["said"][0]
    assert re.fullmatch(
        r"CNN: nothing stands above the noise floor of \d+% \(1\d hyperparameters, 20 trials\)\.",
        said,
    )


def test_every_figure_of_importance_has_its_floor(results: Results, content: Content) -> None:
    table = importance(results)
    for index, family in enumerate(("CNN", "MLP")):
        own = table[(table["family"] == family) & table["importance"].notna()]
        layout = drawable(content.figures[f"importance-{index}"])["layout"]
        field, *marks = layout["shapes"]
        assert field["x1"] == own["floor"].iloc[0]
        assert {mark["x0"] for mark in marks} == {field["x1"]}
        assert len(marks) == len(own)
        texts = [note["text"] for note in layout["annotations"]]
        assert f"noise floor {field['x1']:.0%}" in texts


def test_bars_are_the_table_and_those_below_the_floor_are_hatched(
    results: Results, content: Content
) -> None:
    table = importance(results)
    own = table[table["family"] == "CNN"]
    above, below = drawable(content.figures["importance-0"])["data"]
    assert [*above["x"], *below["x"]] == list(own["importance"])
    assert [*above["y"], *below["y"]] == [-place for place in range(12)]
    assert "pattern" not in above["marker"]
    assert below["marker"]["pattern"]["fillmode"] == "overlay"
    ends = [x + plus for x, plus in zip(above["x"], above["error_x"]["array"], strict=True)]
    assert ends == pytest.approx(list(own["high"].head(2)))


def test_the_table_holds_the_same_numbers(results: Results, content: Content) -> None:
    own = importance(results).iloc[0]
    rows = content.context["panels"][1]["table"].rows
    assert len(rows) == 12
    assert rows[0] == (
        "learning_rate",
        f"{own['importance']:.0%}",
        f"{own['low']:.0%} to {own['high']:.0%}",
        f"{own['floor']:.0%}",
        "above",
        "100",
    )


def test_what_cannot_be_judged_is_named(content: Content) -> None:
    about = content.context["panels"][0]["about"]
    assert re.fullmatch(r"40 trials, \d+ of them stopped early; noise floor \d+%\.", about[0])
    assert re.match(r"Not judged: momentum \(\d trials\): it takes two values in 10", about[1])


def test_effects_are_curves_with_bands_and_the_trials(content: Content) -> None:
    first = next(one for one in content.context["effects"] if one["family"] == "CNN")
    assert first["hyperparameter"] == "learning_rate"
    data = drawable(content.figures[first["name"]])["data"]
    assert sum(len(trace["x"]) for trace in data if trace["mode"] == "markers") == 100
    assert [trace.get("fill") for trace in data[-3:]] == [None, "tonexty", None]
    assert drawable(content.figures[first["name"]])["layout"]["xaxis"]["type"] == "log"
    assert len(content.context["curves"].rows) == len(content.context["effects"])


def test_categories_have_marks_with_bars() -> None:
    results = simulated(1, trials=200, matters=("optimizer",), noise=0.2)
    found = mattered.mattered(Story(results))
    place = [one["hyperparameter"] for one in found.context["effects"]].index("optimizer")
    drawn = drawable(found.figures[f"effect-{place}"])
    assert list(drawn["layout"]["xaxis"]["ticktext"]) == ["adamw", "adam", "sgd"]
    assert list(drawn["data"][-1]["x"]) == [0, 1, 2]
    assert min(drawn["data"][-1]["error_y"]["array"]) >= 0
    assert min(drawn["data"][-1]["error_y"]["arrayminus"]) >= 0


def test_many_trials_and_effects_are_drawn_in_part_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mattered, "PLOTS", 3)
    several = [simulated(n, trials=30, name=f"F{n}") for n in range(2)]
    found = mattered.mattered(Story(together(simulated(9, trials=300), *several)))
    assert len(found.context["effects"]) == 3
    assert re.fullmatch(r"The first 3 of \d are drawn\.", found.context["undrawn"][0])
    about = [one["about"] for one in found.context["effects"] if one["family"] == "CNN"]
    assert re.search(r"150 of 300 trials are drawn", about[0])
    assert len(found.context["panels"]) == 3


def test_dead_hyperparameters_are_named_with_what_to_paste(content: Content) -> None:
    advice = next(one for one in content.context["advice"] if "no effect of" in one["title"])
    assert "learning_rate" not in advice["paste"]
    assert advice["sentence"].startswith("In 100 trials the whole interval of each lies below")
    assert re.fullmatch(r'space=\{"CNN\.\w+": .*\}', advice["paste"])


def test_a_best_at_the_bound_is_named_with_a_wider_range(results: Results) -> None:
    cnn = results.summary["families"]["CNN"]
    own = results.trials["family"] == "CNN"
    order = results.trials["best_valid_accuracy"].where(own).rank(ascending=False)
    rate = results.trials["config.learning_rate"].mask(order <= 25, 0.1)
    trials = results.trials.assign(**{"config.learning_rate": rate}).loc[own]
    one = replace(results, trials=trials, summary=results.summary | {"families": {"CNN": cnn}})
    advice = mattered.mattered(Story(one)).context["advice"][0]
    assert advice["title"] == "the best learning_rate lies at its bound"
    assert re.match(
        r"\d+ of the best 10 of 100 trials have it within 5% of its upper bound, 0\.1; by chance",
        advice["sentence"],
    )
    assert advice["paste"] == 'space={"CNN.learning_rate": Float(0.0001, 0.3, log=True)}'


@pytest.mark.usefixtures("alone")
def test_hostile_names_stay_text_and_every_label_has_its_element(tmp_path: Path) -> None:
    section = _section(read_results(write_study(tmp_path, Made(hostile=True))))
    assert "<img" not in section
    assert "<script" not in section
    assert "&lt;img src=x" in section
    ids = re.findall(r' id="([^"]+)"', section)
    assert len(ids) == len(set(ids))
    for labels in re.findall(r'aria-labelledby="([^"]+)"', section):
        assert set(labels.split()) <= set(ids)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    "made", [Made(fail_all=True), Made(trials=3), Made(metric="loss"), Made(state="running")]
)
def test_every_kind_of_study_has_the_section(tmp_path: Path, made: Made) -> None:
    section = _section(read_results(write_study(tmp_path, made)))
    assert ("plot-importance" in section) == (not made.fail_all and made.trials > 10)


@pytest.mark.usefixtures("alone")
def test_same_tables_give_the_same_bytes(results: Results) -> None:
    assert render(results) == render(results)


def test_small_shares_are_written_for_people() -> None:
    shares = (0.004, 0.094, 0.5, 0.0, float("nan"))
    assert [mattered.percent_of(share) for share in shares] == ["0.4%", "9%", "50%", "0%", ABSENT]


def test_figures_are_json(content: Content) -> None:
    for figure in content.figures.values():
        text = json.dumps(drawable(figure), default=list)
        assert "NaN" not in text


@pytest.mark.parametrize("size", [50, 90, 110])
def test_where_an_interval_would_need_more_trials_every_share_is_possible(size: int) -> None:
    """So many hyperparameters matter that the model takes all the trials there are."""
    found = simulated(0, trials=size, is_adaptive=False)
    values = {name: found.trials[f"config.{name}"].astype("float64") for name in NUMBERS}
    logs = {name: np.log(values[name]) for name in ("width", "batch_size", "learning_rate")}
    score = logs["width"] * values["depth"] + logs["batch_size"] * values["dropout"]
    score += 2 * values["label_smoothing"] * logs["learning_rate"]
    score += np.log(values["weight_decay"])
    found.trials["best_valid_accuracy"] = 0.5 + 0.01 * score
    known = importance(found).dropna(subset="importance")
    assert known[["low", "high", "floor"]].stack().between(0, 1).all()
    assert (known["low"].eq(0) & known["high"].eq(1)).any()
    json_text([drawable(figure) for figure in mattered.mattered(Story(found)).figures.values()])
