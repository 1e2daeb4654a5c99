from __future__ import annotations

import dataclasses
import typing
from typing import ClassVar

import pytest

from torchstudy.declaring import domains_of, hyperparameters
from torchstudy.domains import Choice, ChoiceDomain, Float, Int
from torchstudy.errors import SpaceError


@hyperparameters
class Net:
    """A network with every kind of field."""

    depth: int = Int(1, 3, default=2)
    width: int = Int(8, 64, log=True)
    norm: str = Choice("none", "batch")
    dropout: float = Float(0.0, 0.5, when={"norm": "none"})
    patience: int = 10
    kinds: ClassVar[tuple[str, ...]] = ("a", "b")
    letters: typing.ClassVar = "abc"

    def area(self) -> int:
        return self.depth * self.width


def test_fields_become_domains_in_order() -> None:
    assert domains_of(Net) == {
        "depth": Int(1, 3, default=2),
        "width": Int(8, 64, log=True),
        "norm": Choice("none", "batch"),
        "dropout": Float(0.0, 0.5, when={"norm": "none"}),
        "patience": ChoiceDomain(values=(10,), default=10, is_open=True),
    }
    assert list(domains_of(Net)) == ["depth", "width", "norm", "dropout", "patience"]


def test_an_instance_without_arguments_is_the_recipe() -> None:
    net = Net()
    assert (net.depth, net.width, net.norm, net.dropout, net.patience) == (2, 22, "none", 0.25, 10)
    assert net.area() == 44


def test_class_variables_are_no_hyperparameters() -> None:
    assert Net.kinds == ("a", "b")
    assert Net().letters == "abc"


def test_instances_are_frozen_equal_by_value_and_made_by_keyword() -> None:
    assert Net(depth=3) == Net(depth=3) != Net()
    with pytest.raises(dataclasses.FrozenInstanceError):
        Net().depth = 3
    with pytest.raises(TypeError, match="positional"):
        Net(3)


def test_the_decorated_class_is_the_same_class() -> None:
    class Plain:
        width: int = 3

    assert hyperparameters(Plain) is Plain


def test_a_subclass_inherits_hyperparameters_and_may_change_them() -> None:
    @hyperparameters
    class Wider(Net):
        width: int = Int(64, 256, default=128)
        heads: int = Int(1, 8, default=4)

        def area(self) -> int:
            return super().area() * self.heads

    assert list(domains_of(Wider)) == [*domains_of(Net), "heads"]
    assert domains_of(Wider)["width"] == Int(64, 256, default=128)
    assert domains_of(Net)["width"] == Int(8, 64, log=True)
    assert Wider().area() == 2 * 128 * 4


def test_every_problem_of_a_class_is_listed_at_once() -> None:
    with pytest.raises(SpaceError) as caught:

        @hyperparameters
        class Bad:
            bare: int
            nothing: str = None
            listed: tuple[int, ...] = (3, 5)
            inverted: float = Float(1.0, 0.0)
            empty: int = Int(4, 4)
            zero: float = Float(0.0, 1.0, log=True)
            outside: int = Int(1, 8, default=9)
            boxed: int = Choice([3, 5])
            untyped = Int(1, 8)

    assert caught.value.problems == (
        "Bad.untyped has no type: write `untyped: int = ...`",
        "Bad.bare needs a value: a default, Float, Int or Choice",
        "Bad.nothing needs a value: a default, Float, Int or Choice",
        "Bad.listed cannot be (3, 5): a hyperparameter is a number, a text or a boolean",
        "Bad.inverted has an inverted range: low 1.0 is above high 0.0",
        "Bad.empty has an empty range: low and high are both 4; write the value itself",
        "Bad.zero has a log scale from 0.0: a log range must start above 0",
        "Bad.outside has a default outside its range: 9 is not in [1, 8]",
        "Bad.boxed has value [3, 5], which is not a number, a text or a boolean",
    )


def test_a_class_that_was_refused_names_itself_in_a_single_problem() -> None:
    with pytest.raises(SpaceError, match=r"^Lone\.width needs a value: a default, Float, Int or"):

        @hyperparameters
        class Lone:
            width: int
