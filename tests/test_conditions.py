import pytest

from torchstudy.conditions import (
    ancestry,
    condition_problems,
    count_configs,
    is_active,
    parents_first,
    possible,
    simplified,
)
from torchstudy.domains import Choice, Domain, Float, Int


def nested() -> dict[str, Domain]:
    """`rate` needs `kind=fancy`, which needs `norm=batch`; children are listed before parents."""
    return {
        "rate": Float(0.0, 1.0, when={"kind": "fancy"}),
        "kind": Choice("plain", "fancy", when={"norm": "batch"}),
        "norm": Choice("none", "batch"),
        "width": Int(8, 64),
    }


def problems_of(domains: dict[str, Domain]) -> list[str]:
    return [
        problem
        for name, domain in domains.items()
        for problem in condition_problems(name, domain, domains)
    ]


def test_sound_conditions_have_no_problems() -> None:
    assert problems_of(nested()) == []


@pytest.mark.parametrize(
    ("when", "problem"),
    [
        ({"rate": 0.5}, "rate depends on itself"),
        (
            {"nrom": "batch"},
            "rate depends on 'nrom', which is not a hyperparameter here (did you mean 'norm'?)",
        ),
        ({"xyzzy": 1}, "rate depends on 'xyzzy', which is not a hyperparameter here"),
        ({"width": 8}, "rate depends on width, which is a range; a condition needs a Choice"),
        (
            {"norm": "layer"},
            "rate exists only when norm='layer', but 'layer' is not one of 'none', 'batch'",
        ),
        (
            {"norm": "batch", "kind": "fancy"},
            "rate depends on 2 hyperparameters; a condition names exactly one",
        ),
    ],
)
def test_a_condition_that_cannot_hold_says_why(when: dict[str, object], problem: str) -> None:
    assert problems_of(nested() | {"rate": Float(0.0, 1.0, when=when)}) == [problem]


def test_a_cycle_is_named_from_both_sides_and_not_from_what_hangs_on_it() -> None:
    domains = {
        "a": Choice(1, 2, when={"b": 1}),
        "b": Choice(1, 2, when={"a": 1}),
        "c": Float(0.0, 1.0, when={"a": 1}),
    }
    assert problems_of(domains) == [
        "a depends on itself through b",
        "b depends on itself through a",
    ]


def test_a_long_cycle_is_found() -> None:
    names = ["a", "b", "c", "d"]
    parents = dict(zip(names, [*names[1:], "a"], strict=True))
    domains = {name: Choice(1, 2, when={parent: 1}) for name, parent in parents.items()}
    assert problems_of(domains) == [
        f"{name} depends on itself through {parent}" for name, parent in parents.items()
    ]


def test_ancestry_lists_what_must_hold_nearest_first() -> None:
    assert ancestry("rate", nested()) == [("kind", "fancy"), ("norm", "batch")]
    assert ancestry("width", nested()) == []


def test_parents_come_before_children_and_else_the_order_stays() -> None:
    assert parents_first(nested()) == ["norm", "width", "kind", "rate"]


def test_a_child_exists_only_with_the_one_value() -> None:
    kind = nested()["kind"]
    assert is_active(kind, {"norm": "batch"})
    assert not is_active(kind, {"norm": "none"})
    assert not is_active(kind, {})


def test_what_hangs_on_a_value_that_cannot_be_is_dropped_with_its_children() -> None:
    domains = nested() | {"norm": Choice("none", "layer")}
    assert list(possible(domains)) == ["norm", "width"]


def test_possible_domains_keep_their_order_and_get_defaults() -> None:
    found = possible(nested())
    assert list(found) == ["rate", "kind", "norm", "width"]
    assert [domain.default for domain in found.values()] == [0.5, "plain", "none", 36]


def test_a_condition_that_always_holds_is_left_out() -> None:
    found = simplified(possible(nested() | {"norm": Choice("batch")}))
    assert found["kind"].when == ()
    assert found["rate"].when == (("kind", "fancy"),)


def test_a_child_of_one_value_hangs_on_the_grandparent() -> None:
    found = simplified(possible(nested() | {"kind": Choice("fancy", when={"norm": "batch"})}))
    assert found["rate"].when == (("norm", "batch"),)


def test_a_chain_of_single_values_is_left_out_altogether() -> None:
    single = {"kind": Choice("fancy", when={"norm": "batch"}), "norm": Choice("batch")}
    found = simplified(possible(nested() | single))
    assert [domain.when for domain in found.values()] == [(), (), (), ()]


def test_configurations_are_counted_branch_by_branch() -> None:
    domains = nested() | {"rate": Int(1, 10, when={"kind": "fancy"})}
    # norm=none: 1; norm=batch: kind=plain 1, kind=fancy 10; times 57 widths.
    assert count_configs(domains) == (1 + 1 + 10) * 57
    assert count_configs(domains, ("norm", "batch")) == 11
    assert count_configs(nested()) == float("inf")
    assert count_configs({}) == 1
