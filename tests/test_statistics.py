"""Scores of families and their differences as they are read from a study's tables."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.report_data import Made, write_study

from torchstudy.analysis.intervals import crossed_interval, paired_interval, seed_interval
from torchstudy.analysis.statistics import (
    COUNTED,
    ITEMS_ONLY,
    SEEDS_AND_ITEMS,
    SEEDS_ONLY,
    against_best,
    answers_on_test,
    compare,
    confirmed,
    family_scores,
    holm,
)
from torchstudy.analysis.tables import Results, read_results
from torchstudy.report import sections
from torchstudy.report.figures import score_label
from torchstudy.report.formats import metric_of
from torchstudy.report.sentences import promise, verdict
from torchstudy.report.story import Story


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(write_study(tmp_path_factory.mktemp("digits")))


def test_an_interval_has_a_width_when_every_item_is_right() -> None:
    interval = crossed_interval(np.ones((3, 270)))
    assert interval.high == pytest.approx(1.0)
    assert 0.98 < interval.low < 0.99


def test_more_items_make_the_interval_narrower() -> None:
    rng = np.random.default_rng(3)
    few = crossed_interval((rng.random((3, 100)) < 0.9).astype(float))
    many = crossed_interval((rng.random((3, 10_000)) < 0.9).astype(float))
    assert many.high - many.low < 0.2 * (few.high - few.low)


def test_one_seed_without_predictions_has_no_interval() -> None:
    interval = seed_interval(np.array([0.9]))
    assert interval.mean == 0.9
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_family_scores_are_means_over_the_confirmed_seeds(results: Results) -> None:
    table = family_scores(results)
    assert list(table["family"]) == ["CNN", "Transfer", "AutoencoderProbe"]
    for row in table.to_dict("records"):
        own = confirmed(results, row["family"])
        assert row["mean"] == pytest.approx(own["test_accuracy"].mean())
        assert row["low"] < row["mean"] < row["high"]
        assert (row["seeds"], row["items"], row["basis"]) == (3, 270, SEEDS_AND_ITEMS)


def test_without_predictions_the_interval_is_over_seeds(results: Results) -> None:
    bare = replace(results, predictions={})
    table = family_scores(bare)
    assert set(table["basis"]) == {SEEDS_ONLY}
    assert set(table["items"]) == {0}
    assert compare(bare, "CNN", "Transfer").basis == SEEDS_ONLY


def test_predictions_that_lack_a_seed_are_not_used(results: Results) -> None:
    seed = confirmed(results, "CNN")["seed"].iloc[0]
    table = results.predictions["CNN"]
    partial = replace(results, predictions={"CNN": table[table["seed"] != seed]})
    assert answers_on_test(partial, "CNN") is None
    assert answers_on_test(results, "CNN") is not None


def test_a_loss_is_ranked_from_below(tmp_path: Path) -> None:
    results = read_results(write_study(tmp_path, Made(metric="loss", trials=8)))
    table = family_scores(results)
    assert table["mean"].is_monotonic_increasing
    first, second = table["family"][:2]
    assert compare(results, first, second).difference > 0


def test_the_interval_of_an_error_does_not_reach_below_zero(results: Results) -> None:
    names = {"test_accuracy": "test_mae", "select_accuracy": "select_mae"}
    table = results.confirmation.rename(columns=names)
    apart = table.groupby(["family", "trial"]).cumcount() / 10.0  # 0, 0.1, 0.2
    summary = {**results.summary, "objective": {"metric": "mae", "direction": "minimize"}}
    errors = replace(
        results,
        confirmation=table.assign(test_mae=apart, select_mae=apart),
        summary=summary,
        predictions={},
    )
    for row in family_scores(errors).to_dict("records"):
        assert row["mean"] == pytest.approx(0.1)
        assert row["low"] == 0.0
        assert row["high"] > 0.3


def test_what_is_counted_needs_no_interval(results: Results) -> None:
    summary = {
        **results.summary,
        "objective": {"metric": "parameters", "direction": "minimize"},
    }
    sizes = {"CNN": 500.0, "Transfer": 300.0, "AutoencoderProbe": 300.0}
    costs = results.confirmation["family"].map(sizes)
    counted = replace(
        results,
        summary=summary,
        trials=results.trials.assign(best_valid_parameters=results.trials["parameters"]),
        confirmation=results.confirmation.assign(test_parameters=costs),
    )
    assert set(family_scores(counted)["basis"]) == {COUNTED}
    found = compare(counted, "Transfer", "CNN")
    assert (found.difference, found.p, found.is_separable) == (200.0, 0.0, True)
    assert not compare(counted, "Transfer", "AutoencoderProbe").is_separable
    said = verdict(Story(counted))
    assert said.title == "Transfer and AutoencoderProbe are not separable"
    two = counted.confirmation["family"] != "AutoencoderProbe"
    said = verdict(Story(replace(counted, confirmation=counted.confirmation[two])))
    assert said.title == "Transfer wins: 300 parameters"
    assert said.sentences[:2] == (
        "It beats CNN by 200 parameters.",
        "This is counted, the same whatever the seed; a longer search may find better ones.",
    )
    assert promise(Story(counted)) is None
    row = family_scores(counted).to_dict("records")[0]
    label = score_label(row, metric_of(counted.objective))
    assert label in ("<b>Transfer</b>  300", "<b>AutoencoderProbe</b>  300")


def test_a_recipe_that_misses_a_bound_is_no_standard_without_saying_so(results: Results) -> None:
    own = results.trials["origin"].eq("recipe")
    story = Story(
        replace(
            results,
            summary={
                **results.summary,
                "objective": {"metric": "parameters", "direction": "minimize"},
                "bounds": [{"metric": "accuracy", "direction": "maximize", "value": 0.9}],
            },
            trials=results.trials.assign(best_valid_accuracy=np.where(own, 0.8, 0.95)),
        )
    )
    trial = story.recipe("CNN")
    assert trial is not None
    said = sections._gain("CNN", trial + 1, -20.0, 480.0, story)
    assert said == "20 parameters worse than its own recipe, which has 480 but misses a bound."
    met = replace(story.results, trials=results.trials.assign(best_valid_accuracy=0.95))
    said = sections._gain("CNN", trial + 1, 20.0, 500.0, Story(met))
    assert said == "20 parameters better than its own recipe, which has 500."


def test_compare_is_antisymmetric(results: Results) -> None:
    one, two = compare(results, "CNN", "Transfer"), compare(results, "Transfer", "CNN")
    assert one.difference == pytest.approx(-two.difference)
    assert one.low == pytest.approx(-two.high)
    assert one.p == pytest.approx(two.p)


def test_compare_needs_two_confirmed_families(results: Results) -> None:
    with pytest.raises(ValueError, match="CNN and GAN are not both confirmed"):
        compare(results, "CNN", "GAN")


def test_pairing_over_items_narrows_the_interval(results: Results) -> None:
    paired = compare(results, "CNN", "Transfer")
    rows = family_scores(results).set_index("family")
    widths = rows["high"] - rows["low"]
    apart = math.hypot(widths["CNN"], widths["Transfer"])
    assert paired.high - paired.low < apart


def test_one_seed_with_predictions_is_compared_over_items(results: Results) -> None:
    seeds = {name: confirmed(results, name)["seed"].iloc[0] for name in results.families}
    kept = results.confirmation["seed"].isin(list(seeds.values()))
    single = replace(results, confirmation=results.confirmation[kept])
    difference = compare(single, "CNN", "Transfer")
    assert difference.basis == ITEMS_ONLY
    assert not math.isnan(difference.low)
    bare = replace(single, predictions={})
    assert math.isnan(compare(bare, "CNN", "Transfer").low)
    assert not compare(bare, "CNN", "Transfer").is_separable


def test_families_that_answer_alike_are_not_separable() -> None:
    answers = (np.random.default_rng(1).random((1, 50)) < 0.9).astype(float)
    interval, p = paired_interval(answers, answers)
    assert (interval.mean, interval.low, interval.high, p) == (0.0, 0.0, 0.0, 1.0)


def test_holm_corrects_step_by_step() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
    first, second = holm([math.nan, 0.01])
    assert math.isnan(first)
    assert second == 0.01


def test_the_best_is_compared_with_every_other_family(results: Results) -> None:
    found = against_best(results)
    assert [(one.a, one.b) for one in found] == [("CNN", "Transfer"), ("CNN", "AutoencoderProbe")]
    others = compare(results, "Transfer", "AutoencoderProbe")
    assert [one.adjusted_p for one in found] == holm([*(one.p for one in found), others.p])[:2]
    assert all(one.adjusted_p >= one.p for one in found)
