"""Searching within limits: rejected answers, proposals drawn back, and runs that go on."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from tests.conftest import stripes

from torchstudy import CNN, Float, Int, Study, run
from torchstudy.families.base import domains_with_training
from torchstudy.records import Direction, Objective
from torchstudy.search.drawing_back import drawn_back
from torchstudy.search.proposer import decide, num_initial
from torchstudy.search.questions import Proposal, Question
from torchstudy.search.rungs import without_rungs
from torchstudy.search.tried import Tried
from torchstudy.space import Config, SearchSpace

pytestmark = pytest.mark.usefixtures("short_reports")

SPACE = SearchSpace(
    {
        "width": Float(0.0, 1.0, default=0.9),
        "rate": Float(1e-4, 1.0, log=True, default=1e-2),
    }
)
WIDEST = 0.5


def is_allowed(config: Config) -> bool:
    return float(config["width"]) <= WIDEST


Result = tuple[Config, float | None]


def question(
    number: int,
    results: list[Result],
    *,
    rejected: tuple[Config, ...] = (),
    direction: Direction = "maximize",
) -> Question:
    return Question(
        name="study/CNN",
        space=SPACE,
        objective=Objective(metric="accuracy", direction=direction),
        ladder=without_rungs(1),
        trials=100,
        tried=[tried(place, *result) for place, result in enumerate(results)],
        number=number,
        seed=3,
        rejected=rejected,
    )


def tried(number: int, config: Config, value: float | None) -> Tried:
    values = {} if value is None else {1: value}
    state = "failed" if value is None else "completed"
    return Tried(number=number, config=config, state=state, until=1, values=values)


def result(width: float, value: float | None, rate: float = 1e-2) -> Result:
    return {"width": width, "rate": rate}, value


def proposed(config: Config, note: str = "") -> Proposal:
    return Proposal(trial=9, config=config, until=1, origin="model", note=note)


WIDE = proposed({"width": 0.9, "rate": 1e-4}, "a note")


def test_a_proposal_is_drawn_back_just_below_the_limit_and_only_where_it_must() -> None:
    found = drawn_back(question(2, [result(0.2, 0.9), result(0.4, 0.1)]), WIDE, is_allowed)
    assert found is not None
    assert WIDEST - 0.7 / 2**10 <= found.config["width"] <= WIDEST  # ten halvings from 0.2 to 0.9
    assert found.config["rate"] == pytest.approx(1e-4)  # as proposed
    assert (found.origin, found.note) == ("model", "a note")


def test_the_best_result_is_the_least_where_less_is_better() -> None:
    results = [result(0.2, 0.9), result(0.4, 0.1), result(0.1, None)]
    far = proposed({"width": 0.9, "rate": 1e-4})
    seen: list[float] = []

    def watched(config: Config) -> bool:
        seen.append(float(config["width"]))
        return is_allowed(config)

    drawn_back(question(3, results, direction="minimize"), far, watched)
    assert min(seen) == pytest.approx(0.4)


@pytest.mark.parametrize("origin", ["sobol", "random", "recipe"])
def test_only_what_a_model_chose_is_drawn_back(origin: str) -> None:
    proposal = replace(WIDE, origin=origin)
    assert drawn_back(question(1, [result(0.2, 0.9)]), proposal, is_allowed) is None


def test_nothing_is_drawn_back_without_a_result_or_without_anything_new_on_the_way() -> None:
    assert drawn_back(question(1, [result(0.2, None)]), WIDE, is_allowed) is None
    asked = replace(
        question(1, [({"width": 4}, 0.5)]),
        space=SearchSpace({"width": Int(4, 8, default=4)}),
    )
    wide = proposed({"width": 8})
    assert drawn_back(asked, wide, lambda config: float(config["width"]) < 5) is None
    found = drawn_back(asked, wide, lambda config: float(config["width"]) < 7)
    assert found is not None
    assert (found.config, found.trial, found.until) == ({"width": 6}, 9, 1)


def test_rejected_answers_make_room_for_others_that_are_the_same_each_time() -> None:
    rejected: list[Config] = [SPACE.recipe]
    for _ in range(20):
        found = decide(question(0, [], rejected=tuple(rejected)))
        assert found.origin == "random"
        assert found.config not in rejected
        rejected.append(found.config)
    again = decide(question(0, [], rejected=tuple(rejected[:-1])))
    assert again.config == rejected[-1]


def searched(num_trials: int, better: Callable[[Config], float]) -> tuple[list[Result], list[int]]:
    """Results of a search within the limit, and how many answers each of its trials took."""
    results: list[Result] = []
    num_answers = []
    for number in range(num_trials):
        rejected: list[Config] = []
        proposal = None
        while proposal is None:
            asked = question(number, list(results), rejected=tuple(rejected))
            answer = decide(asked)
            is_good = is_allowed(answer.config)
            proposal = answer if is_good else drawn_back(asked, answer, is_allowed)
            rejected.append(answer.config)
        results.append((proposal.config, better(proposal.config)))
        num_answers.append(len(rejected))
    return results, num_answers


@pytest.mark.slow
def test_a_search_that_finds_more_better_comes_to_the_limit_with_one_answer_a_trial() -> None:
    """Slow: a model answers."""

    def better(config: Config) -> float:
        return float(config["width"]) - 0.1 * math.log10(float(config["rate"]) / 0.1) ** 2

    found, num_answers = searched(8, better)
    assert all(is_allowed(config) for config, _ in found)
    widest = max(float(config["width"]) for config, _ in found)
    assert widest > WIDEST - 1e-3
    assert num_answers[num_initial(SPACE) + 1 :] == [1, 1, 1]  # the first looks elsewhere


def width_and_rate() -> dict[str, object]:
    """CNN's width and learning rate are open, all else is as in its recipe."""
    whole = SearchSpace(domains_with_training(CNN))
    fixed = {name: value for name, value in whole.recipe.items() if name != "learning_rate"}
    return {**fixed, "depth": 1, "width": Int(4, 64, log=True)}


@pytest.mark.slow
def test_a_limited_search_that_was_interrupted_comes_to_the_same_trials(tmp_path: Path) -> None:
    """Slow: seven questions to Ax's model, which wants to go beyond the limit."""
    limited = Study(
        data=stripes,
        families=[CNN],
        maximize="parameters",
        limits={"parameters": 3000},
        space=width_and_rate(),
        trials=7,
        epochs=1,
        confirm=None,
        name="limited",
    )
    whole = run(limited, reports=tmp_path / "whole", executor="inline", quiet=True).trials
    run(replace(limited, trials=5), reports=tmp_path / "part", executor="inline", quiet=True)
    resumed = run(limited, reports=tmp_path / "part", executor="inline", quiet=True).trials
    same = ["origin", "parameters", "config.width", "config.learning_rate"]
    pd.testing.assert_frame_equal(resumed[same], whole[same])
    assert (whole["parameters"] <= 3000).all()
    assert "model" in set(whole["origin"])
