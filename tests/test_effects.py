"""Curves of effects have their best where the best is, and bands that say how sure that is."""

from dataclasses import replace

import numpy as np
import pytest
from tests.simulated import simulated

from torchstudy.analysis.effects import COLUMNS, MANY, TRIED_COLUMNS, effects, shown, tried
from torchstudy.analysis.importance import weighed


def test_the_best_learning_rate_is_where_the_simulation_has_it() -> None:
    """At 10 ** -2.15; the flat top of a parabola leaves the estimate a factor of 3."""
    for seed in range(3):
        table = effects(simulated(seed, trials=100), "CNN")
        own = table[table["hyperparameter"] == "learning_rate"].reset_index(drop=True)
        best = float(own.loc[own["expected"].idxmax(), "value"])
        assert 10**-2.65 < best < 10**-1.65
        ends = own["expected"].iloc[[0, -1]]
        assert (ends < own["expected"].max() - 0.02).all()


def test_curves_rise_in_value_inside_what_was_tried_and_inside_their_bands() -> None:
    results = simulated(1, trials=60)
    found = weighed(results, "CNN")
    table = effects(results, "CNN", found)
    assert list(table.columns) == COLUMNS
    assert (table["low"] <= table["expected"]).all()
    assert (table["expected"] <= table["high"]).all()
    scores = found.trials["score"]
    assert table["low"].min() >= scores.min()
    assert table["high"].max() <= scores.max()
    for name, own in table.groupby("hyperparameter"):
        values = results.trials[f"config.{name}"]
        assert set(own["value"]) <= set(values) or list(own["value"]) == sorted(own["value"])


def test_bands_narrow_with_more_trials() -> None:
    widths = []
    for trials in (40, 400):
        table = effects(simulated(5, trials=trials), "CNN")
        own = table[table["hyperparameter"] == "learning_rate"]
        widths.append(float((own["high"] - own["low"]).median()))
    assert widths[1] < widths[0] / 2


def test_bands_are_those_of_the_curve_and_not_of_trials() -> None:
    results = simulated(5, trials=100)
    own = effects(results, "CNN").query("hyperparameter == 'learning_rate'")
    middle = own.iloc[len(own) // 2]
    scores = weighed(results, "CNN").trials["score"]
    spread = scores.quantile(0.75) - scores.quantile(0.25)
    assert middle["high"] - middle["low"] < spread / 5


def test_bands_hold_the_true_order_of_optimizers() -> None:
    results = simulated(1, trials=200, matters=("optimizer",), noise=0.2)
    own = effects(results, "CNN").set_index("value")
    own = own[own["hyperparameter"] == "optimizer"]
    assert list(own.index) == ["adamw", "adam", "sgd"]
    assert own.loc["sgd", "high"] < own.loc["adamw", "low"]


def test_smaller_values_are_better_where_the_objective_says_so() -> None:
    results = simulated(2, trials=80)
    summary = results.summary | {"objective": {"metric": "loss", "direction": "minimize"}}
    trials = results.trials.assign(best_valid_loss=1 - results.trials["best_valid_accuracy"])
    epochs = results.epochs.assign(valid_loss=1 - results.epochs["valid_accuracy"])
    table = effects(replace(results, summary=summary, trials=trials, epochs=epochs), "CNN")
    same = effects(results, "CNN")
    assert list(table["expected"]) == pytest.approx(list(1 - same["expected"]))
    assert list(table["low"]) == pytest.approx(list(1 - same["high"]))


def test_those_above_the_floor_are_shown_and_two_where_fewer_are() -> None:
    found = weighed(simulated(0, trials=60), "CNN")
    names = list(found.table["hyperparameter"])
    assert shown(found) == names[:2]
    many = replace(found, table=found.table.assign(is_above=True))
    assert shown(many) == names[:MANY]


def test_every_trial_with_a_score_is_beside_its_value() -> None:
    results = simulated(0, trials=30)
    found = weighed(results, "CNN")
    points = tried(found)
    assert list(points.columns) == TRIED_COLUMNS
    own = points[points["hyperparameter"] == "learning_rate"].set_index("trial")
    assert len(own) == 30
    column = results.trials.set_index("trial")["config.learning_rate"]
    assert np.array_equal(own["value"].astype(float), column.astype(float))


def test_integers_stay_integers() -> None:
    found = weighed(simulated(0, trials=30), "CNN")
    for name in ("depth", "width"):
        order = found.table["hyperparameter"] == name
        first = replace(found, table=found.table[order].assign(is_above=True))
        table = effects(simulated(0, trials=30), "CNN", first)
        assert all(type(value) is int for value in table["value"])


def test_without_importance_there_are_no_curves() -> None:
    results = simulated(0, trials=8)
    assert list(effects(results, "CNN").columns) == COLUMNS
    assert effects(results, "CNN").empty
    assert tried(weighed(results, "CNN")).empty
