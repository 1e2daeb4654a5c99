"""What networks cost, their layers as a table, and limits that keep trials from being trained."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from tests.test_limits import width_and_rate
from torch import nn

from torchstudy import CNN, Float, Int, MultiInput, Study, Transfer, run
from torchstudy.data.dataset import ImageData
from torchstudy.data.spec import DataSpec
from torchstudy.errors import StudyError
from torchstudy.families.base import Family, family
from torchstudy.families.built_in import BUILT_IN
from torchstudy.models import costs
from torchstudy.models.costs import costs_of
from torchstudy.models.limits import FEW, Limits
from torchstudy.models.summary import layer_table
from torchstudy.records import COSTS
from torchstudy.training.batches import Batch

pytestmark = pytest.mark.usefixtures("short_reports")

DIGITS = DataSpec(source="x", channels=1, height=8, width=8, classes=tuple("abc"), num_train=10)


@family
class Plain(Family):
    """A convolution, a transposed one and a linear layer, whose costs can be counted by hand."""

    def build(self, data: DataSpec) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            nn.ConvTranspose2d(4, 2, 2, stride=2, bias=False),
            nn.Flatten(),
            nn.Linear(2 * 16 * 16, 3),
        )


def test_costs_are_those_counted_by_hand() -> None:
    costs = costs_of(Plain(), DIGITS)
    parameters = 4 * 9 + 4 * 2 * 4 + (512 + 1) * 3
    assert costs["parameters"] == parameters
    convolution = 9 * 4 * 64
    transposed = 4 * 2 * 4 * 64  # every input pixel meets every weight once
    assert costs["flops"] == 2 * (convolution + transposed + 512 * 3)
    assert costs["memory"] == 4 * (parameters + 512 + 512)  # flattening holds most
    assert 0 < costs["latency_p50"] <= costs["latency_p95"]
    assert tuple(costs) == COSTS


@family
class Attending(Family):
    """Rows of an image that attend to each other, in torch's own layer."""

    def build(self, data: DataSpec) -> nn.Module:
        layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
        return nn.Sequential(nn.Flatten(0, 1), layer, nn.Flatten(), nn.Linear(64, 3))


def test_attention_is_counted() -> None:
    projections = 4 * 8 * 8 * 8  # query, key, value and output, of 8 rows with 8 numbers
    scores_and_sums = 2 * 8 * 8 * 8
    others = 2 * 8 * 8 * 16 + 64 * 3
    was_fast = torch.backends.mha.get_fastpath_enabled()
    costs = costs_of(Attending(), DIGITS, with_latency=False)
    assert costs["flops"] == 2 * (projections + scores_and_sums + others)
    assert torch.backends.mha.get_fastpath_enabled() is was_fast


def test_a_latency_is_that_of_one_thread_after_which_there_are_as_many_as_before() -> None:
    seen: set[int] = set()

    @family
    class Watched(Family):
        def build(self, data: DataSpec) -> nn.Module:
            return nn.Linear(1, 1)

        def outputs(self, model: nn.Module, batch: Batch) -> torch.Tensor:
            seen.add(torch.get_num_threads())
            return batch.inputs

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        costs_of(Watched(), DIGITS, with_latency=False)
        assert seen == {3}
        costs_of(Watched(), DIGITS)
        assert seen == {1, 3}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_costs_leave_the_random_state_and_the_numbers_as_they_are(striped: ImageData) -> None:
    before = torch.get_rng_state()
    first = costs_of(CNN(), striped.spec, with_latency=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert costs_of(CNN(), striped.spec, with_latency=False) == first


def test_a_frozen_backbone_counts() -> None:
    costs = costs_of(Transfer(), DIGITS, with_latency=False)
    network = Transfer().encoder(DIGITS)
    assert network is not None
    frozen = sum(p.numel() for p in network.build().parameters())
    assert costs["parameters"] == frozen + 513 * 3


@pytest.mark.parametrize("cls", BUILT_IN)
def test_every_family_has_costs_and_layers(
    cls: type[Family], striped: ImageData, tabled: ImageData
) -> None:
    spec = tabled.spec if cls is MultiInput else striped.spec
    table = layer_table(cls(), spec)
    assert list(table) == ["layer", "kind", "output_shape", "parameters", "multiply_adds"]
    assert len(table) >= 1
    costs = costs_of(cls(), spec, with_latency=False)
    assert 0 < table["parameters"].sum() <= costs["parameters"]
    assert 2 * table["multiply_adds"].sum() == costs["flops"]


def test_the_layers_of_a_network_in_order() -> None:
    table = layer_table(Plain(), DIGITS)
    assert table["layer"].tolist() == ["0", "1", "2", "3"]
    assert table["kind"].tolist() == ["Conv2d", "ConvTranspose2d", "Flatten", "Linear"]
    assert table["output_shape"].tolist() == ["4 x 8 x 8", "2 x 16 x 16", "512", "3"]
    assert table["parameters"].tolist() == [36, 32, 0, 1539]


# -- limits ----------------------------------------------------------------------------------------

SMALL: dict[str, object] = {
    "CNN.width": Int(4, 64, log=True),
    "CNN.depth": Int(1, 2),
    "learning_rate": Float(1e-3, 1e-2, log=True),
}


def study(**changes: object) -> Study:
    given: dict[str, object] = {
        "data": "digits",
        "families": [CNN],
        "maximize": "accuracy",
        "space": SMALL,
        "trials": 6,
        "epochs": 1,
        "confirm": (1, 1),
        "name": "limited",
        **changes,
    }
    return Study(**given)  # type: ignore[arg-type]


@pytest.mark.slow
def test_no_configuration_above_a_limit_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Slow: two searches by Ax, of which the second goes on where a shorter one ended."""
    limits = {"parameters": 5000}
    whole = run(study(limits=limits), reports=tmp_path / "a", executor="inline")
    said = capsys.readouterr().out
    assert "CNN: the recipe is left out: parameters " in said
    assert ", above the limit of 5,000" in said
    assert len(whole.trials) == 6
    assert (whole.trials["parameters"] <= 5000).all()
    assert (whole.trials["origin"] != "recipe").all()
    assert (whole.confirmation["parameters"] <= 5000).all()
    free = run(study(name="free"), reports=tmp_path / "b", executor="inline")
    assert (free.trials["parameters"] > 5000).any()
    part = study(limits=limits, trials=4)
    run(part, reports=tmp_path / "c", executor="inline")
    resumed = run(study(limits=limits), reports=tmp_path / "c", executor="inline")
    columns = [name for name in whole.trials if name.startswith("config.")]
    pd.testing.assert_frame_equal(resumed.trials[columns], whole.trials[columns])


def test_a_limit_far_out_of_reach_is_said_after_few_configurations(striped: ImageData) -> None:
    limited = Limits(study(limits={"parameters": 10}), striped.spec)
    with pytest.raises(StudyError, match="raise the limit or open the space"):
        limited.check()
    corners = len(list(limited.study.space_of(CNN).corners()))
    assert len(limited._known) <= 1 + corners + FEW


def test_a_limit_out_of_reach_is_said_before_anything_is_trained(striped: ImageData) -> None:
    limited = study(limits={"parameters": 10, "flops": 1e9}, space=width_and_rate())
    with pytest.raises(StudyError) as caught:
        Limits(limited, striped.spec).check()
    (problem,) = caught.value.problems
    assert problem.startswith(
        "CNN: no configuration within the limits was found (parameters 10, flops 1,000,000,000); "
        "the least found is parameters "
    )


def test_a_limit_within_reach_is_fine(striped: ImageData) -> None:
    Limits(study(limits={"latency_p95": 1e4, "memory": 1e9}), striped.spec).check()
    Limits(study(), striped.spec).check()


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ({"params": 3}, "limits: 'params' is no cost (did you mean 'parameters'?); there are "),
        ({"parameters": 0}, "limits: parameters must be a number above 0; got 0"),
        ({"parameters": "many"}, "limits: parameters must be a number above 0; got 'many'"),
        ({"flops": float("nan")}, "limits: flops must be a number above 0; got nan"),
        ({"latency": -1}, "limits: latency must be a number above 0; got -1"),
        (
            {"latency": 3, "latency_p50": 2},
            "limits: latency stands for latency_p50, which has a limit too; give one of the two",
        ),
        ([3], "limits: a mapping of costs to their most, such as "),
    ],
)
def test_limits_that_cannot_be_are_refused(limits: object, problem: str) -> None:
    with pytest.raises(StudyError) as caught:
        study(limits=limits)
    assert caught.value.problems[0].startswith(problem)


def test_limits_are_part_of_what_makes_results_comparable() -> None:
    assert "limits" not in study().describe()
    assert study(limits={"flops": 1e6}).describe()["limits"] == {"flops": 1e6}


def test_a_limit_on_latency_is_one_on_its_median() -> None:
    short, full = study(limits={"latency": 3}), study(limits={"latency_p50": 3})
    assert short.cost_limits == full.cost_limits == {"latency_p50": 3}
    assert short.describe() == full.describe()
    assert not short.bounds


@pytest.mark.slow
def test_a_cost_can_be_the_objective(tmp_path: Path) -> None:
    """Slow: a search and its confirmation."""
    found = run(
        study(maximize=None, minimize="parameters", trials=2, space={**SMALL, "CNN.depth": 1}),
        reports=tmp_path,
        executor="inline",
    )
    assert found.trials["best_valid_parameters"].tolist() == found.trials["parameters"].tolist()
    tested = found.confirmation.dropna(subset=["test_parameters"])
    assert (tested["test_parameters"] == tested["parameters"]).all()


@pytest.mark.parametrize("head", ["linear", "network"])
def test_costs_on_a_frozen_encoder_are_those_of_the_whole_network(
    head: str, striped: ImageData
) -> None:
    model = Transfer(head=head)
    assert model.encoder(striped.spec) is not None
    with torch.inference_mode():
        whole = costs._measured(costs.Answering.whole(model, striped.spec), with_latency=False)
    whole["memory"] = whole.pop("held") + whole.pop("activations")
    assert costs_of(model, striped.spec, with_latency=False) == whole


def test_a_frozen_encoder_is_measured_once(
    striped: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = replace(striped.spec, num_features=costs.num_features(Transfer(), striped.spec))
    first = costs_of(Transfer(), spec)
    monkeypatch.setattr(costs, "features_of", lambda network, images: pytest.fail("run again"))
    again = costs_of(Transfer(), spec)
    assert again.keys() == first.keys()
    assert again["flops"] == first["flops"]
