"""Scores over whole searches: intervals cover what they promise, with three searches as well."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm, ttest_1samp
from tests.pages import drawn
from tests.report_data import Made, write_study
from tests.report_kinds import write_kind
from tests.test_itemwise import OFFSETS, answering, answers

from torchstudy.analysis.repeats import (
    SEARCHES_AND_ITEMS,
    SEARCHES_ONLY,
    between_searches,
    difference_interval,
    search_scores,
    share_interval,
    width_factor,
)
from torchstudy.analysis.statistics import holm
from torchstudy.analysis.tables import Results, frame, read_results, write_table
from torchstudy.repeats import repeat_name, repeat_of
from torchstudy.report import repeats as report
from torchstudy.report.bounds import within
from torchstudy.report.caveats import NOTHING_LEARNED, headline
from torchstudy.report.page import render
from torchstudy.report.story import Story
from torchstudy.schemas import PREDICTION_COLUMNS, REPEAT_COLUMNS

STUDIES = 800
NOISE = 0.7
ITEMS = 1000


def write_searches(folder: Path, spread: float = 0.001, repeats: int = 3) -> Path:
    """A made-up study with further searches, whose answers differ from the first's by chance."""
    results = read_results(write_study(folder, Made(trials=8, items=ITEMS)))
    rows = []
    for repeat in range(1, repeats + 1):
        rng = np.random.default_rng(repeat)
        for place, (family, table) in enumerate(results.predictions.items()):
            own = table.copy()
            if repeat > 1:
                flips = rng.random(len(own)) < spread * (1 + repeat)
                own["is_correct"] = own["is_correct"] ^ flips
                place_of = folder / "repeats" / str(repeat) / "evidence" / family
                write_table(own, place_of / "predictions")
            by_seed = own.groupby("seed")["is_correct"].mean()
            rows.append(
                {
                    "study": "digits",
                    "repeat": repeat,
                    "family": family,
                    "seed": repeat,
                    "trials": 8,
                    "trial": place,
                    "seeds": len(by_seed),
                    "seconds": 10.0,
                    "test_accuracy": float(by_seed.mean()),
                }
            )
    write_table(frame(rows, REPEAT_COLUMNS), folder / "repeats")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_searches(tmp_path_factory.mktemp("searched"))


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return read_results(folder)


def _shares(
    rng: np.random.Generator, mean: float, search: float, item: np.ndarray, repeats: int
) -> np.ndarray:
    """Shares of three seeds that are right, per study, repeat and item: a probit's effects."""
    studies, items = len(item), item.shape[-1]
    found = mean + item + rng.normal(0, search, (studies, repeats, 1, 1))
    found = found + rng.normal(0, 0.1, (studies, repeats, 3, 1))
    return (found + rng.normal(0, NOISE, (studies, repeats, 3, items)) > 0).mean(axis=2)


def _truth(mean: float, search: float) -> float:
    return float(norm.cdf(mean / math.sqrt(search**2 + 0.1**2 + 1 + NOISE**2)))


# With 800 studies the standard error of a coverage of 95% is 0.8 points; the simulations are
# seeded, so the bounds cannot fail by chance. Where both variances count, the sum of squared
# quantiles errs on the wide side.
@pytest.mark.parametrize(
    ("mean", "search", "repeats", "highest"),
    [(1.0, 0.15, 5, 0.97), (2.0, 0.3, 5, 0.97), (2.0, 0.3, 3, 0.98), (2.0, 0.1, 3, 0.985)],
)
def test_a_family_s_interval_covers_new_searches_seeds_and_items(
    mean: float, search: float, repeats: int, highest: float
) -> None:
    rng = np.random.default_rng(41)
    truth = _truth(mean, search)
    item = rng.normal(0, 1, (STUDIES, 1, 1, 270))
    found = [share_interval(one) for one in _shares(rng, mean, search, item, repeats)]
    assert 0.93 <= np.mean([one.low <= truth <= one.high for one in found]) <= highest


@pytest.mark.parametrize(
    ("mean", "search", "repeats"), [(1.0, 0.15, 3), (2.0, 0.3, 3), (2.0, 0.05, 3), (2.0, 0.1, 5)]
)
def test_a_difference_is_covered_and_equal_families_are_rarely_told_apart(
    mean: float, search: float, repeats: int
) -> None:
    rng = np.random.default_rng(43)
    item = rng.normal(0, 1, (STUDIES, 1, 1, 270))  # what is hard for one is hard for the other
    own, equal, worse = (
        _shares(rng, level, search, item, repeats) for level in (mean, mean, mean - 0.2)
    )
    truth = _truth(mean, search) - _truth(mean - 0.2, search)
    found = [difference_interval(one)[0] for one in own - worse]
    assert 0.93 <= np.mean([one.low <= truth <= one.high for one in found]) <= 0.97
    wrong = np.mean(
        [not one.low <= 0 <= one.high for one, _ in map(difference_interval, own - equal)]
    )
    assert wrong <= 0.06  # 5%, and 1.4 standard errors of the simulation


def test_the_p_value_is_where_the_interval_reaches_nothing() -> None:
    rng = np.random.default_rng(5)
    for shift in (0.0, 0.3, 0.6, 3.0):
        apart = rng.normal(shift, 0.2, (3, 50)) + rng.normal(0, 0.1, (3, 1))
        interval, p = difference_interval(apart)
        assert (p < 0.05) == (not interval.low <= 0 <= interval.high)
    assert p < 0.01


def test_without_items_it_is_student_s_t_over_the_searches() -> None:
    scores = np.array([0.02, 0.03, 0.026])
    interval, p = difference_interval(scores[:, None])
    known = ttest_1samp(scores, 0)
    low, high = known.confidence_interval()
    assert (interval.low, interval.high, p) == pytest.approx((low, high, known.pvalue))
    assert width_factor(3) == pytest.approx(4.3027, abs=1e-4)
    assert width_factor(2) > 12


def test_searches_that_all_agree_leave_what_the_items_say() -> None:
    alike = np.tile((np.arange(50) < 5).astype(float), (3, 1))
    interval, p = difference_interval(alike)
    assert interval.low < 0.1 < interval.high
    assert 0 < p < 0.05
    assert difference_interval(np.zeros((3, 50)))[1] == 1.0
    assert difference_interval(np.full((3, 1), 0.1))[1] == 0.0  # nothing is drawn
    perfect = share_interval(np.ones((3, 270)))
    assert perfect.high == pytest.approx(1.0)
    assert 0.98 < perfect.low < 0.99


def test_scores_are_means_over_the_searches(results: Results) -> None:
    table = search_scores(results)
    assert list(table["family"]) == ["CNN", "Transfer", "AutoencoderProbe"]
    for row in table.to_dict("records"):
        own = results.repeats[results.repeats["family"] == row["family"]]
        assert row["mean"] == pytest.approx(own["test_accuracy"].mean())
        assert row["low"] < row["mean"] < row["high"]
        assert (row["searches"], row["seeds"], row["items"]) == (3, 9, ITEMS)
        assert row["basis"] == SEARCHES_AND_ITEMS


def test_the_best_is_compared_with_each_other_and_corrected_for_all_pairs(
    results: Results,
) -> None:
    found = between_searches(results)
    assert [(one.a, one.b) for one in found] == [("CNN", "Transfer"), ("CNN", "AutoencoderProbe")]
    assert all(one.searches == 3 and one.items == ITEMS for one in found)
    without = {"Transfer": "AutoencoderProbe", "AutoencoderProbe": "Transfer"}
    rest = replace(results, predictions={})  # then only the searches are compared
    assert {one.basis for one in between_searches(rest)} == {SEARCHES_ONLY}
    third = [
        one
        for name in ("CNN",)
        for one in between_searches(
            replace(results, repeats=results.repeats[results.repeats["family"] != name])
        )
    ]
    assert [(one.a, one.b) for one in third] == [("Transfer", without["Transfer"])]
    expected = holm([*(one.p for one in found), third[0].p])
    assert [one.adjusted_p for one in found] == pytest.approx(expected[:2])


def test_one_search_is_no_repeat(results: Results) -> None:
    first = replace(results, repeats=results.repeats[results.repeats["repeat"] == 1])
    assert search_scores(first).empty
    assert between_searches(first) == []
    assert report.searched(Story(first)) is None


def test_answers_that_the_scores_are_not_of_are_left_out(results: Results) -> None:
    later = results.repeats["repeat"].eq(3) & results.repeats["family"].eq("CNN")
    moved = results.repeats["test_accuracy"].where(~later, results.repeats["test_accuracy"] - 0.01)
    found = search_scores(replace(results, repeats=results.repeats.assign(test_accuracy=moved)))
    assert dict(zip(found["family"], found["basis"], strict=True))["CNN"] == SEARCHES_ONLY
    assert set(found["basis"]) == {SEARCHES_ONLY, SEARCHES_AND_ITEMS}


def test_no_difference_of_shares_is_beyond_one(results: Results) -> None:
    two = results.repeats[results.repeats["repeat"] < 3]
    is_low = two["family"].eq("CNN") & two["repeat"].eq(2)
    scores = two["test_accuracy"].mask(is_low, 0.2)
    found = between_searches(replace(results, repeats=two.assign(test_accuracy=scores)))
    assert [(one.low, one.high) for one in found if "CNN" in (one.a, one.b)] == [(-1.0, 1.0)]


def test_the_verdict_rests_on_the_searches(results: Results) -> None:
    said = report.verdict(Story(results))
    lead = between_searches(results)[0]
    assert lead.is_separable
    assert said.title.startswith("CNN wins over 3 searches: ")
    low, high = (f"{100 * bound:.2f}" for bound in (lead.low, lead.high))
    assert said.sentences[0].startswith("It beats Transfer by ")
    assert f"(95% interval {low} to {high}, p" in said.sentences[0]
    assert said.sentences[0].endswith(" over 3 searches.")
    everything = " ".join(said.sentences)
    assert (
        "on the same 1,000 test images; p is Holm-corrected for 3 pairs of families" in everything
    )
    assert "3 searches say little about their own scatter: their interval goes 4.30" in everything


def test_a_large_scatter_between_searches_takes_the_win_back(tmp_path: Path) -> None:
    results = read_results(write_searches(tmp_path, repeats=3))
    is_cnn = results.repeats["family"].eq("CNN") & results.repeats["repeat"].eq(2)
    scores = results.repeats["test_accuracy"].where(~is_cnn, 0.9)
    said = report.verdict(
        Story(replace(results, repeats=results.repeats.assign(test_accuracy=scores)))
    )
    assert said.title.endswith("are not separable over 3 searches")
    assert "another few searches could say otherwise" in said.sentences[0]


def test_what_is_counted_differs_between_searches_and_has_an_interval_over_them(
    results: Results,
) -> None:
    """Every search may choose a network of another size; other test items change nothing."""
    table = results.repeats
    extra = table["family"].map({"CNN": 100.0}).fillna(0.0)
    sizes = 1000.0 * table["repeat"].astype("float64") + extra
    story = Story(
        replace(
            results,
            repeats=table.assign(test_parameters=sizes),
            summary={
                **results.summary,
                "objective": {"metric": "parameters", "direction": "minimize"},
            },
        )
    )
    assert set(story.searches["basis"]) == {SEARCHES_ONLY}
    assert (story.searches["low"] < story.searches["mean"]).all()
    said = " ".join(report.verdict(story).sentences)
    assert "items" not in said
    assert "images" not in said
    level = story.searches["mean"].iloc[:2]
    assert level.nunique() == 1  # Transfer and AutoencoderProbe: the same in every search
    assert " parameters, and so has " in said


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Three searches of families that predict numbers, the further ones a little worse."""
    folder = tmp_path_factory.mktemp("predicted")
    results = answering(read_results(write_kind(folder, "regression")), "mae")
    rows = []
    for repeat in (1, 2, 3):
        for place, (family, offset) in enumerate(OFFSETS.items()):
            own = results.predictions[family]
            if repeat > 1:
                own = answers(place, [31, 32, 33], offset + 0.02 * repeat)
                evidence = folder / "repeats" / str(repeat) / "evidence" / family
                whole = frame(own.to_dict("records"), PREDICTION_COLUMNS)
                write_table(whole, evidence / "predictions")
            test = own[own["split"] == "test"]
            error = (test["predicted_value"] - test["target_value"]).abs().mean()
            rows.append(
                {"study": results.folder.name, "repeat": repeat, "family": family, "trials": 8}
                | {"seeds": 3, "seconds": 10.0, "test_mae": float(error)}
            )
    return replace(results, repeats=frame(rows, REPEAT_COLUMNS))


def test_errors_of_numbers_have_skewed_intervals_over_searches_and_items(
    predicted: Results,
) -> None:
    table = search_scores(predicted)
    assert list(table["family"]) == ["MLP", "MultiInput", "LinearModel"]
    assert set(table["basis"]) == {SEARCHES_AND_ITEMS}
    for row in table.to_dict("records"):
        mean, low, high = row["mean"], row["low"], row["high"]
        assert 0 < low < mean < high
        assert high / mean == pytest.approx(mean / low)  # as far on the scale of a logarithm
    found = {pair.b: pair for pair in between_searches(predicted)}
    assert found["LinearModel"].is_separable
    assert found["LinearModel"].low > 0  # a smaller error is ahead
    assert not found["MultiInput"].is_separable


def test_a_headline_over_searches_is_not_set_against_the_trials_of_one(results: Results) -> None:
    bound = {"metric": "accuracy", "direction": "maximize", "value": 0.9999}
    story = Story(replace(results, summary=results.summary | {"bounds": [bound]}))
    assert headline(story).title == report.verdict(story).title
    said = [*within(story)]
    assert any("of CNN in the first search has a validation accuracy" in each for each in said)


def test_over_searches_too_what_is_no_better_than_a_constant_has_learned_nothing(
    results: Results,
) -> None:
    same = {name: table.assign(target="7") for name, table in results.predictions.items()}
    found = headline(Story(replace(results, predictions=same)))
    assert found.title == NOTHING_LEARNED
    score = search_scores(results)["mean"].iloc[0]
    assert found.sentences[0].endswith(f"100.0% test accuracy; CNN has {100 * score:.1f}%.")
    assert found.sentences[1].startswith("Leaving that aside: CNN wins over 3 searches")


def test_a_family_that_was_confirmed_once_is_named_and_unequal_searches_are(
    results: Results,
) -> None:
    table = results.repeats
    lost = table["family"].eq("Transfer") & table["repeat"].gt(1)
    trials = table["trials"].where(table["repeat"] > 1, 20)
    story = Story(replace(results, repeats=table.assign(trials=trials)[~lost]))
    everything = " ".join(report.verdict(story).sentences)
    assert "Transfer has a test score from fewer than two searches" in everything
    assert "The searches of CNN are not equally long: 8 to 20 trials." in everything


def test_families_of_unequal_size_are_not_searches_of_unequal_length(results: Results) -> None:
    table = results.repeats
    trials = table["trials"].where(table["family"] != "CNN", 6)
    story = Story(replace(results, repeats=table.assign(trials=trials)))
    assert "not equally long" not in " ".join(report.verdict(story).sentences)


def test_the_page_of_a_further_search_says_that_it_is_one_of_several(results: Results) -> None:
    second = replace(results, summary={**results.summary, "repeat": 2})
    said = report.verdict(Story(second)).sentences
    assert said[0] == (
        "This is search 2 of the study alone; its report (../../report.html) compares all."
    )


def test_searches_without_confirmed_scores_are_said_not_to_be_compared(results: Results) -> None:
    table = results.repeats.assign(test_accuracy=math.nan)
    said = report.verdict(Story(replace(results, repeats=table))).sentences
    assert said[-1].startswith("3 searches have begun; families are compared over searches once")
    alone = replace(results, repeats=table[:0])
    assert said[:-1] == report.verdict(Story(alone)).sentences


def test_the_page_shows_every_search_with_mean_and_interval(results: Results) -> None:
    html = render(results)
    assert "Score over 3 searches" in html
    assert "Each open mark is one whole search" in html
    assert "repeats/2/report.html and on" in html
    assert (
        '>24</dd><dd class="note">in 3 searches</dd>' not in html
    )  # 8 trials of 3 families, 3 times
    assert '>72</dd><dd class="note">in 3 searches</dd>' in html
    figure = report.figure(Story(results))
    scores = search_scores(results)
    marks = figure.data[0]
    assert list(marks.x) == list(scores["scores"].iloc[0])
    assert figure.data[1].error_x.array[0] == pytest.approx(
        scores["high"].iloc[0] - scores["mean"].iloc[0]
    )


def test_the_page_of_one_search_is_as_it_was(results: Results) -> None:
    alone = replace(results, repeats=frame([], REPEAT_COLUMNS))
    first = replace(results, repeats=results.repeats[results.repeats["repeat"] == 1])
    html = render(alone)
    assert html == render(first)
    assert "searched-name" not in html


def test_the_page_of_a_repeat_says_which_it_is(results: Results) -> None:
    html = drawn(replace(results, summary={**results.summary, "repeat": 2}), "verdict")
    assert f"<span>{results.summary['study']}, repeat 2</span>" in html


def test_names_of_repeats_can_be_taken_apart_and_are_no_user_s() -> None:
    assert repeat_name("digits", 1) == "digits"
    assert repeat_of(repeat_name("digits", 12)) == ("digits", 12)
    assert repeat_of("digits") == ("digits", 1)
