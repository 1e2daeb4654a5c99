"""The report says how far confidence is off, before and after, and draws the same numbers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.pages import drawn as page_of

from torchstudy.analysis.calibration import expected_noise, read_calibration, reliability
from torchstudy.analysis.tables import read_results, write_table
from torchstudy.report import reliability as drawn
from torchstudy.report.exhibits import exhibits
from torchstudy.report.looks import look
from torchstudy.report.reliability import believable, reliable
from torchstudy.report.story import Story


@pytest.fixture
def folder(photo_study: Path, tmp_path: Path) -> Path:
    """A copy of the results of a study, to be changed."""
    return Path(shutil.copytree(photo_study / "reports" / "photos", tmp_path / "photos"))


def test_a_sentence_has_the_numbers_of_the_calibration(folder: Path) -> None:
    found, calibration = (
        believable(Story(read_results(folder)), "CNN"),
        read_calibration(folder / "best" / "CNN"),
    )
    assert found is not None
    assert calibration is not None
    first, second, _ = found[0]
    assert (
        f"expected calibration error {100 * calibration.test_ece_before:.1f}% before and "
        f"{100 * calibration.test_ece_after:.1f}% after a temperature of "
        f"{calibration.temperature:.2f} fitted on {calibration.items} select images."
    ) in first
    table = read_results(folder).predictions["CNN"]
    own = table[(table["split"] == "test") & (table["seed"] == calibration.seed)]
    gap = 100 * float(own["confidence"].mean() - own["is_correct"].mean())
    side = "high" if gap > 0 else "low"
    assert first.startswith(
        f"As it comes, its confidence is {abs(gap):.1f} points too {side} on average:"
    )
    noise = expected_noise(own["calibrated"].to_numpy())
    assert f"On {len(own)} test images that error would be about {100 * noise:.1f}%" in second


@pytest.mark.parametrize(
    ("gap", "words"),
    [
        (0.0123, "1.2 points too high on average"),
        (-0.01, "1.0 point too low on average"),
        (0.0004, "right on average"),
        (-0.0004, "right on average"),
    ],
)
def test_the_leaning_is_said_in_points(gap: float, words: str) -> None:
    assert drawn._leaning(gap) == f"As it comes, its confidence is {words}"


def test_the_figure_shows_the_bins_of_both(folder: Path) -> None:
    generator = np.random.default_rng(0)
    before = generator.uniform(0.4, 1.0, 200)
    after, is_correct = before**0.5, generator.random(200) < before
    figure = reliable(before, after, is_correct, look(0))
    diagonal, first, second = figure.data
    assert list(diagonal.x) == list(diagonal.y)
    assert (first.name, second.name) == ("before", "after")
    for trace, confidence in ((first, before), (second, after)):
        bins = reliability(confidence, is_correct)
        assert list(trace.x) == pytest.approx(list(bins["confidence"]))
        assert list(trace.y) == pytest.approx(list(bins["accuracy"]))
        counts = [int(text.split("<br>")[1].split(" item")[0]) for text in trace.hovertext]
        assert counts == list(bins["items"])
        assert np.argmax(trace.marker.size) == bins["items"].argmax()
    low, high = figure.layout.xaxis.range
    assert list(figure.layout.yaxis.range) == [low, high]
    assert low <= min(first.y) < max(first.x) <= high


def test_the_page_has_a_panel_with_the_figure(folder: Path) -> None:
    results = read_results(folder)
    content = exhibits(Story(results))
    (panel,) = [one for one in content.context["panels"] if "confidence" in one["name"]]
    assert (panel["title"], panel["is_drawn"]) == ("is its confidence right?", True)
    assert panel["name"] in content.figures
    assert "expected calibration error" in page_of(results, "exhibits")


def test_without_a_calibration_nothing_is_said(folder: Path) -> None:
    (folder / "best" / "CNN" / "calibration.json").unlink()
    assert believable(Story(read_results(folder)), "CNN") is None
    assert "expected calibration error" not in page_of(read_results(folder), "exhibits")


def test_where_no_answer_was_wrong_that_is_said(folder: Path) -> None:
    (folder / "best" / "CNN" / "calibration.json").unlink()
    place = folder / "evidence" / "CNN" / "predictions"
    table = pd.read_parquet(f"{place}.parquet")
    table.loc[table["split"] == "select", "is_correct"] = True
    write_table(table, place)
    found = believable(Story(read_results(folder)), "CNN")
    assert found is not None
    items = table.loc[table["split"] == "select", "item"].nunique()
    assert found == (
        [
            f"Its confidence is as the network gives it: of {items} select images it got none "
            "wrong, so there was nothing to fit a temperature to."
        ],
        None,
    )


def test_a_damaged_calibration_spares_the_rest_of_the_page(folder: Path) -> None:
    path = folder / "best" / "CNN" / "calibration.json"
    path.write_text(json.dumps({"temperature": 1}))
    page = page_of(read_results(folder), "exhibits", "time")
    assert "calibration.json is damaged" in page
    assert "Where did the time go?" in page
