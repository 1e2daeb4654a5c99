import dataclasses
import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchstudy.domains import MISSING, Choice, Domain, Float, Int, kind_of, spelled
from torchstudy.values import is_integer, is_number, is_value

quick = settings(max_examples=60, deadline=None)


def test_a_declaration_is_a_frozen_domain() -> None:
    domain = Float(0.0, 1.0, default=0.5, when={"optimizer": "sgd"})
    assert isinstance(domain, Domain)
    assert domain.when == (("optimizer", "sgd"),)
    with pytest.raises(dataclasses.FrozenInstanceError):
        domain.low = 0.2


@pytest.mark.parametrize(
    "domain",
    [
        Float(0.0, 1.0),
        Float(1e-4, 1e-1, log=True, default=3e-3),
        Float(-1, 1, default=0),
        Int(-3, 3, default=0),
        Int(1, 512, log=True),
        Choice("a", "b", default="b"),
        Choice(True, False),
        Choice(0.5, 1, default=1.0),
        Choice("only"),
    ],
    ids=spelled,
)
def test_a_sound_declaration_has_no_problems(domain: Domain) -> None:
    assert domain.problems() == []


@pytest.mark.parametrize(
    ("domain", "problems"),
    [
        (Float(1.0, 0.0), ["has an inverted range: low 1.0 is above high 0.0"]),
        (Int(8, 3), ["has an inverted range: low 8 is above high 3"]),
        (
            Float(1.0, 1.0),
            ["has an empty range: low and high are both 1.0; write the value itself"],
        ),
        (Int(4, 4), ["has an empty range: low and high are both 4; write the value itself"]),
        (
            Float(0.0, 1.0, log=True),
            ["has a log scale from 0.0: a log range must start above 0"],
        ),
        (Int(0, 8, log=True), ["has a log scale from 0: a log range must start above 0"]),
        (
            Float(1, -1, log=True),
            ["has an inverted range: low 1 is above high -1"],
        ),
        (
            Float(-1.0, -2.0, log=True),
            [
                "has an inverted range: low -1.0 is above high -2.0",
                "has a log scale from -1.0: a log range must start above 0",
            ],
        ),
        (
            Float(math.nan, math.inf),
            ["has bound nan, which is not a number", "has bound inf, which is not a number"],
        ),
        (
            Float("0", True),
            ["has bound '0', which is not a number", "has bound True, which is not a number"],
        ),
        (Int(1.0, 8), ["has bound 1.0, which is not an integer"]),
        (
            Float(0.0, 1.0, default=2.0),
            ["has a default outside its range: 2.0 is not in [0.0, 1.0]"],
        ),
        (Int(1, 8, default=2.5), ["has a default outside its range: 2.5 is not an integer"]),
        (Int(1, 8, default=True), ["has a default outside its range: True is not an integer"]),
        (Choice(), ["has no values to choose from"]),
        (Choice("a", 1), ["mixes kinds of values: 'a', 1"]),
        (Choice(True, 0), ["mixes kinds of values: True, 0"]),
        (Choice(3, 5, 3), ["lists a value twice: 3, 5, 3"]),
        (Choice("a", "b", default="c"), ["has default 'c', which is not among 'a', 'b'"]),
        (Choice(0, 1, default=True), ["has default True, which is not among 0, 1"]),
        (Choice([3, 5]), ["has value [3, 5], which is not a number, a text or a boolean"]),
        (Choice("a", None), ["has value None, which is not a number, a text or a boolean"]),
        (Choice(1.0, math.nan), ["has value nan, which is not a number, a text or a boolean"]),
    ],
)
def test_a_declaration_that_cannot_be_says_what_is_wrong(
    domain: Domain, problems: list[str]
) -> None:
    assert domain.problems() == problems


@pytest.mark.parametrize(
    ("domain", "value", "problem"),
    [
        (Float(0.0, 1.0), 1.5, "1.5 is not in [0.0, 1.0]"),
        (Float(0.0, 1.0), -0.1, "-0.1 is not in [0.0, 1.0]"),
        (Float(0.0, 1.0), "0.5", "'0.5' is not a number"),
        (Float(0.0, 1.0), True, "True is not a number"),
        (Float(0.0, 1.0), math.nan, "nan is not a number"),
        (Float(0.0, 1.0), None, "None is not a number"),
        (Int(1, 8), 2.0, "2.0 is not an integer"),
        (Int(1, 8), True, "True is not an integer"),
        (Int(1, 8), 9, "9 is not in [1, 8]"),
        (Choice("a", "b"), "c", "'c' is not one of 'a', 'b'"),
        (Choice(1, 2), 1.0, "1.0 is not one of 1, 2"),
        (Choice(1, 2), True, "True is not one of 1, 2"),
        (Choice(True, False), 1, "1 is not one of True, False"),
    ],
)
def test_a_value_that_does_not_belong_is_explained(
    domain: Domain, value: object, problem: str
) -> None:
    assert domain.problem(value) == problem


@pytest.mark.parametrize(
    ("domain", "value"),
    [
        (Float(0.0, 1.0), 0),
        (Float(0.0, 1.0), 1.0),
        (Int(1, 8), 1),
        (Int(1, 8), 8),
        (Choice("a", "b"), "b"),
        (Choice(True, False), False),
        (Choice(0.5, 1), 1),
        (Choice(0.5, 1), 1.0),
        (Choice(0.5, 1.0), 1),
    ],
)
def test_both_ends_and_whole_numbers_among_real_ones_belong(domain: Domain, value: object) -> None:
    assert domain.problem(value) is None


def test_a_real_range_maps_to_the_unit_interval_on_its_own_scale() -> None:
    assert Float(-1.0, 3.0).from_unit(0.25) == 0.0
    log = Float(1e-4, 1e-2, log=True)
    assert log.from_unit(0.5) == pytest.approx(1e-3, rel=1e-12)
    assert log.to_unit(1e-3) == pytest.approx(0.5, rel=1e-12)
    assert (log.from_unit(0.0), log.from_unit(1.0)) == pytest.approx((1e-4, 1e-2), rel=1e-12)


@pytest.mark.parametrize("domain", [Int(10**15, 10**15 + 19), Float(1e6, 1e6 + 1e-4)])
def test_a_narrow_range_of_large_numbers_keeps_all_its_values(domain: Any) -> None:
    found = {domain.from_unit((place + 0.5) / 20) for place in range(20)}
    assert len(found) == 20


def test_numbers_of_numpy_are_numbers() -> None:
    assert Int(np.int64(1), np.int32(5), default=np.int16(2)) == Int(1, 5, default=2)
    domain = Float(np.float32(0.5), np.float64(1), default=np.float16(0.75))
    assert [type(value) for value in (domain.low, domain.high, domain.default)] == [float] * 3
    assert domain == Float(0.5, 1.0, default=0.75)
    assert Choice(np.int64(2), np.int64(4), default=np.int64(4)) == Choice(2, 4, default=4)
    assert any("is not a number" in problem for problem in Float(np.zeros(2), 1.0).problems())


@pytest.mark.parametrize("value", [0.003, 0.0003, 0.01, 0.007, 0.02, 0.1])
def test_a_number_comes_back_from_its_place_as_people_write_it(value: float) -> None:
    for domain in (Float(1e-4, 1e-1, log=True), Float(0.0, 0.7)):
        assert domain.from_unit(domain.to_unit(value)) == value


@pytest.mark.parametrize(
    "domain", [Int(1, 4), Int(-2, 1), Choice("a", "b", "c", "d"), Choice(8, 1, 2, 4)], ids=spelled
)
def test_integers_and_choices_own_intervals_of_equal_length(domain: Domain) -> None:
    counts = Counter(domain.from_unit((place + 0.5) / 1000) for place in range(1000))
    assert sorted(counts.values()) == [250] * 4


def test_integers_on_a_log_scale_own_shares_by_ratio() -> None:
    counts = Counter(
        Int(1, 3, log=True).from_unit((place + 0.5) / 10_000) for place in range(10_000)
    )
    shares = [math.log((n + 0.5) / (n - 0.5)) / math.log(3.5 / 0.5) for n in (1, 2, 3)]
    assert [counts[n] / 10_000 for n in (1, 2, 3)] == pytest.approx(shares, abs=2e-4)


@given(st.integers(-1000, 1000), st.integers(1, 1000), st.floats(0, 1))
@quick
def test_every_place_is_an_integer_in_range_and_comes_back(
    low: int, span: int, place: float
) -> None:
    domain = Int(low, low + span)
    value = domain.from_unit(place)
    assert domain.problem(value) is None
    assert domain.from_unit(domain.to_unit(value)) == value
    assert abs(domain.to_unit(value) - place) <= 0.5 / (span + 1) + 1e-9


@given(st.integers(1, 10_000), st.integers(1, 10_000))
@quick
def test_integers_on_a_log_scale_come_back(low: int, span: int) -> None:
    domain = Int(low, low + span, log=True)
    for value in (low, low + span // 2, low + span):
        assert 0 < domain.to_unit(value) < 1
        assert domain.from_unit(domain.to_unit(value)) == value


@given(st.floats(1e-6, 1e3), st.floats(1.01, 1e6), st.booleans(), st.floats(0, 1))
@quick
def test_every_place_is_a_real_number_in_range_and_comes_back(
    low: float, ratio: float, log: bool, place: float
) -> None:
    domain = Float(low, low * ratio, log=log)
    value = domain.from_unit(place)
    assert domain.problem(value) is None
    # Rounding of exp and log, magnified by the narrowest range (a ratio of 1.01).
    assert domain.to_unit(value) == pytest.approx(place, abs=1e-9)


@pytest.mark.parametrize(
    ("domain", "value", "nearest"),
    [
        (Float(0.1, 0.5), 3, 0.5),
        (Float(0.1, 0.5), 0.2, 0.2),
        (Int(2, 8), 1, 2),
        (Int(2, 8), 100, 8),
        (Int(2, 8), 4.6, 5),
        (Choice(16, 64, 256), 100, 64),
        (Choice(16, 64, 256), 256, 256),
        (Choice("a", "b"), "b", "b"),
        (Choice("a", "b"), "z", "a"),
    ],
)
def test_the_nearest_value_belongs(domain: Domain, value: object, nearest: object) -> None:
    found = domain.nearest(value)
    assert found == nearest
    assert domain.problem(found) is None


def test_sizes_count_the_values() -> None:
    assert Float(0.0, 1.0).size == math.inf
    assert Int(3, 8).size == 6
    assert Choice("a", "b", "c").size == 3


def test_extremes_are_both_bounds_or_every_choice() -> None:
    assert Float(0, 1).extremes == (0.0, 1.0)
    assert Int(3, 8).extremes == (3, 8)
    assert Choice("a", "b", "c").extremes == ("a", "b", "c")


def test_a_default_left_out_is_the_middle_or_the_first_choice() -> None:
    assert Float(0.0, 1.0).default is MISSING
    assert Float(0.0, 1.0).with_default().default == 0.5
    assert Float(1e-4, 1e-2, log=True).with_default().default == pytest.approx(1e-3)
    assert Int(1, 5).with_default().default == 3
    assert Choice("b", "a").with_default().default == "b"
    assert Float(0.0, 1.0, default=0.0).with_default().default == 0.0


def test_a_description_is_json_and_holds_all_that_matters() -> None:
    described = [
        Float(1, 10, log=True, default=2, when={"head": "network"}).describe(),
        Int(1, 8, default=2).describe(),
        Choice("a", "b", default="b").describe(),
    ]
    assert json.loads(json.dumps(described)) == [
        {
            "type": "float",
            "low": 1.0,
            "high": 10.0,
            "scale": "log",
            "default": 2.0,
            "when": {"head": "network"},
        },
        {"type": "int", "low": 1, "high": 8, "scale": "linear", "default": 2},
        {"type": "choice", "values": ["a", "b"], "default": "b"},
    ]


@pytest.mark.parametrize(
    ("domain", "kind"),
    [
        (Float(0, 1), "float"),
        (Int(0, 1), "int"),
        (Choice("a", "b"), "str"),
        (Choice(True, False), "bool"),
        (Choice(1, 2), "int"),
        (Choice(1, 2.5), "float"),
    ],
)
def test_the_kind_is_the_type_of_the_values(domain: Domain, kind: str) -> None:
    assert kind_of(domain) == kind


def test_domains_are_spelled_as_their_user_wrote_them() -> None:
    assert spelled(Float(0.1, 1)) == "Float(0.1, 1)"
    assert spelled(Int(1, 8)) == "Int(1, 8)"
    assert spelled(Choice("a", "b")) == "'a', 'b'"


@pytest.mark.parametrize(
    ("value", "as_value", "as_number", "as_integer"),
    [
        (1, True, True, True),
        (1.5, True, True, False),
        (True, True, False, False),
        ("1", True, False, False),
        (math.nan, False, False, False),
        (math.inf, False, False, False),
        (None, False, False, False),
        ([1], False, False, False),
    ],
)
def test_booleans_and_infinities_are_no_numbers(
    value: object, as_value: bool, as_number: bool, as_integer: bool
) -> None:
    assert (is_value(value), is_number(value), is_integer(value)) == (
        as_value,
        as_number,
        as_integer,
    )
