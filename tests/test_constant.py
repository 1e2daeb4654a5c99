"""The best constant answer, against scikit-learn's dummy estimators."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import accuracy_score, mean_absolute_error, mean_squared_error
from tests.report_data import Made, write_study

from torchstudy.analysis.constant import best_constant
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
