"""The columns by which hyperparameters enter a model of the scores."""

import numpy as np
import pandas as pd
import pytest
from tests.simulated import SPACE, simulated

from torchstudy.analysis.terms import domain_of, domains_of, places, terms_of
from torchstudy.domains import Choice, Float, Int


@pytest.mark.parametrize("name", SPACE.domains)
def test_a_domain_is_read_from_its_description(name: str) -> None:
    assert domain_of(SPACE.domains[name].describe()).describe() == SPACE.domains[name].describe()


@pytest.mark.parametrize("name", ["learning_rate", "width", "depth", "dropout"])
def test_numbers_lie_where_the_space_has_them(name: str) -> None:
    domain = SPACE.domains[name]
    values = [SPACE.sample(np.random.default_rng(seed))[name] for seed in range(5)]
    expected = [domain.to_unit(value) for value in values]
    assert places(domain, pd.Series(values)) == pytest.approx(expected)


def test_what_lies_beyond_a_bound_is_put_on_it_and_what_is_missing_stays_so() -> None:
    column = pd.Series([0.0, 0.5, 9.0, None], dtype="float64")
    assert places(Float(0.1, 0.5), column) == pytest.approx([0, 1, 1, np.nan], nan_ok=True)


def test_a_conditional_hyperparameter_has_columns_only_where_it_exists() -> None:
    trials = simulated(0, trials=60).trials
    term = next(term for term in terms_of(SPACE.domains, trials) if term.name == "momentum")
    is_there = (trials["config.optimizer"] == "sgd").to_numpy()
    assert (term.active == is_there).all()
    assert (term.main[~is_there] == 0).all()
    assert term.main[is_there].mean(axis=0) == pytest.approx(np.zeros(3), abs=1e-12)


def test_conditional_categories_are_zero_where_they_do_not_exist() -> None:
    kinds = pd.array([*["a", "b", "c"] * 4, *[None] * 8], dtype="string")
    domains = {"kind": Choice("a", "b", "c", when={"parent": 1})}
    (term,) = terms_of(domains, pd.DataFrame({"config.kind": kinds}))
    assert term.active.tolist() == [True] * 12 + [False] * 8
    assert (term.main[12:] == 0).all()


def test_values_have_the_columns_of_the_trials_that_have_them() -> None:
    trials = simulated(0, trials=60).trials
    for term in terms_of(SPACE.domains, trials):
        values = trials[f"config.{term.name}"][term.active]
        assert term.at(list(values)) == pytest.approx(term.main[term.active])


def test_degrees_and_categories_are_no_more_than_the_values_tried() -> None:
    trials = pd.DataFrame(
        {
            "config.depth": pd.array([1, 2] * 10, dtype="Int64"),
            "config.kind": pd.array(["a", "c"] * 10, dtype="string"),
            "config.alone": pd.array([3] * 20, dtype="Int64"),
        }
    )
    domains = {"depth": Int(1, 5), "kind": Choice("a", "b", "c"), "alone": Int(1, 5)}
    found = {term.name: term for term in terms_of(domains, trials)}
    assert found.keys() == {"depth", "kind"}
    assert found["depth"].main.shape == (20, 1)
    assert found["kind"].levels == ("a", "c")


def test_numbers_and_truths_are_found_in_a_column_that_is_text_for_another_family() -> None:
    trials = pd.DataFrame(
        {
            "config.skip": pd.array(["True", "False"] * 10, dtype="string"),
            "config.width": pd.array([str(8 + n) for n in range(20)], dtype="string"),
        }
    )
    found = terms_of({"skip": Choice(True, False), "width": Int(8, 64)}, trials)
    assert [term.main.shape[1] for term in found] == [1, 3]


def test_what_fewer_than_ten_trials_have_is_left_out() -> None:
    trials = simulated(0, trials=9).trials
    assert terms_of(SPACE.domains, trials) == []


def test_a_space_without_conditions_or_priors_is_read_too() -> None:
    described = {"x": {"type": "float", "low": 0.0, "high": 1.0, "default": 0.5}}
    assert domains_of(described)["x"].size == np.inf
