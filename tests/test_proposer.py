import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pandas.testing import assert_frame_equal
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
    attach,
    needs_model,
    num_initial,
    num_needed,
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


def test_eight_sobol_points_lie_evenly_on_every_axis() -> None:
    asked = [replace(question(1, []), number=number) for number in range(1, 8)]
    asked += [replace(question(8, []), results=[])]  # no usable result: a point of the sequence
    configs = [propose(each).config for each in asked]
    for name in ("optimizer", "learning_rate", "width"):
        places = [SPACE.domains[name].to_unit(config[name]) for config in configs]
        assert sum(place < 0.5 for place in places) == 4, name


def test_results_given_to_ax_at_once_are_those_given_one_by_one() -> None:
    generator = np.random.default_rng(0)
    values = [0.5, None, 0.25, 0.75]
    results = [Result(config=SPACE.sample(generator), value=value) for value in values]
    known = [(result.config, result.value) for result in results]
    with quiet_ax():
        one_by_one, at_once = (SPACE.ax_client("same", ACCURACY, seed=1) for _ in range(2))
        for config, value in known:
            varying = {name: config[name] for name in SPACE.dimensions if name in config}
            index = one_by_one.attach_trial(varying)
            if value is None:
                one_by_one.mark_trial_abandoned(index)
            else:
                one_by_one.complete_trial(index, {"accuracy": value})
        attach(at_once, question(4, results), known)
        assert_frame_equal(at_once.summarize(), one_by_one.summarize())
        ours, theirs = (client._experiment.lookup_data().df for client in (at_once, one_by_one))
    assert theirs.pop("step").isna().all()  # none of the values belongs to an epoch
    assert_frame_equal(ours, theirs, check_like=True)


@pytest.mark.parametrize(
    "domains",
    [
        {"a": Float(0, 1), "b": Float(1e-3, 1, log=True)},
        {"a": Float(0, 1), "b": Choice("x", "y", "z")},
        {"a": Float(0, 1), "b": Choice(*"uvwxyz"), "c": Int(1, 9)},
        {"a": Choice("x", "y", "z"), "b": Int(1, 9)},
        {"a": Choice(*"uvwxyz"), "b": Int(1, 90), "c": Int(1, 90)},
        {"a": Int(1, 9_000), "b": Int(1, 9_000)},
    ],
    ids=["continuous", "mixed", "mixed, many", "discrete", "discrete, many", "integers"],
)
def test_the_model_answers_in_every_kind_of_space(domains: dict[str, object]) -> None:
    space = SearchSpace(domains)
    generator = np.random.default_rng(0)
    configs = [space.sample(generator) for _ in range(8)]
    results = [Result(config=c, value=sum(space.to_unit(c))) for c in configs]
    found = propose(replace(question(8, results), space=space))
    assert (found.origin, found.note) == ("model", "")


def test_only_what_needs_the_model_asks_for_it(
    searched: list[tuple[Proposal, Result]],
) -> None:
    results = [result for _, result in searched]
    failed = [replace(result, value=None) for result in results]
    rejected = [SPACE.sample(np.random.default_rng(n)) for n in range(4)]
    assert [needs_model(question(n, results[:n])) for n in (0, 7, 8, 12)] == [False] * 2 + [
        True
    ] * 2
    assert not needs_model(question(8, failed[:8]))
    assert needs_model(replace(question(8, results[:8]), rejected=rejected[:3]))
    assert not needs_model(replace(question(8, results[:8]), rejected=rejected))


def test_results_are_needed_from_the_first_question_to_the_model_on() -> None:
    assert [num_needed(SPACE, number, 3) for number in (0, 4, 7, 8, 20)] == [0, 0, 0, 5, 17]
    assert num_needed(SPACE, 8, 12) == 0


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
