import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.test_confirm import training

from torchstudy.domains import Choice, Float, Int
from torchstudy.quiet import quiet_ax
from torchstudy.records import Objective, Status
from torchstudy.search.experiment import write_experiment
from torchstudy.search.proposer import (
    Proposal,
    Question,
    Result,
    SpaceExhausted,
    num_initial,
    propose,
)
from torchstudy.space import Config, SearchSpace

ACCURACY = Objective(metric="accuracy", direction="maximize")
SPACE = SearchSpace(
    {
        "optimizer": Choice("adam", "sgd", default="adam"),
        "momentum": Float(0.5, 0.99, default=0.9, when={"optimizer": "sgd"}),
        "learning_rate": Float(1e-4, 1e-1, log=True, default=1e-3),
        "width": Int(8, 64, log=True, default=16),
        "fixed": 3,
    }
)


def value(config: Config) -> float:
    rate = config["learning_rate"]
    assert isinstance(rate, float)
    return 1 - abs(math.log10(rate / 1e-2)) / 4


def question(number: int, results: list[Result], pending: list[Config] | None = None) -> Question:
    return Question(
        name="study/CNN",
        space=SPACE,
        objective=ACCURACY,
        results=results,
        pending=pending or [],
        number=number,
        seed=3,
    )


def search(num_trials: int, *, failing: tuple[int, ...] = ()) -> list[tuple[Proposal, Result]]:
    found: list[tuple[Proposal, Result]] = []
    for number in range(num_trials):
        proposal = propose(question(number, [result for _, result in found]))
        score = None if number in failing else value(proposal.config)
        found.append((proposal, Result(config=proposal.config, value=score)))
    return found


@pytest.fixture(scope="module")
def searched() -> list[tuple[Proposal, Result]]:
    return search(13, failing=(2, 4))


def test_the_recipe_comes_first_then_sobol_then_the_model(
    searched: list[tuple[Proposal, Result]],
) -> None:
    origins = [proposal.origin for proposal, _ in searched]
    assert num_initial(SPACE) == 8
    assert origins[0] == "recipe"
    assert searched[0][0].config == SPACE.recipe
    assert set(origins[1:8]) == {"sobol"}
    assert set(origins[8:]) == {"model"}
    assert all(proposal.note == "" for proposal, _ in searched)


def test_every_proposal_is_a_valid_configuration_and_none_comes_twice(
    searched: list[tuple[Proposal, Result]],
) -> None:
    configs = [proposal.config for proposal, _ in searched]
    assert all(SPACE.validate(config) == config for config in configs)
    assert all(config not in configs[:index] for index, config in enumerate(configs))


def test_the_model_comes_nearer_to_the_best_than_chance(
    searched: list[tuple[Proposal, Result]],
) -> None:
    best = max(value(proposal.config) for proposal, _ in searched[8:])
    assert best > 0.97  # a random draw does so with probability 0.16


def test_a_proposal_depends_on_results_pending_and_seed_alone(
    searched: list[tuple[Proposal, Result]],
) -> None:
    results = [result for _, result in searched[:9]]
    asked = question(10, results, [searched[9][0].config])
    assert propose(asked) == propose(asked)
    assert propose(asked) != propose(replace(asked, seed=4))
    without = question(10, [*results, Result(config=searched[9][0].config, value=0.9)])
    assert propose(asked) != propose(without)


def test_sobol_points_do_not_depend_on_results(searched: list[tuple[Proposal, Result]]) -> None:
    fewer = question(5, [searched[0][1]], [p.config for p, _ in searched[1:5]])
    assert propose(fewer) == searched[5][0]


def test_a_search_goes_on_when_everything_has_failed() -> None:
    results = [Result(config=SPACE.sample(np.random.default_rng(n)), value=None) for n in range(9)]
    assert propose(question(9, results)).origin == "sobol"


def test_a_discrete_space_is_tried_once_and_then_said_to_be_used_up() -> None:
    space = SearchSpace({"a": Choice("x", "y", "z"), "b": Choice(True, False)})
    seen: list[Result] = []
    for number in range(6):
        asked = replace(question(number, list(seen)), space=space)
        seen.append(Result(config=propose(asked).config, value=float(number)))
    assert len({tuple(result.config.items()) for result in seen}) == 6
    with pytest.raises(SpaceExhausted, match="all 6 configurations have been tried"):
        propose(replace(question(6, seen), space=space))


def test_a_value_that_is_not_finite_never_reaches_ax(
    searched: list[tuple[Proposal, Result]],
) -> None:
    results = [result for _, result in searched[:9]]
    results[1] = Result(config=results[1].config, value=None)
    assert propose(question(9, results)).origin == "model"


def test_plain_ax_opens_the_file_with_every_trial_and_the_same_best(tmp_path: Path) -> None:
    with quiet_ax():
        from ax.api.client import Client

    statuses = [
        Status.COMPLETED,
        Status.DIVERGED,
        Status.COMPLETED,
        Status.CRASHED,
        Status.PAUSED,
        Status.OUT_OF_MEMORY,
    ]
    trainings = []
    for number, status in enumerate(statuses):
        config = SPACE.sample(np.random.default_rng(number))
        done = training(number, {"valid_accuracy": 0.1 * number}, status=status)
        trainings.append(replace(done, trial=replace(done.trial, config=config)))
    path = tmp_path / "CNN.ax.json"
    write_experiment(path, "study/CNN", SPACE, ACCURACY, trainings)
    with quiet_ax():
        client = Client.load_from_json_file(str(path))
        summary = client.summarize()
    assert summary["trial_status"].tolist() == [
        "COMPLETED",
        "ABANDONED",
        "COMPLETED",
        "FAILED",
        "EARLY_STOPPED",
        "ABANDONED",
    ]
    completed = summary[summary["trial_status"] == "COMPLETED"]
    assert completed["accuracy"].max() == pytest.approx(0.2)
    assert (
        client._experiment.trials[0].arm.parameters["width"] == (trainings[0].trial.config["width"])
    )
    assert client._experiment.optimization_config.objective.minimize is False
