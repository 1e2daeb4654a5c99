"""What a search decides next: where new configurations come from, and who goes on."""

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from torchstudy.domains import Choice, Float, Int
from torchstudy.records import Objective
from torchstudy.search.proposer import decide, needs_model, num_initial
from torchstudy.search.questions import Proposal, Question, SearchOver
from torchstudy.search.rungs import ladder_for, without_rungs
from torchstudy.search.tried import State, Tried
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
LADDER = ladder_for(27)


def value(config: Config) -> float:
    rate = config["learning_rate"]
    assert isinstance(rate, float)
    return 1 - abs(math.log10(rate / 1e-2)) / 4


def question(tried: list[Tried], *, rejected: tuple[Config, ...] = ()) -> Question:
    return Question(
        name="study/CNN",
        space=SPACE,
        objective=ACCURACY,
        ladder=LADDER,
        trials=100,
        tried=tuple(tried),
        number=len(tried),
        seed=3,
        spent=len(tried) / 100,
        rejected=rejected,
    )


def waiting(number: int, config: Config, score: float, *, cost: float = math.nan) -> Tried:
    """A trial that waits at the first rung."""
    return Tried(
        number=number, config=config, state="waiting", until=3, values={3: score}, cost=cost
    )


def grown(asked: Question, proposal: Proposal, better: Callable[[Config], float]) -> Tried:
    """The trial after the leg that was proposed: it gets better by a tenth of its value a rung."""
    levels = [level for level in asked.ladder.levels if level <= proposal.until]
    values = {
        level: better(proposal.config) * (1 + place / 10) for place, level in enumerate(levels)
    }
    state: State = "completed" if proposal.until == asked.ladder.top else "waiting"
    return Tried(
        number=proposal.trial,
        config=proposal.config,
        state=state,
        until=proposal.until,
        values=values,
        cost=1.0,
    )


def search(
    legs: int,
    *,
    first: Question | None = None,
    failing: tuple[int, ...] = (),
    better: Callable[[Config], float] = value,
) -> list[tuple[Proposal, Question]]:
    """The decisions of a search of so many legs, each with its question; it may end earlier."""
    asked, found = first or question([]), list[tuple[Proposal, Question]]()
    for number in range(legs):
        try:
            proposal = decide(asked)
        except SearchOver:
            break
        found.append((proposal, asked))
        tried = list(asked.tried)
        tried[proposal.trial : proposal.trial + 1] = [grown(asked, proposal, better)]
        if proposal.trial in failing:
            tried[proposal.trial] = replace(tried[proposal.trial], state="failed", values={})
        asked = replace(
            asked, tried=tuple(tried), number=number + 1, spent=len(tried) / asked.trials
        )
    return found


@pytest.fixture(scope="module")
def searched() -> list[tuple[Proposal, Question]]:
    return search(30, failing=(2, 4))


def fresh(searched: list[tuple[Proposal, Question]]) -> list[Proposal]:
    return [proposal for proposal, _ in searched if proposal.origin != "promotion"]


def test_the_recipe_comes_first_then_sobol_then_the_model(
    searched: list[tuple[Proposal, Question]],
) -> None:
    origins = [proposal.origin for proposal in fresh(searched)]
    assert num_initial(SPACE) == 8
    assert origins[0] == "recipe"
    assert fresh(searched)[0].config == SPACE.recipe
    assert set(origins[1:8]) == {"sobol"}
    assert set(origins[8:14]) == {"model"}
    assert origins[14] == "sobol"  # one of ten, to see what the model is wrong about
    assert all(proposal.note == "" for proposal, _ in searched)
    assert [proposal.trial for proposal in fresh(searched)] == list(range(len(origins)))


def test_every_proposal_is_a_valid_configuration_and_none_comes_twice(
    searched: list[tuple[Proposal, Question]],
) -> None:
    configs = [proposal.config for proposal in fresh(searched)]
    assert all(SPACE.validate(config) == config for config in configs)
    assert all(config not in configs[:index] for index, config in enumerate(configs))


def test_the_model_comes_nearer_to_the_best_than_chance(
    searched: list[tuple[Proposal, Question]],
) -> None:
    best = max(value(proposal.config) for proposal in fresh(searched)[8:14])
    assert best > 0.97  # six random draws do so with probability 0.2


def test_a_model_says_what_it_expects_of_value_and_cost(
    searched: list[tuple[Proposal, Question]],
) -> None:
    chosen = [proposal for proposal, _ in searched if proposal.origin == "model"]
    assert all(math.isnan(proposal.value) for proposal in fresh(searched)[:8])
    for proposal in chosen[2:]:
        unsure = max(0.15, 3 * proposal.spread)
        assert proposal.value == pytest.approx(1.2 * value(proposal.config), abs=unsure)
        assert 0 < proposal.spread < 0.3
        assert proposal.cost == pytest.approx(proposal.until, rel=0.01)
    promoted = [p for p, _ in searched if p.origin == "promotion" and not math.isnan(p.cost)]
    assert {round(proposal.cost) for proposal in promoted} <= {6, 18}


def test_trials_wait_at_rungs_and_a_third_of_them_goes_on(
    searched: list[tuple[Proposal, Question]],
) -> None:
    tried = searched[-1][1].tried
    reached = [sum(trial.epochs >= level for trial in tried) for level in LADDER.levels]
    assert reached[0] // 3 - 1 <= reached[1] <= reached[0] // 3 + 2  # two go straight to the top
    promoted = [proposal for proposal, _ in searched if proposal.origin == "promotion"]
    for proposal in promoted:
        assert proposal.until in LADDER.levels[1:]


def test_promotion_goes_to_the_best_by_value_while_there_are_few() -> None:
    tried = [waiting(n, SPACE.sample(np.random.default_rng(n)), n / 10) for n in range(3)]
    assert not needs_model(question(tried))
    assert decide(question(tried)) == Proposal(
        trial=2, config=tried[2].config, until=9, origin="promotion"
    )
    loss = Objective(metric="loss", direction="minimize")
    assert decide(replace(question(tried), objective=loss)).trial == 0


def test_promotion_goes_to_the_trial_with_the_best_prospects() -> None:
    """Where curves of a high learning rate end low, a good beginning is not enough."""
    tried = []
    for number, rate in enumerate(np.geomspace(1e-4, 1e-1, 12)):
        config = SPACE.completed({"learning_rate": float(rate)})
        early, late = 0.3 + 0.03 * number, 0.9 - 0.05 * number
        trial = waiting(number, config, early)
        if number % 2 == 0:
            ended = {3: early, 9: (early + late) / 2, 27: late}
            trial = replace(trial, state="completed", until=27, values=ended)
        tried.append(trial)
    more = [waiting(n + 12, SPACE.sample(np.random.default_rng(n)), 0.3) for n in range(9)]
    assert needs_model(question([*tried, *more]))
    proposal = decide(question([*tried, *more]))
    assert proposal.origin == "promotion"
    assert float(proposal.config["learning_rate"]) < 1e-2
    assert proposal.value > 0.6


def test_a_decision_depends_on_the_question_alone(
    searched: list[tuple[Proposal, Question]],
) -> None:
    asked = [q for p, q in searched[20:] if p.origin == "model"][-1]
    assert decide(asked) == decide(replace(asked))
    assert len({str(decide(replace(asked, seed=seed))) for seed in range(4)}) > 1
    last = asked.tried[-1]
    pending = replace(last, state="pending", values={}, cost=math.nan)
    assert decide(asked) != decide(replace(asked, tried=(*asked.tried[:-1], pending)))


@pytest.mark.slow
def test_another_process_decides_the_same_to_the_last_bit(
    searched: list[tuple[Proposal, Question]],
) -> None:
    """Slow: a process of its own, which loads everything."""
    asked = next(q for p, q in searched[20:] if p.origin == "model")
    code = (
        "import pickle, sys; from torchstudy.search.proposer import decide\n"
        "found = decide(pickle.loads(sys.stdin.buffer.read()))\n"
        "sys.stdout.buffer.write(pickle.dumps(found))"
    )
    import pickle

    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(asked), capture_output=True, check=True
    )
    assert pickle.loads(done.stdout) == decide(asked)


def test_pending_trials_are_not_proposed_again_nearby() -> None:
    configs = [SPACE.sample(np.random.default_rng(n)) for n in range(10)]
    tried = [waiting(n, config, value(config)) for n, config in enumerate(configs)]
    tried = [replace(trial, until=9, state="pending") for trial in tried[:4]] + tried[4:]
    rates = []
    for _ in range(3):
        proposal = decide(question(tried))
        assert proposal.origin == "model"
        rates.append(proposal.config)
        tried.append(Tried(number=len(tried), config=proposal.config, state="pending", until=3))
    places = np.array([SPACE.to_unit(config) for config in rates])
    assert all(np.abs(a - b).max() > 0.02 for a, b in pairwise(places))


def test_good_configurations_follow_the_recipe_with_their_origins() -> None:
    configs = [SPACE.sample(np.random.default_rng(n)) for n in range(3)]
    good = (*zip(configs, ("good", "warm", "warm"), strict=True), (SPACE.recipe, "good"))
    first = replace(question([]), good=good)
    found = fresh(search(8, first=first))
    assert [proposal.origin for proposal in found[:5]] == [
        "recipe",
        "good",
        "warm",
        "warm",
        "sobol",
    ]
    assert [proposal.config for proposal in found[1:4]] == configs


def test_every_second_point_lies_around_a_recipe_that_is_known_to_be_good() -> None:
    asked = replace(question([]), trusts_recipe=True)
    kept: dict[str, list[float]] = {"near": [], "sobol": []}
    for number in range(1, 8):
        tried = [
            waiting(n, SPACE.from_unit([0.1 * n] * len(SPACE.dimensions)), 0.5)
            for n in range(number)
        ]
        proposal = decide(replace(asked, tried=tried, number=number, ladder=without_rungs(27)))
        same = [value == SPACE.recipe.get(name) for name, value in proposal.config.items()]
        kept[proposal.origin].append(sum(same) / len(same))
        assert proposal.config != SPACE.recipe
    assert len(kept["near"]) == 4
    assert sum(kept["near"]) / 4 > 0.4 > sum(kept["sobol"]) / 3
    assert decide(replace(asked, tried=tried[:1], method="sobol")).origin == "sobol"


def test_a_recipe_that_is_known_to_be_good_goes_to_its_end_at_once() -> None:
    asked = question([])
    assert decide(asked).until == asked.ladder.levels[0]
    assert decide(replace(asked, trusts_recipe=True)).until == asked.ladder.top
    again = replace(asked, trusts_recipe=True, rejected=(SPACE.recipe,))
    assert decide(again).until == asked.ladder.levels[0]


def test_a_rejected_recipe_and_a_rejected_good_one_are_not_asked_for_again() -> None:
    good = ((SPACE.sample(np.random.default_rng(0)), "good"),)
    first = replace(question([], rejected=(SPACE.recipe,)), good=good)
    assert decide(first).origin == "random"
    other = waiting(0, SPACE.sample(np.random.default_rng(5)), 0.5)
    second = replace(question([other], rejected=(good[0][0],)), good=good)
    assert decide(second).origin == "random"
    third = waiting(1, SPACE.sample(np.random.default_rng(6)), 0.5)
    assert decide(replace(question([other, third]), good=good)).origin == "sobol"


def test_sobol_points_do_not_depend_on_results(
    searched: list[tuple[Proposal, Question]],
) -> None:
    proposals = fresh(searched)[:5]
    tried = [Tried(number=p.trial, config=p.config, state="pending", until=3) for p in proposals]
    assert decide(question(tried)).config == fresh(searched)[5].config


def test_eight_sobol_points_lie_evenly_on_every_axis() -> None:
    first = replace(question([]), method="sobol", ladder=without_rungs(27))
    configs = [proposal.config for proposal in fresh(search(9, first=first))][1:]
    for name in ("optimizer", "learning_rate", "width"):
        places = [SPACE.domains[name].to_unit(config[name]) for config in configs]
        assert sum(place < 0.5 for place in places) == 4, name


def test_points_lie_where_a_user_expects_the_best() -> None:
    space = SearchSpace({"a": Float(0, 1, prior=(0.7, 0.1)), "b": Float(0, 1)})
    first = replace(question([]), space=space, method="sobol", ladder=without_rungs(27))
    found = search(33, first=first, better=lambda _: 0.0)
    places = [float(proposal.config["a"]) for proposal, _ in found][1:]
    assert 0.65 < np.mean(places) < 0.75
    assert 0.05 < np.std(places) < 0.15


@pytest.mark.parametrize("method", ["sobol", "random"])
def test_a_method_without_a_model_never_asks_one(method: str) -> None:
    first = replace(question([]), method=method, ladder=without_rungs(27))
    found = search(14, first=first)
    assert {proposal.origin for proposal, _ in found[1:]} == {method}
    assert not any(needs_model(asked) for _, asked in found)
    assert {proposal.until for proposal, _ in found} == {27}


@pytest.mark.parametrize(
    "domains",
    [
        {"a": Float(0, 1), "b": Float(1e-3, 1, log=True)},
        {"a": Float(0, 1), "b": Choice("x", "y", "z")},
        {"a": Float(0, 1), "b": Choice(*"uvwxyz"), "c": Int(1, 9)},
        {"a": Choice("x", "y", "z"), "b": Int(1, 9)},
        {"a": Choice(*"uvwxyz"), "b": Int(1, 90), "c": Int(1, 90)},
        {"a": Int(1, 9_000), "b": Int(1, 9_000)},
        {"a": Choice("x", "y"), "b": Float(0, 1, when={"a": "y"})},
    ],
    ids=["continuous", "mixed", "many", "discrete", "many discrete", "integers", "conditional"],
)
def test_the_model_answers_in_every_kind_of_space(domains: dict[str, object]) -> None:
    space = SearchSpace(domains)
    generator = np.random.default_rng(0)
    configs = [space.sample(generator) for _ in range(8)]
    tried = [waiting(n, c, sum(space.to_unit(c))) for n, c in enumerate(configs)]
    tried = [replace(trial, until=9, state="pending") for trial in tried[:3]] + tried[3:]
    found = decide(replace(question(tried), space=space))
    assert (found.origin, found.note) == ("model", "")
    assert space.validate(found.config) == found.config
    assert found.config not in configs


def test_choices_and_integers_are_searched_as_well_as_numbers() -> None:
    space = SearchSpace({"kind": Choice(*"abcdef"), "n": Int(1, 20), "x": Float(0, 1)})

    def better(config: Config) -> float:
        is_best, n, x = config["kind"] == "e", float(config["n"]), float(config["x"])
        return 0.5 * is_best - abs(n - 7) / 20 - (x - 0.4) ** 2

    first = replace(question([]), space=space, ladder=without_rungs(1))
    found = [better(p.config) for p, _ in search(25, first=first, better=better)]
    assert max(found) > 0.44  # 0.5 is the best; 25 random draws come to 0.33 on average


def test_only_what_needs_the_model_asks_for_it(
    searched: list[tuple[Proposal, Question]],
) -> None:
    for proposal, asked in searched:
        num_values = sum(len(trial.values) for trial in asked.tried)
        is_ranked = proposal.origin == "promotion" and num_values >= 6
        if proposal.origin in ("recipe", "sobol") or num_values < 6:
            assert not needs_model(asked)
        elif proposal.origin == "model":
            assert needs_model(asked)
        elif is_ranked and needs_model(asked):
            assert not math.isnan(proposal.value)
    asked = next(q for p, q in searched if p.origin == "model")
    configs = tuple(SPACE.sample(np.random.default_rng(n)) for n in range(4))
    assert needs_model(replace(asked, rejected=configs[:3]))
    assert not needs_model(replace(asked, rejected=configs))
    assert decide(replace(asked, rejected=configs)).origin == "random"


def test_a_search_goes_on_when_everything_has_failed() -> None:
    found = search(20, failing=tuple(range(20)))
    assert [proposal.origin for proposal, _ in found] == ["recipe"] + 19 * ["sobol"]


def test_what_failed_is_avoided_and_never_proposed_again() -> None:
    space = SearchSpace({"a": Float(0, 1), "b": Float(0, 1)})
    generator = np.random.default_rng(0)
    tried = []
    for number in range(16):
        config = space.sample(generator)
        trial = waiting(number, config, float(config["a"]))
        is_broken = float(config["a"]) > 0.7  # the better, the sooner it breaks
        tried.append(replace(trial, state="failed", values={}) if is_broken else trial)
    tried = [replace(t, state="completed", until=27) if t.values else t for t in tried]
    broken, asked = 0, replace(question(tried), space=space)
    for _ in range(8):
        proposal = decide(replace(asked, tried=tuple(tried), number=len(tried)))
        is_broken = float(proposal.config["a"]) > 0.7
        broken += is_broken and proposal.origin == "model"
        trial = waiting(len(tried), proposal.config, float(proposal.config["a"]))
        done = replace(trial, state="completed", until=27)
        tried.append(replace(trial, state="failed", values={}) if is_broken else done)
    assert broken <= 5
    assert max(t.values[3] for t in tried[16:] if t.values) > 0.6


def test_a_discrete_space_is_tried_once_and_then_said_to_be_used_up() -> None:
    space = SearchSpace({"a": Choice("x", "y", "z"), "b": Choice(True, False)})
    first = replace(question([]), space=space, ladder=without_rungs(1))
    found = search(6, first=first, better=lambda config: float(len(str(config["b"]))))
    assert len({tuple(proposal.config.items()) for proposal, _ in found}) == 6
    tried = (*found[-1][1].tried, grown(first, found[-1][0], lambda _: 0.0))
    with pytest.raises(SearchOver, match="all 6 configurations of the space have been tried"):
        decide(replace(first, tried=tried, number=6))


def test_at_the_end_the_recipe_is_brought_to_the_top_whatever_it_is_worth() -> None:
    first = replace(question([]), trials=4)
    found = search(30, first=first, better=lambda c: 0.0 if c == SPACE.recipe else value(c))
    assert [proposal.origin for proposal, _ in found[:4]] == [
        "recipe",
        "sobol",
        "sobol",
        "promotion",
    ]
    assert found[-1][0].config == SPACE.recipe
    assert found[-1][0].until == 27
    last = found[-1]
    tried = list(last[1].tried)
    tried[0] = grown(first, last[0], lambda _: 0.0)
    assert sum(trial.epochs == 27 for trial in tried) == 2
    with pytest.raises(SearchOver, match="the budget of 4 trials is spent"):
        decide(replace(last[1], tried=tuple(tried)))


def test_a_fit_that_fails_does_not_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise np.linalg.LinAlgError("3-th leading minor not positive definite")

    configs = [SPACE.sample(np.random.default_rng(n)) for n in range(8)]
    tried = [replace(waiting(n, c, value(c)), state="completed") for n, c in enumerate(configs)]
    monkeypatch.setattr("torchstudy.search.surrogate.fitted", fail)
    found = decide(question(tried))
    assert found.origin == "random"
    assert found.note == (
        "the model gave no proposal for trial 8 "
        "(LinAlgError: 3-th leading minor not positive definite)"
    )
    promoted = decide(question([waiting(n, c, value(c)) for n, c in enumerate(configs)]))
    assert promoted.config == max(configs, key=value)


def test_the_model_loads_neither_ax_nor_botorch() -> None:
    code = (
        "import sys; import torchstudy.search.proposer\n"
        "assert not {'torch', 'scipy', 'ax', 'botorch'} & set(sys.modules), 'loaded'\n"
        "import torchstudy.search.acquisition\n"
        "assert not {'torch', 'ax', 'botorch'} & set(sys.modules), 'loaded by the model'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_has_been_trained_says_where_a_new_trial_pauses_first() -> None:
    configs = [SPACE.sample(np.random.default_rng(n)) for n in range(5)]
    tried = [
        replace(waiting(n, config, 0.5), values={3: 0.5, 9: 0.5, 27: 0.5}, state="completed")
        for n, config in enumerate(configs)
    ]
    assert decide(question(tried[:4])).until == 3
    assert decide(question(tried)).until == 9
