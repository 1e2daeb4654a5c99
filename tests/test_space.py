import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchstudy.domains import (
    MISSING,
    Choice,
    ChoiceDomain,
    Domain,
    Float,
    FloatDomain,
    Int,
    IntDomain,
    kind_of,
)
from torchstudy.errors import SpaceError
from torchstudy.records import Objective
from torchstudy.space import Config, SearchSpace
from torchstudy.values import Value

quick = settings(max_examples=60, deadline=None)
quicker = settings(max_examples=15, deadline=None)  # each builds an Ax experiment

OBJECTIVE = Objective(metric="accuracy", direction="maximize")


def nested() -> SearchSpace:
    """Three levels of conditions, children listed before their parents."""
    return SearchSpace(
        {
            "temperature": Float(0.1, 10.0, log=True, when={"gate": True}),
            "gate": Choice(True, False, default=False, when={"norm": "batch"}),
            "norm": Choice("none", "batch", default="batch"),
            "groups": Choice(1, 2, 4, when={"norm": "none"}),
            "width": Int(8, 64, log=True, default=16),
            "epochs": 27,
        }
    )


def floats() -> st.SearchStrategy[Domain]:
    linear = st.builds(
        lambda low, span: Float(low, low + span), st.floats(-100, 100), st.floats(0.1, 100)
    )
    log = st.builds(
        lambda low, ratio: Float(low, low * ratio, log=True), st.floats(1e-4, 10), st.floats(2, 1e3)
    )
    return linear | log


def integers() -> st.SearchStrategy[Domain]:
    return st.builds(
        lambda low, span, log: Int(low, low + span, log=log and low > 0),
        st.integers(-3, 3),
        st.integers(1, 4),
        st.booleans(),
    )


def choices() -> st.SearchStrategy[Domain]:
    values: list[st.SearchStrategy[Any]] = [
        st.sampled_from("abcd"),
        st.integers(-5, 5),
        st.sampled_from([0.25, 0.5, 1, 2.5]),
        st.booleans(),
    ]
    lists = [st.lists(value, min_size=1, max_size=3, unique=True) for value in values]
    return st.one_of(lists).map(lambda chosen: Choice(*chosen))


@st.composite
def spaces(
    draw: st.DrawFn, domains: st.SearchStrategy[Domain] | None = None, most: int = 6
) -> SearchSpace:
    """Up to `most` hyperparameters in any order, conditions nested as it comes."""
    if domains is None:
        domains = floats() | integers() | choices() | choices()  # more parents to hang on
    made: dict[str, Domain] = {}
    for number in range(draw(st.integers(1, most))):
        needs: list[tuple[str, Value]] = [
            (name, value)
            for name, domain in made.items()
            if isinstance(domain, ChoiceDomain)
            for value in domain.values
        ]
        when = draw(st.sampled_from([None, *needs]))
        made[f"h{number}"] = replace(draw(domains), when=(when,) if when else ())
    return SearchSpace({name: made[name] for name in draw(st.permutations(list(made)))})


@st.composite
def narrowings(draw: st.DrawFn, space: SearchSpace) -> dict[str, object]:
    """A change within the domain for some of the hyperparameters."""
    names = draw(st.lists(st.sampled_from(list(space.domains)), unique=True))
    return {name: draw(_within(space.domains[name])) for name in names}


def _within(domain: Domain) -> st.SearchStrategy[object]:
    if isinstance(domain, ChoiceDomain):
        some = st.lists(st.sampled_from(domain.values), min_size=1, unique=True)
        return some.map(lambda values: Choice(*values)) | st.sampled_from(domain.values)
    places = st.lists(st.floats(0, 1), min_size=2, max_size=2)
    values = places.map(lambda both: sorted(domain.from_unit(place) for place in both))
    make: Callable[..., Any] = Int if isinstance(domain, IntDomain) else Float
    return values.map(lambda ends: ends[0] if ends[0] == ends[1] else make(*ends))


def drawn(space: SearchSpace, seed: int, number: int = 5) -> list[Config]:
    generator = np.random.default_rng(seed)
    return [space.sample(generator) for _ in range(number)]


def assert_same(found: Config, expected: Config) -> None:
    """Equal, but for the rounding of exp and log in real values."""
    assert list(found) == list(expected)
    for name, value in expected.items():
        if isinstance(value, float):
            assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-9)
        else:
            assert found[name] == value


# Configurations


@given(spaces(), st.integers(0, 2**32 - 1))
@quick
def test_every_sample_is_valid_as_it_is(space: SearchSpace, seed: int) -> None:
    for config in drawn(space, seed):
        checked = space.validate(config)
        assert checked == config
        assert list(checked) == list(config)
        assert space.validate(checked) == checked


@given(spaces(), st.integers(0, 2**32 - 1))
@quick
def test_a_sample_comes_back_from_its_point_in_the_unit_cube(space: SearchSpace, seed: int) -> None:
    for config in drawn(space, seed):
        point = space.to_unit(config)
        assert len(point) == len(space.dimensions)
        assert all(0 <= place <= 1 for place in point)
        assert_same(space.from_unit(point), config)


@given(spaces(), st.data())
@quick
def test_every_point_of_the_unit_cube_is_a_valid_configuration(
    space: SearchSpace, data: st.DataObject
) -> None:
    size = len(space.dimensions)
    point = data.draw(st.lists(st.floats(0, 1), min_size=size, max_size=size))
    config = space.from_unit(point)
    assert space.validate(config) == config


@given(spaces(), st.integers(0, 2**32 - 1))
@quick
def test_the_recipe_and_every_corner_are_valid(space: SearchSpace, seed: int) -> None:
    corners = list(space.corners())
    assert corners[0] == space.recipe
    for config in corners:
        assert space.validate(config) == config


@given(spaces())
@quick
def test_the_corners_reach_every_bound_and_every_choice(space: SearchSpace) -> None:
    reached = {(name, value) for config in space.corners() for name, value in config.items()}
    for name in space.dimensions:
        assert reached >= {(name, value) for value in space.domains[name].extremes}


@given(spaces(integers() | choices() | choices(), most=5))
@quick
def test_the_size_is_the_number_of_different_configurations(space: SearchSpace) -> None:
    assert space.size == len(every_config(space.declared))


def every_config(domains: Mapping[str, Domain]) -> set[frozenset[tuple[str, Value]]]:
    """All configurations, by trying all combinations: only the values whose parents agree count."""
    every = [[domain.from_unit(place) for place in places(domain)] for domain in domains.values()]
    combinations = [dict(zip(domains, values, strict=True)) for values in itertools.product(*every)]

    def exists(name: str, config: Config) -> bool:
        return all(
            config[parent] == value and exists(parent, config)
            for parent, value in domains[name].when
        )

    return {
        frozenset((name, value) for name, value in config.items() if exists(name, config))
        for config in combinations
    }


def places(domain: Domain) -> list[float]:
    if isinstance(domain, IntDomain):
        return [domain.to_unit(value) for value in range(domain.low, domain.high + 1)]
    assert isinstance(domain, ChoiceDomain)
    return [domain.to_unit(value) for value in domain.values]


def test_a_space_with_a_real_range_has_no_count() -> None:
    assert nested().size == float("inf")
    assert SearchSpace({"a": 1, "b": "x"}).size == 1
    assert SearchSpace({}).size == 1


def test_samples_are_uniform_on_each_scale() -> None:
    space = SearchSpace({"n": Int(1, 4), "c": Choice("a", "b"), "x": Float(1e-4, 1.0, log=True)})
    configs = drawn(space, seed=0, number=4000)
    # Six standard errors of a share: a fixed seed, and no other would fail once in 10,000 either.
    counts = Counter(config["n"] for config in configs)
    assert [counts[n] / 4000 for n in range(1, 5)] == pytest.approx([0.25] * 4, abs=0.041)
    assert np.mean([config["c"] == "a" for config in configs]) == pytest.approx(0.5, abs=0.048)
    assert np.mean([config["x"] < 1e-2 for config in configs]) == pytest.approx(0.5, abs=0.048)


def test_the_same_generator_gives_the_same_samples() -> None:
    assert drawn(nested(), seed=3) == drawn(nested(), seed=3)
    assert drawn(nested(), seed=3) != drawn(nested(), seed=4)


def test_a_configuration_lists_active_values_in_space_order() -> None:
    assert list(nested().recipe.items()) == [
        ("gate", False),
        ("norm", "batch"),
        ("width", 16),
        ("epochs", 27),
    ]


def test_only_what_varies_is_an_axis_of_the_unit_cube() -> None:
    assert nested().dimensions == ("temperature", "gate", "norm", "groups", "width")


def test_inactive_axes_lie_in_the_middle() -> None:
    space = nested()
    assert space.to_unit(space.recipe)[0] == 0.5
    assert space.to_unit(space.recipe)[3] == 0.5


def test_points_outside_the_cube_are_moved_to_its_border() -> None:
    space = SearchSpace({"n": Int(1, 4), "x": Float(0.0, 1.0)})
    assert space.from_unit([-0.5, 1.5]) == {"n": 1, "x": 1.0}


def test_a_point_of_the_wrong_length_is_refused() -> None:
    space = SearchSpace({"n": Int(1, 4), "x": Float(0.0, 1.0)})
    message = "a point needs 2 coordinates, one for each of n, x; 3 given"
    with pytest.raises(SpaceError, match=f"^{re.escape(message)}$"):
        space.from_unit([0.1, 0.2, 0.3])


def test_every_problem_of_a_configuration_is_listed_at_once() -> None:
    config = {"norm": "batch", "gate": False, "temperature": 1.0, "widht": 8, "epochs": 27}
    with pytest.raises(SpaceError) as caught:
        nested().validate(config)
    assert caught.value.problems == (
        "'widht' is not a hyperparameter here (did you mean 'width'?)",
        "width is missing",
        "temperature exists only when gate=True",
    )


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("width", 8.0, "width: 8.0 is not an integer"),
        ("width", 65, "width: 65 is not in [8, 64]"),
        ("norm", "layer", "norm: 'layer' is not one of 'none', 'batch'"),
        ("gate", 0, "gate: 0 is not one of True, False"),
        ("epochs", 28, "epochs: 28 is not one of 27"),
    ],
)
def test_a_value_that_does_not_belong_is_named(name: str, value: object, problem: str) -> None:
    space = nested()
    with pytest.raises(SpaceError) as caught:
        space.validate({**space.recipe, name: value})
    assert problem in caught.value.problems


def test_integers_become_floats_where_floats_belong() -> None:
    space = SearchSpace({"x": Float(0, 2), "c": Choice(0.5, 1)})
    config = space.validate({"x": 1, "c": 1})
    assert config == {"x": 1.0, "c": 1.0}
    assert [type(value) for value in config.values()] == [float, float]
    assert space.validate(config) == config


def test_what_is_missing_takes_its_default_and_what_is_inactive_is_left_out() -> None:
    space = nested()
    assert space.completed({"norm": "none", "gate": True}) == {
        "norm": "none",
        "groups": 1,
        "width": 16,
        "epochs": 27,
    }
    assert space.completed({}) == space.recipe


def test_completing_refuses_unknown_names() -> None:
    with pytest.raises(SpaceError, match=r"^'nrom' is not .* \(did you mean 'norm'\?\)$"):
        nested().completed({"nrom": "none"})


# Declarations


def test_every_problem_of_a_declaration_is_listed_at_once() -> None:
    with pytest.raises(SpaceError) as caught:
        SearchSpace(
            {
                "a": None,
                "b": Float(1.0, 0.0),
                "c": Float(0.0, 1.0, when={"d": "x"}),
                "dd": Choice("x", "y", when={"dd": "x"}),
                "e": Choice(1, 2, when={"b": 0.5}),
            }
        )
    assert caught.value.problems == (
        "a cannot be None; give a value, Float, Int or Choice",
        "b has an inverted range: low 1.0 is above high 0.0",
        "c depends on 'd', which is not a hyperparameter here (did you mean 'dd'?)",
        "dd depends on itself",
        "e depends on b, which is a range; a condition needs a Choice",
    )
    assert str(caught.value).startswith("5 problems:\n  - a cannot be None")


def test_equal_declarations_make_equal_spaces() -> None:
    assert nested() == nested()
    assert nested() != SearchSpace({**nested().declared, "width": 8})


def test_a_space_is_described_in_json() -> None:
    described = json.loads(json.dumps(nested().describe()))
    assert list(described) == list(nested().domains)
    assert described["gate"] == {
        "type": "choice",
        "values": [True, False],
        "default": False,
        "when": {"norm": "batch"},
    }


# Narrowing


@given(spaces(), st.data(), st.integers(0, 2**32 - 1))
@quick
def test_what_is_drawn_after_narrowing_is_valid_before_and_after(
    space: SearchSpace, data: st.DataObject, seed: int
) -> None:
    narrowed, _ = space.narrowed(data.draw(narrowings(space)))
    for config in [*drawn(narrowed, seed), *narrowed.corners()]:
        assert narrowed.validate(config) == config
        assert space.validate(config) == config


@given(spaces(integers() | choices(), most=5), st.data())
@quick
def test_narrowing_never_makes_more_configurations(space: SearchSpace, data: st.DataObject) -> None:
    narrowed, _ = space.narrowed(data.draw(narrowings(space)))
    assert 1 <= narrowed.size <= space.size


@given(spaces(), st.data())
@quick
def test_narrowing_step_by_step_is_narrowing_at_once(
    space: SearchSpace, data: st.DataObject
) -> None:
    changes = data.draw(narrowings(space))
    at_once, _ = space.narrowed(changes)
    stepwise = space
    for name, change in changes.items():
        if name in stepwise.domains:  # an earlier step may have made it impossible
            stepwise, _ = stepwise.narrowed({name: change})
    assert stepwise == at_once


def test_narrowing_nothing_changes_nothing() -> None:
    assert nested().narrowed({}) == (nested(), ())


def test_notes_name_the_hyperparameters_whose_recipe_moved() -> None:
    narrowed, notes = nested().narrowed({"width": Int(32, 64), "norm": Choice("none", "batch")})
    assert notes == ("width: recipe 16 is outside, 32 is used",)
    assert narrowed.recipe["width"] == 32


def test_fixing_a_parent_drops_or_frees_its_children() -> None:
    plain, _ = nested().narrowed({"norm": "none"})
    assert list(plain.domains) == ["norm", "groups", "width", "epochs"]
    assert plain.domains["groups"].when == ()
    gated, _ = nested().narrowed({"norm": "batch", "gate": True})
    assert gated.dimensions == ("temperature", "width")
    assert gated.domains["temperature"].when == ()


def test_a_value_fixed_for_a_child_that_cannot_exist_is_dropped_silently() -> None:
    narrowed, notes = nested().narrowed({"norm": "none", "temperature": 1.0})
    assert "temperature" not in narrowed.domains
    assert notes == ()


def test_a_condition_on_a_value_that_was_fixed_holds_once_it_is_opened() -> None:
    space = SearchSpace(
        {
            "layers": ChoiceDomain(values=(0,), default=0, is_open=True),
            "shortcut": Choice(True, False, when={"layers": 0}),
        }
    )
    assert space.domains["shortcut"].when == ()
    opened, _ = space.narrowed({"layers": Choice(0, 1)})
    assert opened.domains["shortcut"].when == (("layers", 0),)
    assert opened.size == 3


def test_every_change_that_does_not_fit_is_listed_at_once() -> None:
    with pytest.raises(SpaceError) as caught:
        nested().narrowed(
            {
                "widht": 8,
                "width": "wide",
                "norm": "btach",
                "temperature": Float(1.0, 2.0, when={"gaet": True}),
            }
        )
    assert caught.value.problems == (
        "'widht' is not a hyperparameter here (did you mean 'width'?)",
        "width takes int values, but 'wide' was given",
        "norm cannot be 'btach': 'btach' is not one of 'none', 'batch' (did you mean 'batch'?)",
        "temperature depends on 'gaet', which is not a hyperparameter here (did you mean 'gate'?)",
    )


def test_two_changes_that_depend_on_each_other_are_refused() -> None:
    space = SearchSpace({"a": Choice("x", "y"), "b": Choice("x", "y")})
    with pytest.raises(SpaceError) as caught:
        space.narrowed(
            {"a": Choice("x", "y", when={"b": "x"}), "b": Choice("x", "y", when={"a": "x"})}
        )
    assert caught.value.problems == (
        "a depends on itself through b",
        "b depends on itself through a",
    )


# Ax


@pytest.mark.slow  # the first test to import ax waits several seconds for it
@given(spaces())
@quicker
def test_a_space_comes_back_from_its_ax_parameter_configs(space: SearchSpace) -> None:
    expected = {name: plain(space.domains[name]) for name in space.dimensions}
    found = SearchSpace.from_ax(space.to_ax())
    assert dict(found.domains) == expected
    assert list(found.domains) == list(expected)


def plain(domain: Domain) -> Domain:
    """The domain without what an Ax config does not hold: its own default, whether it is open."""
    domain = replace(domain, default=MISSING).with_default()
    return replace(domain, is_open=False) if isinstance(domain, ChoiceDomain) else domain


@pytest.mark.slow  # the first test to import ax waits several seconds for it
@given(spaces(), st.integers(0, 2**32 - 1))
@quicker
def test_ax_accepts_every_space_and_its_samples(space: SearchSpace, seed: int) -> None:
    search_space = space.ax_client("study/family", [OBJECTIVE])._experiment.search_space
    assert set(search_space.parameters) == set(space.dimensions)
    for name, parameter in search_space.parameters.items():
        assert_same_parameter(parameter, space.domains[name])
    for config in drawn(space, seed):
        varying = {name: value for name, value in config.items() if name in space.dimensions}
        assert search_space.check_membership(
            varying, raise_error=True, check_all_parameters_present=not conditional(space)
        )


def conditional(space: SearchSpace) -> bool:
    return any(domain.when for domain in space.domains.values())


def assert_same_parameter(parameter: Any, domain: Domain) -> None:
    kinds = {"STRING": "str", "BOOL": "bool", "INT": "int", "FLOAT": "float"}
    assert kinds[parameter.parameter_type.name] == kind_of(domain)
    if isinstance(domain, ChoiceDomain):
        assert set(parameter.values) == set(domain.values)
    else:
        assert isinstance(domain, FloatDomain | IntDomain)
        bounds = (parameter.lower, parameter.upper, parameter.log_scale)
        assert bounds == (domain.low, domain.high, domain.log)


@pytest.mark.slow  # the first test to import ax waits several seconds for it
def test_ax_is_told_of_nested_conditions() -> None:
    client = nested().ax_client("study/family", [OBJECTIVE], seed=0)
    parameters = client._experiment.search_space.parameters
    assert client._experiment.name == "study/family"
    assert parameters["norm"].dependents == {"batch": ["gate"], "none": ["groups"]}
    assert parameters["gate"].dependents == {True: ["temperature"]}
    assert "epochs" not in parameters


@pytest.mark.slow  # the first test to import ax waits several seconds for it
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_ax_is_told_which_way_is_better(direction: Any) -> None:
    objective = Objective(metric="score", direction=direction)
    config = nested().ax_client("a", [objective])._experiment.optimization_config
    assert config.objective.minimize is (direction == "minimize")
    assert list(config.metric_names) == ["score"]


@pytest.mark.slow  # the first test to import ax waits several seconds for it
def test_a_space_may_be_declared_by_ax_parameter_configs() -> None:
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    choice = ChoiceParameterConfig(
        "head", ["network", "logistic"], "str", dependent_parameters={"network": ["dropout"]}
    )
    dropout = RangeParameterConfig("dropout", (0, 1), "float")
    space = SearchSpace({"head": choice, "dropout": dropout})
    assert space.domains["dropout"] == Float(0.0, 1.0, default=0.5, when={"head": "network"})
    assert SearchSpace.from_ax([choice, dropout]) == space
    with pytest.raises(SpaceError, match=r"^head has dependent 'dropout', which is not a hyper"):
        SearchSpace({"head": choice})


@pytest.mark.slow  # the first test to import ax waits several seconds for it
def test_an_ax_choice_given_as_a_change_may_state_conditions() -> None:
    from ax.api.configs import ChoiceParameterConfig

    space = SearchSpace({"head": Choice("network", "logistic"), "dropout": Float(0.0, 1.0)})
    values = ["network", "logistic"]
    narrowed, _ = space.narrowed(
        {
            "head": ChoiceParameterConfig(
                "head", values, "str", dependent_parameters={"network": ["dropout"]}
            )
        }
    )
    assert narrowed.domains["dropout"].when == (("head", "network"),)
    with pytest.raises(SpaceError, match=r"^head has dependent 'drop', .* mean 'dropout'\?\)$"):
        space.narrowed(
            {
                "head": ChoiceParameterConfig(
                    "head", values, "str", dependent_parameters={"network": ["drop"]}
                )
            }
        )
