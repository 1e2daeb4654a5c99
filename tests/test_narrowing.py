import math

import pytest

from torchstudy.domains import MISSING, Choice, ChoiceDomain, Domain, Float, Int
from torchstudy.narrowing import as_domain, changed, conditions_from_ax, domain_from_ax

OPTIMIZER = Choice("adamw", "adam", "sgd", default="adamw")
RATE = Float(1e-4, 1e-1, log=True, default=3e-3)
WIDTH = Int(8, 64, log=True, default=32)
FIXED_PATIENCE = ChoiceDomain(values=(10,), default=10, is_open=True)


def test_a_domain_stands_for_itself_and_a_value_for_one_choice() -> None:
    assert as_domain(RATE) is RATE
    assert as_domain(128) == ChoiceDomain(values=(128,), default=128)


@pytest.mark.parametrize("value", [None, [1, 2], (1, 2), {"low": 1}, math.nan, math.inf, object])
def test_what_is_no_value_is_refused_with_what_would_be_accepted(value: object) -> None:
    assert as_domain(value) == f"cannot be {value!r}; give a value, Float, Int or Choice"


@pytest.mark.parametrize(
    ("old", "change", "problem"),
    [
        (RATE, "fast", "takes float values, but 'fast' was given"),
        (RATE, True, "takes float values, but True was given"),
        (RATE, Int(1, 2), "takes float values, but Int(1, 2) was given"),
        (WIDTH, 16.0, "takes int values, but 16.0 was given"),
        (WIDTH, "16", "takes int values, but '16' was given"),
        (WIDTH, Float(8, 16), "takes int values, but Float(8, 16) was given"),
        (WIDTH, Choice(8, 16.5), "takes int values, but 8, 16.5 was given"),
        (OPTIMIZER, 1, "takes str values, but 1 was given"),
        (Choice(True, False), "yes", "takes bool values, but 'yes' was given"),
        (
            OPTIMIZER,
            "adma",
            "cannot be 'adma': 'adma' is not one of 'adamw', 'adam', 'sgd' (did you mean 'adam'?)",
        ),
        (
            OPTIMIZER,
            Choice("sgd", "lion"),
            "cannot be 'lion': 'lion' is not one of 'adamw', 'adam', 'sgd'",
        ),
        (Choice(3, 5), Int(3, 5), "is a choice; give one or more of 3, 5"),
        (RATE, Float(1.0, 0.1), "has an inverted range: low 1.0 is above high 0.1"),
        (
            RATE,
            Float(0.1, 0.1),
            "has an empty range: low and high are both 0.1; write the value itself",
        ),
        (
            RATE,
            Float(0.0, 0.1, log=True),
            "has a log scale from 0.0: a log range must start above 0",
        ),
        (
            RATE,
            Float(0.1, 0.2, default=3),
            "has a default outside its range: 3 is not in [0.1, 0.2]",
        ),
        (WIDTH, None, "cannot be None; give a value, Float, Int or Choice"),
        (OPTIMIZER, Choice(), "has no values to choose from"),
        (
            WIDTH,
            Choice([8, 16]),
            "has value [8, 16], which is not a number, a text or a boolean",
        ),
    ],
)
def test_a_change_that_does_not_fit_says_why(old: Domain, change: object, problem: str) -> None:
    assert changed(old, change) == problem


def test_a_narrowed_range_keeps_a_default_inside_it_without_a_note() -> None:
    assert changed(RATE, Float(1e-3, 1e-2, log=True)) == (
        Float(1e-3, 1e-2, log=True, default=3e-3),
        None,
    )


def test_a_default_outside_the_narrowed_range_is_clipped_and_that_is_said() -> None:
    new, note = changed(WIDTH, Int(8, 16))
    assert new == Int(8, 16, default=16)
    assert note == "recipe 32 is outside, 16 is used"


def test_a_default_outside_the_narrowed_choice_becomes_its_first_value() -> None:
    new, note = changed(OPTIMIZER, Choice("sgd", "adam"))
    assert new == Choice("sgd", "adam", default="sgd")
    assert note == "recipe 'adamw' is outside, 'sgd' is used"


def test_a_default_given_with_the_change_is_used_without_a_note() -> None:
    assert changed(WIDTH, Int(8, 16, default=8)) == (Int(8, 16, default=8), None)


def test_fixing_a_value_needs_no_note() -> None:
    assert changed(OPTIMIZER, "sgd") == (Choice("sgd", default="sgd"), None)


def test_a_range_may_be_moved_or_widened() -> None:
    new, _ = changed(WIDTH, Int(64, 256))
    assert new == Int(64, 256, default=64)
    assert changed(WIDTH, 512) == (Choice(512, default=512), None)


def test_a_range_may_become_a_choice() -> None:
    new, note = changed(WIDTH, Choice(16, 64))
    assert new == Choice(16, 64, default=16)
    assert note == "recipe 32 is outside, 16 is used"


def test_whole_numbers_are_made_real_where_real_ones_belong() -> None:
    new, _ = changed(RATE, 1)
    assert new == Choice(1.0, default=1.0)
    assert isinstance(new.default, float)
    choice, _ = changed(RATE, Choice(1, 2, default=2))
    assert [type(value) for value in (*choice.values, choice.default)] == [float] * 3


def test_a_condition_stays_unless_the_change_brings_one() -> None:
    conditional = Float(0.5, 0.99, default=0.9, when={"optimizer": "sgd"})
    kept, _ = changed(conditional, Float(0.8, 0.95))
    assert kept.when == (("optimizer", "sgd"),)
    fixed, _ = changed(conditional, 0.9)
    assert fixed.when == (("optimizer", "sgd"),)
    moved, _ = changed(conditional, Float(0.8, 0.95, when={"schedule": "constant"}))
    assert moved.when == (("schedule", "constant"),)


def test_an_open_choice_takes_other_values_of_its_kind_and_stays_open() -> None:
    opened, note = changed(FIXED_PATIENCE, Int(5, 20))
    assert opened == Int(5, 20, default=10)
    assert note is None
    other, _ = changed(FIXED_PATIENCE, Choice(5, 20))
    assert other == ChoiceDomain(values=(5, 20), default=5, is_open=True)
    assert changed(FIXED_PATIENCE, "long") == "takes int values, but 'long' was given"


@pytest.mark.slow  # the first test to import ax waits several seconds for it
def test_ax_parameter_configs_are_accepted_as_changes() -> None:
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    rate, note = changed(RATE, RangeParameterConfig("x", (1e-2, 1e-1), "float", scaling="log"))
    assert rate == Float(1e-2, 1e-1, log=True, default=1e-2)
    assert note == "recipe 0.003 is outside, 0.01 is used"
    optimizer, _ = changed(OPTIMIZER, ChoiceParameterConfig("x", ["adam", "sgd"], "str"))
    assert optimizer == Choice("adam", "sgd", default="adam")
    assert changed(WIDTH, RangeParameterConfig("x", (8, 16), "float")) == (
        "takes int values, but Float(8.0, 16.0) was given"
    )


@pytest.mark.slow  # the first test to import ax waits several seconds for it
def test_an_ax_parameter_config_becomes_the_same_domain() -> None:
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    def ranged(*bounds: float, kind: str, **rest: object) -> Domain:
        return domain_from_ax(RangeParameterConfig("x", bounds, kind, **rest))

    def choice(*values: object, kind: str) -> Domain:
        return domain_from_ax(ChoiceParameterConfig("x", list(values), kind))

    assert ranged(0, 1, kind="float") == Float(0.0, 1.0)
    assert ranged(1, 9, kind="int", scaling="log") == Int(1, 9, log=True)
    assert ranged(2, 8, kind="int", step_size=3) == Choice(2, 5, 8)
    assert ranged(0, 1, kind="float", step_size=0.25) == Choice(0.0, 0.25, 0.5, 0.75, 1.0)
    assert choice("a", "b", kind="str") == Choice("a", "b")
    whole = choice(1, 2, kind="float")
    assert isinstance(whole, ChoiceDomain)
    assert [type(value) for value in whole.values] == [float, float]
    assert whole.default is MISSING


@pytest.mark.slow  # the first test to import ax waits several seconds for it
def test_conditions_are_read_from_ax_choices_alone() -> None:
    from ax.api.configs import ChoiceParameterConfig

    given = {
        "head": ChoiceParameterConfig(
            "head", ["a", "b"], "str", dependent_parameters={"a": ["x", "y"], "b": ["z"]}
        ),
        "plain": OPTIMIZER,
    }
    assert conditions_from_ax(given) == {
        "x": (("head", "a"),),
        "y": (("head", "a"),),
        "z": (("head", "b"),),
    }
