"""Curves that lie in the page: every trial's own, thinned where they are long, never its weight."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.report_data import Made, write_study

from torchstudy.analysis.tables import Results, read_results
from torchstudy.report import trial_curves
from torchstudy.report.axes import epoch_axis
from torchstudy.report.budget import curves
from torchstudy.report.story import Story
from torchstudy.report.trial_curves import _rounded, _thinned


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(write_study(tmp_path_factory.mktemp("digits")))


def test_every_trial_has_the_epochs_of_its_search(results: Results) -> None:
    found = trial_curves.trial_curves(Story(results))
    epochs = results.epochs.set_index(["family", "trial", "seed"]).sort_index()
    assert len(found["rows"]) == len(results.trials)
    for curve, trial in zip(found["rows"], results.trials.to_dict("records"), strict=True):
        own = epochs.loc[[(trial["family"], trial["trial"], trial["seed"])]]["valid_accuracy"]
        if curve is None:
            assert own.isna().all()
        else:
            assert curve["epochs"] is None
            assert curve["values"] == pytest.approx(own.tolist(), abs=6e-6)


def test_the_best_of_each_family_is_named_by_its_row(results: Results) -> None:
    found = trial_curves.trial_curves(Story(results))
    for place, family in enumerate(results.families):
        own = results.values[results.trials["family"] == family]
        completed = own[results.trials["status"] == "completed"]
        assert found["best"][place] == completed.idxmax()


def test_gaps_keep_their_epochs_and_long_curves_their_ends_and_best(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = replace(results, epochs=results.epochs[results.epochs["epoch"] > 2])
    curve = next(each for each in trial_curves.trial_curves(Story(later))["rows"] if each)
    assert curve["epochs"][0] == 3
    monkeypatch.setattr(trial_curves, "MOST_POINTS", 12)
    whole = next(each for each in trial_curves.trial_curves(Story(results))["rows"] if each)
    assert len(whole["values"]) <= 12
    assert (whole["epochs"][0], whole["epochs"][-1]) == (1, 27)


def test_thinning_is_even_and_keeps_the_best() -> None:
    scores = np.zeros(1000)
    scores[437] = 1
    kept = _thinned(scores, 100)
    assert len(kept) == 100
    assert {0, 437, 999} <= set(kept.tolist())
    assert np.diff(kept).max() <= 12
    assert _thinned(scores[:100], 100).tolist() == [*range(100)]


def test_rounding_keeps_what_can_be_seen() -> None:
    assert _rounded(np.array([0.999914, 1.0]), is_share=True).tolist() == [0.99991, 1.0]
    found = _rounded(np.array([1234.5678, 0.00012345678, 0.0, -2.5]), is_share=False)
    assert found.tolist() == pytest.approx([1234.6, 0.00012346, 0.0, -2.5])


def test_of_few_epochs_each_is_marked_and_no_half() -> None:
    assert [epoch_axis(last).get("dtick") for last in (1, 2, 5, 6, 27)] == [1, 1, 1, None, None]


def test_without_epochs_there_are_no_curves(tmp_path: Path) -> None:
    empty = read_results(write_study(tmp_path, Made(fail_all=True, confirm=False)))
    found = trial_curves.trial_curves(Story(empty))
    assert set(map(str, found["rows"])) == {"None"}
    assert found["best"] == {}


def test_where_the_objective_is_counted_the_curves_are_of_the_bound(results: Results) -> None:
    """What a network costs is the same after every epoch; without a bound nothing is drawn."""
    costs = results.epochs.assign(valid_parameters=1000.0)
    goal = {"metric": "parameters", "direction": "minimize"}
    least = {"metric": "accuracy", "direction": "maximize", "value": 0.9}
    summary = {**results.summary, "objective": goal}
    alone = Story(replace(results, epochs=costs, summary=summary))
    assert curves(alone).context == {
        "table": None,
        "metric": "parameters",
        "is_counted": True,
    }
    bounded = Story(replace(alone.results, summary={**summary, "bounds": [least]}))
    drawn = curves(bounded)
    assert drawn.context["metric"] == "validation accuracy"
    assert drawn.context["rooms"] == []
    wanted, found = (trial_curves.trial_curves(story) for story in (Story(results), bounded))
    assert found["rows"] == wanted["rows"]
    assert found["error"] == wanted["error"]
