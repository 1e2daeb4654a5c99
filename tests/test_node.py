"""The search inside a plain Ax client finds what it finds alone."""

import math

import pytest

from torchstudy.domains import Choice, Float, Int
from torchstudy.quiet import quiet_ax
from torchstudy.records import Objective
from torchstudy.search.proposer import decide
from torchstudy.search.questions import Question
from torchstudy.search.rungs import without_rungs
from torchstudy.search.tried import Tried
from torchstudy.space import Config, SearchSpace

ACCURACY = Objective(metric="accuracy", direction="maximize")
SPACE = SearchSpace(
    {
        "optimizer": Choice("adam", "sgd", default="adam"),
        "momentum": Float(0.5, 0.99, default=0.9, when={"optimizer": "sgd"}),
        "rate": Float(1e-4, 1e-1, log=True, default=1e-3),
        "width": Int(8, 64, log=True, default=16),
    }
)


def value(config: Config) -> float:
    return 1 - abs(math.log10(float(config["rate"]) / 1e-2)) / 4


def alone(num_trials: int, failing: int) -> list[Config]:
    tried: list[Tried] = []
    for number in range(num_trials):
        question = Question(
            name="alone",
            space=SPACE,
            objective=ACCURACY,
            ladder=without_rungs(1),
            trials=20,
            tried=tried,
            number=number,
            seed=3,
            spent=number / 20,
        )
        config = decide(question).config
        is_failed = number == failing
        tried.append(
            Tried(
                number=number,
                config=config,
                state="failed" if is_failed else "completed",
                until=1,
                values={} if is_failed else {1: value(config)},
            )
        )
    return [trial.config for trial in tried]


@pytest.mark.slow
def test_a_plain_client_with_the_node_gets_what_the_search_decides() -> None:
    """Slow: it loads Ax."""
    with quiet_ax():
        from torchstudy.search.node import generation_strategy

        client = SPACE.ax_client("node", [ACCURACY], seed=0)
        client.set_generation_strategy(generation_strategy(SPACE, ACCURACY, seed=3, trials=20))
        found = []
        for number in range(11):
            ((index, parameters),) = client.get_next_trials(max_trials=1).items()
            config = SPACE.completed({k: v for k, v in parameters.items() if v is not None})
            found.append(config)
            if number == 2:
                client.mark_trial_abandoned(index)
            else:
                client.complete_trial(index, {"accuracy": value(config)})
        together = client.get_next_trials(max_trials=3)
    assert found == alone(11, failing=2)
    assert len({str(parameters) for parameters in together.values()}) == 3
