"""How a search went, counted, compared with what it expected, and said in the report."""

import re
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from tests.report_data import Made, write_study

from torchstudy.analysis.searching import by_origin, epochs_spent, expectations, inside, outlook
from torchstudy.analysis.tables import Results, frame, read_results
from torchstudy.report import page
from torchstudy.report.formats import Metric
from torchstudy.report.page import render
from torchstudy.report.searching import FEWEST, _came_true, searching
from torchstudy.report.sentences import room
from torchstudy.report.story import Story
from torchstudy.schemas import PROPOSAL_COLUMNS


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Results of a version that recorded no decisions."""
    return read_results(write_study(tmp_path_factory.mktemp("digits"), Made(trials=6)))


def decided(decision: int, trial: int, origin: str, **more: object) -> dict[str, object]:
    row = {"study": "digits", "family": "CNN", "decision": decision, "trial": trial}
    return {**row, "origin": origin, "after": 0, "until": 27, **more}


@pytest.fixture(scope="module")
def results(plain: Results) -> Results:
    rows = [
        decided(0, 0, "recipe", seen=0.9, at_the_end=0.95),
        decided(1, 1, "sobol", seen=0.8),
        decided(2, 2, "model", seen=0.85, expected=0.8, spread=0.02, at_the_end=0.9),
        decided(3, 2, "promotion", seen=0.9, expected=0.89, spread=0.02, at_the_end=0.9),
        decided(4, 3, "model", expected=0.8, spread=0.1),
        decided(5, 4, "model", seen=0.7, expected=0.9, spread=0.1, at_the_end=0.7),
    ]
    return replace(plain, proposals=frame(rows, PROPOSAL_COLUMNS))


def test_decisions_are_counted_by_origin_with_the_best_that_they_led_to(results: Results) -> None:
    found = by_origin(results).set_index("origin")
    assert found["decisions"].to_dict() == {"recipe": 1, "sobol": 1, "model": 3, "promotion": 1}
    assert found["best"].to_dict() == pytest.approx(
        {"recipe": 0.9, "sobol": 0.8, "model": 0.85, "promotion": 0.9}
    )
    loss = {"metric": "loss", "direction": "minimize"}
    falling = replace(results, summary={**results.summary, "objective": loss})
    assert by_origin(falling).set_index("origin").loc["model", "best"] == pytest.approx(0.7)


def test_a_trial_is_compared_with_what_was_last_expected_of_it(results: Results) -> None:
    found = expectations(results)
    assert found["trial"].tolist() == [2, 4]
    assert found["origin"].tolist() == ["promotion", "model"]
    assert found["deviation"].tolist() == pytest.approx([0.5, -2.0])
    assert inside(found) == {0.5: 1, 0.9: 1}


def test_a_trial_that_was_completed_early_would_take_no_more_epochs(results: Results) -> None:
    table = results.trials.assign(status="completed", epochs=2)
    done = replace(results, trials=table.astype({"epochs": "Int64"}))
    assert epochs_spent(done) == (2 * len(table), 2 * len(table))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.5, 0.9], "was best after epoch 2 of 2."),
        ([0.5, 0.9, 0.8, 0.8, 0.8, 0.8], "epoch 2 of 6: its last third of epochs did not improve"),
        ([0.5, 0.6, 0.7, 0.7, 0.8, 0.9], "epoch 6 of 6: its last third of epochs still improved"),
    ],
)
def test_whether_more_epochs_would_help_is_said_of_trainings_long_enough(
    values: list[float], expected: str
) -> None:
    metric = Metric(name="accuracy", direction="maximize")
    assert expected in room("CNN", 3, values, None, metric, 1)


def test_a_last_epoch_that_is_only_as_good_as_an_early_one_improved_nothing() -> None:
    metric = Metric(name="accuracy", direction="maximize")
    said = room("CNN", 3, [0.5, 0.9, 0.9, 0.8, 0.9, 0.9], 6, metric, 1)
    assert "best after epoch 6 of 6, as good as after epoch 2: its last third of epochs did" in said


def test_of_equal_epochs_the_recorded_one_was_the_best() -> None:
    metric = Metric(name="accuracy", direction="maximize")
    for best, said in ((4, 4), (3, 3), (1, 3), (None, 3)):
        text = room("CNN", 3, [0.5, 0.8, 0.9, 0.9], best, metric, 1)
        assert text.endswith(f"was best after epoch {said} of 4.")


def test_the_bands_are_those_of_a_normal_distribution() -> None:
    drawn = np.random.default_rng(0).normal(size=20_000)
    found = inside(frame([{"deviation": float(value)} for value in drawn], {}))
    assert found[0.5] / 20_000 == pytest.approx(0.5, abs=0.015)  # four standard errors
    assert found[0.9] / 20_000 == pytest.approx(0.9, abs=0.009)


def test_epochs_are_set_against_those_of_training_all_to_the_end(results: Results) -> None:
    spent, full = epochs_spent(results)
    assert full == 27 * len(results.trials)
    assert spent == int(results.trials["epochs"].sum()) < full


@pytest.mark.parametrize(("expected", "spread"), [(0.5, 0.001), (0.999, 1e-6), (0.9, 0.1)])
def test_the_outlook_is_the_best_of_as_many_trials_like_the_last(
    plain: Results, expected: float, spread: float
) -> None:
    rows = [decided(n, n, "model", expected=expected, spread=spread) for n in range(5)]
    (row,) = outlook(replace(plain, proposals=frame(rows, PROPOSAL_COLUMNS))).to_dict("records")
    best = plain.values[plain.trials["family"] == "CNN"].max()
    count = int(plain.values[plain.trials["family"] == "CNN"].notna().sum())
    assert row["trials"] == count
    quantile = NormalDist().inv_cdf(0.9 ** (1 / count))
    gain = min(max(expected + spread * quantile - best, 0), 1 - best)
    assert row["gain"] == pytest.approx(gain, abs=0.004)
    assert outlook(replace(plain, proposals=frame(rows[:4], PROPOSAL_COLUMNS))).empty


def test_the_section_says_what_was_decided_and_whether_it_came_true(results: Results) -> None:
    content = searching(Story(results))
    assert content.context["said"][0] == (
        "CNN: 5 new configurations (1 the family's own recipe, 1 spread evenly (Sobol) and 3 "
        "proposed by the model); 1 promotion."
    )
    assert content.context["expected"][0].startswith(
        "Of 2 trials of which a value was expected and that came to an end, 1 ended within"
    )
    assert content.context["expected"][0].endswith(": they are too few to judge by.")
    five = pd.concat([expectations(results)] * 3).head(FEWEST)
    assert next(_came_true(five)).endswith(": 2.5 and 4.5 would be right.")
    _, points = content.figures["expected"].data
    assert len(points.x) == 2
    assert "trial 4" in points.hovertext[1]
    assert "90.0%" not in points.hovertext[0]


def test_results_without_decisions_say_so(plain: Results, tmp_path: Path) -> None:
    assert searching(Story(plain)).context["table"] is None
    folder = write_study(tmp_path / "digits", Made(trials=2))
    assert read_results(folder).proposals.empty


def test_the_section_is_drawn(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tuple(section for section in page.SECTIONS if section.anchor == "search")
    monkeypatch.setattr(page, "SECTIONS", own)
    found = re.search(r'<section id="search".*?</section>', render(results), re.DOTALL)
    assert found
    assert "could not be drawn" not in found[0]
    assert 'data-figure="expected"' in found[0]
    assert "proposed by the model" in found[0]
