"""The best constant answer, against scikit-learn's dummy estimators."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import accuracy_score, mean_absolute_error, mean_squared_error
from tests.report_data import Made, write_study

from torchstudy.analysis.constant import Constant, best_constant, least_lead
from torchstudy.analysis.intervals import mean_interval
from torchstudy.analysis.statistics import confirmed
from torchstudy.analysis.tables import Results, read_results
from torchstudy.report.caveats import NOTHING_LEARNED, headline
from torchstudy.report.story import Story


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(write_study(tmp_path_factory.mktemp("digits"), Made(trials=6)))


def test_the_most_frequent_class_is_what_a_dummy_answers(results: Results) -> None:
    table = results.predictions["CNN"]
    own = table[table["split"] == "test"].drop_duplicates("item")
    seen, targets = np.zeros((len(own), 1)), own["target"].to_numpy(dtype=str)
    dummy = DummyClassifier(strategy="most_frequent").fit(seen, targets)
    found = best_constant(results, "test")
    assert found is not None
    assert found.score == accuracy_score(targets, dummy.predict(seen))
    assert (found.answer, found.items) == (dummy.predict(seen)[0], len(own))


@pytest.mark.parametrize(
    ("metric", "strategy", "measure"),
    [("mse", "mean", mean_squared_error), ("mae", "median", mean_absolute_error)],
)
def test_errors_of_numbers_have_a_dummy_too(
    results: Results, metric: str, strategy: str, measure: object
) -> None:
    targets = np.random.default_rng(1).lognormal(size=33)
    table = pd.DataFrame({"split": "test", "seed": 1, "item": range(33), "target_value": targets})
    table = table.astype({"split": "string", "seed": "Int64"})
    summary = {**results.summary, "objective": {"metric": metric, "direction": "minimize"}}
    numbers = replace(results, predictions={"CNN": table}, summary=summary)
    dummy = DummyRegressor(strategy=strategy).fit(targets[:, None], targets)
    found = best_constant(numbers, "test")
    assert found is not None
    assert callable(measure)
    assert found.score == pytest.approx(measure(targets, dummy.predict(targets[:, None])))
    assert best_constant(numbers, "select") is None


def test_a_score_that_is_the_constants_but_for_rounding_is_no_better() -> None:
    """The mean of three scores of 0.8 is 0.8000000000000002."""
    constant = Constant(answer="7", score=0.8, items=25)
    score = float(np.mean([0.8, 0.8, 0.8]))
    assert score > 0.8
    assert not constant.is_beaten_by(score, 1)
    assert constant.is_beaten_by(0.8 + 1 / 75, 1)
    assert not constant.is_beaten_by(0.8 + 1 / 75, -1)


def test_what_is_counted_from_one_is_rounded_like_one() -> None:
    """The r2 of the mean itself may come out as 2e-16, and so may that of a network."""
    explained = Constant(answer=0.5, score=0.0, items=25, is_below_one=True)
    assert not explained.is_beaten_by(3e-16, 1)
    assert explained.is_beaten_by(1e-6, 1)
    error = Constant(answer=0.5, score=3e-16, items=25)
    assert error.is_beaten_by(1e-16, -1)


def test_a_family_is_set_against_the_constant_on_the_same_items(results: Results) -> None:
    """How far right answers are ahead of the constant's, item by item: against its definition."""
    constant = best_constant(results, "test")
    assert constant is not None
    table = results.predictions["CNN"]
    own = table[(table["split"] == "test") & table["seed"].isin(confirmed(results, "CNN")["seed"])]
    right = own.pivot(index="seed", columns="item", values="is_correct").astype(float)
    is_it = own.drop_duplicates("item").set_index("item")["target"].eq(constant.answer)
    apart = right - is_it[right.columns].astype(float)
    wanted = mean_interval(apart.to_numpy(dtype=float)).low
    assert least_lead(results, "CNN", "test", constant, np.nan) == pytest.approx(wanted)
    assert wanted > 0.7
    bare = replace(results, predictions={})
    assert np.isnan(least_lead(bare, "CNN", "test", constant, np.nan))


def test_a_study_without_predictions_knows_no_constant(results: Results) -> None:
    assert best_constant(replace(results, predictions={}), "test") is None


def test_classifiers_that_are_no_better_than_the_most_frequent_class_have_learned_nothing(
    results: Results,
) -> None:
    rare = {
        name: table.assign(target="7", is_correct=table["is_correct"])
        for name, table in results.predictions.items()
    }
    found = headline(Story(replace(results, predictions=rare)))
    assert found.title == NOTHING_LEARNED
    said = "On the 270 test images, always answering the most frequent class, 7, has 100.0% test"
    assert found.sentences[0].startswith(said)
    assert headline(Story(results)).title.startswith("CNN wins")


def test_without_confirmation_it_is_judged_on_validation(tmp_path: Path) -> None:
    results = read_results(write_study(tmp_path, Made(trials=6, confirm=False)))
    table = pd.DataFrame({"split": "valid", "seed": 1, "item": range(9), "target": "7"})
    table = table.astype({"split": "string", "seed": "Int64", "target": "string"})
    found = headline(Story(replace(results, predictions={"CNN": table})))
    assert found.title == NOTHING_LEARNED
    assert found.sentences[0].startswith("On the 9 validation images, always answering")
