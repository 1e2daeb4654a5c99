"""A function of one's own over a search space, without any model."""

import math

import numpy as np
import pandas as pd
import pytest

from torchstudy import Choice, Float, Int, SearchSpace, tune
from torchstudy.errors import RunError, SpaceError, StudyError
from torchstudy.quiet import quiet_ax
from torchstudy.space import Config

with quiet_ax():
    from ax.adapter.registry import Generators
    from ax.core.arm import Arm
    from ax.core.generator_run import GeneratorRun
    from ax.generation_strategy.generation_node import GenerationNode
    from ax.generation_strategy.generation_strategy import GenerationStrategy
    from ax.generation_strategy.generator_spec import GeneratorSpec

BOX = {"x": Float(-5.0, 10.0), "y": Float(0.0, 15.0)}


def branin(config: Config) -> float:
    """Branin's function, of which the least value is 0.398 (Dixon & Szego 1978)."""
    x, y = float(config["x"]), float(config["y"])
    curve = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return curve**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


@pytest.mark.slow
def test_a_search_finds_what_random_draws_do_not() -> None:
    """Slow: fifteen questions to the model."""
    found = tune(branin, BOX, direction="minimize", trials=20)
    generator = np.random.default_rng(0)
    space = SearchSpace({name: domain.with_default() for name, domain in BOX.items()})
    drawn = [min(branin(space.sample(generator)) for _ in range(20)) for _ in range(200)]
    assert found["value"].min() < np.quantile(drawn, 0.05)
    assert found["origin"].tolist()[:2] == ["recipe", "sobol"]
    assert "model" in set(found["origin"])


def test_the_same_seed_makes_the_same_trials_and_rows_come_as_they_are_made() -> None:
    seen: list[object] = []
    first = tune(branin, BOX, trials=4, on_trial=lambda row: seen.append(row["trial"]))
    second = tune(branin, BOX, trials=4)
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), second.drop(columns="seconds"))
    assert seen == [0, 1, 2, 3]
    assert list(first) == [
        "trial",
        "status",
        "reason",
        "origin",
        "value",
        "seconds",
        "config.x",
        "config.y",
    ]
    other = tune(branin, BOX, trials=4, seed=1)
    assert (other["config.x"] != first["config.x"]).any()


def test_failures_and_values_that_are_no_numbers_are_rows() -> None:

    def odd(config: Config) -> float:
        if config["n"] == 1:
            raise KeyError("not one")
        return math.inf if config["n"] == 2 else float(config["n"])

    found = tune(odd, {"n": Int(1, 6)}, trials=6).set_index("config.n")
    assert found.loc[1, "status"] == "crashed"
    assert "KeyError: 'not one'" in found.loc[1, "reason"]
    assert found.loc[2, "status"] == "diverged"
    assert found.loc[6, "value"] == 6


def test_a_discrete_space_ends_when_it_is_used_up() -> None:
    found = tune(lambda config: 1.0, {"kind": Choice("a", "b"), "fixed": 3}, trials=9)
    assert sorted(found["config.kind"]) == ["a", "b"]
    assert set(found["config.fixed"]) == {3}


def test_a_function_that_always_fails_is_shown_once() -> None:
    def broken(config: Config) -> float:
        raise ValueError("always")

    with pytest.raises(RunError, match=r"the first 3 trials crashed alike:\nTraceback") as caught:
        tune(broken, BOX, trials=9)
    assert str(caught.value).count("ValueError: always") == 1


def test_arguments_that_cannot_be_are_all_named() -> None:
    with pytest.raises(SpaceError, match=r"space.x .*"):
        tune(branin, {"x": Float(3.0, 1.0)})
    with pytest.raises(StudyError) as caught:
        tune(branin, BOX, direction="up", trials=0)  # type: ignore[arg-type]
    assert caught.value.problems == (
        "direction is 'maximize' or 'minimize', not 'up'",
        "trials must be a whole number of at least 1; got 0",
    )
    with pytest.raises(StudyError) as caught:
        tune(3, ["x"], seed=-1, method="sobl")  # type: ignore[arg-type]
    assert caught.value.problems == (
        "objective is a function of a configuration, not 3",
        "space is a SearchSpace or a mapping of names to ranges, not ['x']",
        "seed must be a whole number of at least 0; got -1",
        "method: 'sobl' is not one of auto, ax, sobol, random (did you mean 'sobol'?)",
    )


def test_native_ax_configs_keep_their_conditions() -> None:
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    configs = [
        ChoiceParameterConfig(
            name="optimizer",
            values=["adam", "sgd"],
            parameter_type="str",
            dependent_parameters={"sgd": ["momentum"]},
        ),
        RangeParameterConfig(name="momentum", bounds=(0.1, 0.9), parameter_type="float"),
    ]
    found = tune(lambda config: float(len(config)), {c.name: c for c in configs}, trials=4)
    has_momentum = found["config.momentum"].notna()
    assert (has_momentum == (found["config.optimizer"] == "sgd")).all()
    assert has_momentum.nunique() == 2


def test_rows_before_an_interruption_have_been_handed_over() -> None:
    seen: list[object] = []

    def interrupted(config: Config) -> float:
        if len(seen) == 2:
            raise KeyboardInterrupt
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        tune(interrupted, BOX, on_trial=lambda row: seen.append(row["status"]))
    assert seen == ["completed", "completed"]


class NeverAnswers(GenerationStrategy):
    def gen(self, *args: object, **options: object) -> list[list[object]]:
        raise RuntimeError("no fit")


def test_what_ax_could_not_answer_is_said_in_the_row() -> None:
    node = GenerationNode(name="a", generator_specs=[GeneratorSpec(Generators.SOBOL)])
    found = tune(
        lambda config: 1.0,
        {"x": Float(0.0, 1.0)},
        trials=3,
        method=NeverAnswers(nodes=[node]),
    )
    assert found["origin"].tolist() == ["recipe", "sobol", "random"]
    assert found["reason"].tolist() == [
        "",
        "",
        "Ax gave no proposal for trial 2 (RuntimeError: no fit)",
    ]


@pytest.mark.parametrize("method", ["auto", "random", "sobol"])
def test_every_configuration_of_a_discrete_space_is_tried_once(method: str) -> None:
    space = {
        "a": Int(1, 9),
        "b": Choice("x", "y", default="x"),
        "c": Choice(True, False, default=True, when={"b": "y"}),
    }
    found = tune(lambda config: float(config["a"]), space, trials=60, method=method)
    assert len(found) == 27
    assert not found.filter(like="config.").duplicated().any()


def test_a_long_integer_range_is_no_excuse_for_trying_a_value_again() -> None:
    found = tune(lambda config: -float(config["n"]), {"n": Int(1, 6000, log=True)}, trials=25)
    assert found["config.n"].is_unique


class SaysTheSame(GenerationStrategy):
    def gen(self, *args: object, **options: object) -> list[list[GeneratorRun]]:
        return [[GeneratorRun(arms=[Arm(parameters={"x": 0.75})])]]


def test_what_a_strategy_proposes_again_is_a_trial_of_its_own() -> None:
    node = GenerationNode(name="a", generator_specs=[GeneratorSpec(Generators.SOBOL)])
    found = tune(
        lambda config: 1.0, {"x": Float(0.0, 1.0)}, trials=5, method=SaysTheSame(nodes=[node])
    )
    assert found["origin"].tolist() == ["recipe", "sobol", "model", "replicate", "replicate"]
    assert found["config.x"].tolist()[2:] == [0.75] * 3


def test_a_users_own_generation_strategy_is_asked_once_a_model_would_be() -> None:
    node = GenerationNode(name="a", generator_specs=[GeneratorSpec(Generators.SOBOL)])
    given = GenerationStrategy(name="mine", nodes=[node])
    found = tune(branin, BOX, trials=6, method=given)
    assert found["origin"].tolist() == ["recipe", *["sobol"] * 3, *["model"] * 2]
    assert given._experiment is None
    assert tune(branin, BOX, trials=6, method=given)["value"].equals(found["value"])


@pytest.mark.parametrize("method", ["sobol", "random"])
def test_a_search_without_a_model_draws_every_trial_after_the_recipe(method: str) -> None:
    found = tune(branin, BOX, trials=12, method=method)
    assert found["origin"].tolist() == ["recipe", *[method] * 11]
    assert found["config.x"].nunique() == 12
