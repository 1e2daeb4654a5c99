"""Beginning with what is known: a study's own good configurations, and what earlier ones found."""

import pytest
from tests.test_runner import Linear, linear_study

from torchstudy.domains import Choice, Float
from torchstudy.errors import StudyError
from torchstudy.execution.earlier import beginnings, nearest
from torchstudy.execution.ledger import Ledger
from torchstudy.families.cnn import CNN
from torchstudy.records import Outcome, Status, TrainingKey, Trial
from torchstudy.space import SearchSpace

pytestmark = pytest.mark.usefixtures("short_reports")

GOOD = {"scale": 1.5, "learning_rate": 0.02}


@pytest.fixture
def ledger() -> Ledger:
    return Ledger("sqlite://")


def study_of(ledger: Ledger, name: str, scores: list[float], metric: str = "accuracy") -> None:
    """A finished study whose trials have scale 0.5, 0.6 ... and these scores."""
    ledger.claim(name, {})
    objective = {"metric": metric, "direction": "maximize"}
    ledger.describe(name, {"objective": objective, "families": {"Linear": {}}})
    for number, score in enumerate(scores):
        config = {"scale": 0.5 + number / 10, "batch_size": 64, "optimizer": "sgd", "gone": 3}
        trial = Trial(family="Linear", number=number, config=config, origin="sobol")
        ledger.propose(name, [trial])
        key = TrainingKey(family="Linear", number=number, seed=number)
        attempt = ledger.begin(name, key, "search", "worker")
        metrics = {f"valid_{metric}": score}
        ledger.end(name, key, attempt, Outcome(status=Status.COMPLETED, metrics=metrics), 1.0)
    ledger.release(name, "finished")


def test_the_winner_of_an_earlier_study_of_the_family_is_tried_early(ledger: Ledger) -> None:
    study_of(ledger, "before", [0.7, 0.9, 0.8])
    study = linear_study()
    ((config, origin),) = beginnings(ledger, study, is_warm=True)["Linear"]
    assert origin == "warm"
    assert config["scale"] == pytest.approx(0.6)
    assert config["optimizer"] == "sgd"
    assert config["batch_size"] == 32  # as the study has fixed it
    assert study.space_of(Linear).validate(config) == config
    assert beginnings(ledger, study, is_warm=False) == {"Linear": []}


def test_studies_of_another_objective_and_the_study_itself_say_nothing(ledger: Ledger) -> None:
    study_of(ledger, "before", [0.9], metric="f1")
    study_of(ledger, "lines", [0.9])
    assert beginnings(ledger, linear_study(), is_warm=True) == {"Linear": []}


def test_the_latest_three_studies_speak_the_last_first(ledger: Ledger) -> None:
    for place in range(5):
        study_of(ledger, f"study{place}", [0.9 if at == place else 0.1 for at in range(5)])
    found = beginnings(ledger, linear_study(), is_warm=True)["Linear"]
    assert [config["scale"] for config, _ in found] == pytest.approx([0.9, 0.8, 0.7])


def test_good_configurations_come_first_for_the_families_that_have_them(ledger: Ledger) -> None:
    study_of(ledger, "before", [0.7])
    study = linear_study(families=[Linear, CNN], good=[GOOD, {"CNN.width": 24}, {"width": 24}])
    found = beginnings(ledger, study, is_warm=True)
    assert [origin for _, origin in found["Linear"]] == ["good", "warm"]
    assert found["Linear"][0][0]["learning_rate"] == 0.02
    wide = study.space_of(CNN).recipe["width"]
    assert [(config["width"], config["learning_rate"] == 0.02) for config, _ in found["CNN"]] == [
        (wide, True),
        (24, False),
    ]


@pytest.mark.parametrize(
    ("good", "message"),
    [
        ({"scale": 1.0}, "good: must be a list of configurations"),
        ([3], "good[0]: must be a mapping of names to values"),
        ([{"scael": 1.0}], "good[0].scael is not a hyperparameter of Linear (did you mean"),
        ([{"scale": 9.0}], "good[0].scale: 9.0 is not in [0.5, 2.0] for Linear"),
        ([{"batch_size": 64}], "good[0].batch_size: "),
    ],
)
def test_a_good_configuration_that_cannot_be_is_refused(good: object, message: str) -> None:
    with pytest.raises(StudyError) as refused:
        linear_study(good=good)
    assert message in str(refused.value)


def test_the_nearest_configuration_has_what_the_space_allows() -> None:
    space = SearchSpace(
        {
            "kind": Choice("a", "b", default="a"),
            "rate": Float(0.1, 1.0, default=0.5),
            "depth": Choice(1, 2, 4, default=2),
        }
    )
    assert nearest(space, {"kind": "b", "rate": 7, "depth": 8}) == {
        "kind": "b",
        "rate": 1.0,
        "depth": 4,
    }
    assert nearest(space, {"kind": "c", "rate": "fast"}) == space.recipe
