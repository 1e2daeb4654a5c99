"""A search of several objectives: what is proposed, who goes on, and what it brings."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.test_ax_method import NARROW, even_strategy
from tests.test_runner import linear_study, run_inline, timeless

from torchstudy.analysis.front import front
from torchstudy.domains import Float, Int
from torchstudy.errors import StudyError
from torchstudy.pareto import pareto_ranks
from torchstudy.quiet import quiet_ax
from torchstudy.records import Objective
from torchstudy.search.proposer import decide
from torchstudy.search.questions import Question
from torchstudy.search.rungs import ladder_for, without_rungs
from torchstudy.search.tried import Tried
from torchstudy.space import Config, SearchSpace

pytestmark = pytest.mark.usefixtures("short_reports")

UP = Objective(metric="accuracy", direction="maximize")
DOWN = Objective(metric="parameters", direction="minimize")
CUBE = SearchSpace({f"x{axis}": Float(0.0, 1.0, default=0.5) for axis in range(4)})
WORST = (-1.1, -6.0)


def zdt1(config: Config) -> tuple[float, float]:
    """Zitzler, Deb and Thiele, 2000, their first: the second is to be minimized, as the first."""
    first, *rest = (float(config[f"x{axis}"]) for axis in range(4))
    above = 1 + 9 * sum(rest) / len(rest)
    return -first, above * (1 - (first / above) ** 0.5)


def question(tried: list[Tried], trials: int, seed: int, method: str = "auto") -> Question:
    return Question(
        name="zdt",
        space=CUBE,
        objective=UP,
        further=[DOWN],
        ladder=without_rungs(1),
        trials=trials,
        tried=tuple(tried),
        number=len(tried),
        seed=seed,
        method=method,
        spent=len(tried) / trials,
    )


def searched(trials: int, seed: int, method: str) -> list[Tried]:
    tried: list[Tried] = []
    for number in range(trials):
        config = decide(question(tried, trials, seed, method)).config
        first, second = zdt1(config)
        tried.append(
            Tried(
                number=number,
                config=config,
                state="completed",
                until=1,
                values={1: first},
                further={1: (second,)},
            )
        )
    return tried


def area(values: np.ndarray, worst: Sequence[float]) -> float:
    """What results (n, 2) dominate above `worst`; larger is better in both columns."""
    found, floor = 0.0, worst[1]
    for first, second in values[np.argsort(-values[:, 0])]:
        if first > worst[0] and second > floor:
            found += (first - worst[0]) * (second - floor)
            floor = second
    return found


def hypervolume(tried: list[Tried]) -> float:
    return area(np.array([trial.at(1) for trial in tried]) * [1, -1], WORST)


@pytest.mark.slow
def test_the_model_finds_a_better_front_than_an_even_search() -> None:
    """Slow: BoTorch is loaded. Of six seeds tried the least ratio was 1.24."""
    for seed in range(2):
        ours, even = (hypervolume(searched(30, seed, method)) for method in ("auto", "sobol"))
        assert ours > 1.1 * even


def test_proposals_are_a_function_of_the_question() -> None:
    tried = searched(10, 0, "sobol")
    found = {str(decide(question(tried, 30, 0))) for _ in range(2)}
    assert len(found) == 1
    assert "model" in found.pop()


def test_trials_under_way_count_as_results_of_their_own() -> None:
    tried = searched(10, 0, "sobol")
    first = decide(question(tried, 30, 0)).config
    pending = Tried(number=10, config=first, state="pending", until=1)
    second = decide(replace(question([*tried, pending], 30, 0), number=10)).config
    apart = np.subtract(CUBE.to_unit(first), CUBE.to_unit(second))
    assert np.abs(apart).max() > 0.05


def test_the_gain_in_hypervolume_is_the_mean_of_drawn_ones() -> None:
    from torchstudy.search.hypervolume import HypervolumeGain

    results = np.array([[0.0, 1.0], [0.6, 0.5], [1.0, -0.5], [-1.0, -1.0], [-2.0, -2.0]])
    means, spreads = np.array([[0.7, 0.8]]), np.array([[0.3, 0.4]])
    drawn = means + spreads * np.random.default_rng(0).normal(size=(4000, 2))
    gain = HypervolumeGain.over(results)
    exact = float(np.exp(gain.logarithms(means, spreads))[0])
    worst = gain.improvement.ref_point.numpy()

    before = area(results, worst)
    gains = [area(np.concatenate([results, [row]]), worst) - before for row in drawn]
    error = np.std(gains) / np.sqrt(len(gains))
    assert exact == pytest.approx(np.mean(gains), abs=4 * error)


def test_beside_a_single_best_result_others_are_still_worth_something() -> None:
    from torchstudy.search.hypervolume import HypervolumeGain

    results = np.array([[2.0, 2.0], [0.0, 0.0], [-1.0, 0.5], [0.5, -1.0]])
    near, far = HypervolumeGain.over(results).logarithms(
        np.array([[1.5, 2.5], [-3.0, -3.0]]), np.full((2, 2), 0.1)
    )
    assert near > np.log(0.1)
    assert far < near - 10


# Who goes on


def waiting(number: int, first: float, second: float) -> Tried:
    return Tried(
        number=number,
        config={**CUBE.recipe, "x0": number / 10},
        state="waiting",
        until=3,
        values={3: first},
        further={3: (second,)},
    )


def promoted(tried: list[Tried], trials: int = 30) -> int:
    asked = replace(question(tried, trials, 0), ladder=ladder_for(27))
    proposal = decide(asked)
    assert proposal.origin == "promotion"
    return proposal.trial


def test_a_trial_that_another_beats_does_not_go_on() -> None:
    """Trial 1 is second in accuracy, but has more parameters than the best."""
    tried = [waiting(0, 0.8, 10.0), waiting(1, 0.79, 20.0), waiting(2, 0.5, 5.0)]
    assert promoted(tried) == 0
    above = replace(tried[0], until=9, state="pending")
    assert promoted([above, *tried[1:], waiting(3, 0.4, 50.0)], trials=4) == 2


def test_an_objective_that_is_not_known_counts_as_the_worst() -> None:
    tried = [waiting(0, 0.8, float("nan")), waiting(1, 0.8, 20.0), waiting(2, 0.7, 90.0)]
    assert promoted(tried) == 1


# A whole study


def test_learned_objectives_come_before_costs() -> None:
    study = linear_study(maximize=["accuracy"], minimize=["latency", "loss"])
    names = [(each.metric, each.sign) for each in study.objectives]
    assert names == [("accuracy", 1), ("loss", -1), ("latency_p50", -1)]
    assert study.objective.metric == "accuracy"
    assert study.describe()["objective"] == {
        "maximize": ["accuracy"],
        "minimize": ["loss", "latency_p50"],
    }
    assert linear_study(maximize="accuracy", minimize="latency").objectives[1].metric == (
        "latency_p50"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maximize": ["accuracy", 3]}, "maximize: must be the name of a metric, or a list of"),
        ({"maximize": 3}, "maximize: must be the name of a metric, or a list of some; got 3"),
        ({"maximize": []}, "objective: give maximize= or minimize="),
        ({"minimize": ["accuracy"]}, "objective: accuracy is given twice"),
        ({"minimize": ["sise"]}, "objective: Linear does not report 'sise'"),
        (
            {"minimize": ["loss", "flops", "memory", "latency"]},
            "objective: at most 4 can be traded off; got 5",
        ),
        (
            {"minimize": "parameters", "worthwhile": 0.01},
            "worthwhile: is a gain of one objective; leave it out where there are several",
        ),
        (
            {"method": "sobol", "worthwhile": 0.01},
            "worthwhile: only method='auto' knows what to expect; got 'sobol'",
        ),
    ],
)
def test_objectives_that_cannot_be_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(StudyError) as caught:
        linear_study(**changes)
    assert message in str(caught.value)


@pytest.mark.slow
def test_a_study_of_several_objectives_leaves_its_front(
    tmp_path: Path, whole_page: Callable[[Path], str]
) -> None:
    """Slow: BoTorch proposes, in this process."""
    study = linear_study(
        maximize=["accuracy"],
        minimize=["parameters", "loss"],
        space={"batch_size": Int(8, 64, log=True, default=32), "scale": 1.0},
        trials=10,
        epochs=3,
        confirm=(2, 1),
    )
    folder = tmp_path / "first"
    found = run_inline(study, folder)
    assert "model" in set(found.proposals["origin"])
    best = front(found)
    assert list(best)[3:6] == ["valid_accuracy", "valid_loss", "parameters"]
    assert (folder / "lines" / "front.csv").exists()
    assert "tradeoff-0" in whole_page(folder / "lines")
    values = best[["valid_accuracy", "valid_loss", "parameters"]].to_numpy(float) * [1, -1, -1]
    assert (pareto_ranks(values) == 1).all()
    again = run_inline(study, tmp_path / "again")
    assert timeless(again.trials).equals(timeless(found.trials))
    with quiet_ax():
        from ax.api.client import Client

        client = Client.load_from_json_file(str(folder / "lines" / "Linear.ax.json"))
        names = set(client._experiment.lookup_data().df["metric_name"])
    assert names == {"accuracy", "loss", "parameters"}
    assert client._experiment.optimization_config.is_moo_problem


@pytest.mark.slow
def test_a_strategy_of_ax_is_told_every_objective(tmp_path: Path) -> None:
    """Slow: Ax is loaded. Its own model of several objectives takes half a minute to answer."""
    study = linear_study(
        minimize=["loss"], method=even_strategy(), trials=4, space=NARROW, confirm=None
    )
    found = run_inline(study, tmp_path)
    assert found.trials["origin"].tolist() == ["recipe", "sobol", "sobol", "model"]
    assert (found.trials["reason"] == "").all()
