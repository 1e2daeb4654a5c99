"""Where numbers that are not finite are said to have begun."""

import math
from collections.abc import Callable

import pytest
import torch
from tests.test_trainer import cross_entropy, lesson_on, scores
from torch import Tensor, nn

from torchstudy.data.dataset import ImageData
from torchstudy.families.phases import Fit, Phase
from torchstudy.records import Outcome, Status
from torchstudy.training.batches import Batch, Split
from torchstudy.training.compute import Compute
from torchstudy.training.origin import bad_weight, divergence, origin_of_score, origin_of_step
from torchstudy.training.trainer import train

BAD = pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])


class Spoils(nn.Module):
    """Puts `bad` into what passes through it, forwards or backwards, from one step on."""

    def __init__(self, bad: float, way: str = "forward", step: int = 1) -> None:
        super().__init__()
        self.bad, self.way, self.left = bad, way, step

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.left -= 1
        if self.left > 0:
            return inputs
        if self.way == "backward":
            outputs = inputs * 1.0
            outputs.register_hook(lambda gradient: gradient * self.bad)
            return outputs
        return inputs + self.bad


def net(spoils: nn.Module | None = None) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 8),
        nn.ReLU(inplace=True),
        spoils or nn.Identity(),
        nn.Linear(8, 8),
        nn.Tanh(),
        nn.Linear(8, 3),
    )


def origin(model: nn.Module, inputs: Tensor, loss: Callable[[Tensor], Tensor] = torch.mean) -> str:
    found = origin_of_step(model, lambda: loss(model(inputs)))
    assert found is not None
    return found


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(16, 64, generator=torch.Generator().manual_seed(0))


@BAD
def test_forwards_the_first_layer_whose_output_is_not_finite_counts(
    bad: float, inputs: Tensor
) -> None:
    assert origin(net(Spoils(bad)), inputs) == "the output of 3 (Spoils)"


@BAD
def test_a_weight_is_named_where_it_is_used_and_not_where_it_is_defined(
    bad: float, inputs: Tensor
) -> None:
    model = net()
    with torch.no_grad():
        model[4].bias[1] = bad
    assert origin(model, inputs) == "4.bias"
    assert bad_weight(model) == "4.bias"


@BAD
def test_inputs_that_are_not_finite_are_not_the_networks_fault(bad: float, inputs: Tensor) -> None:
    inputs[3, 5] = bad
    assert origin(net(), inputs) == "the input of 0 (Flatten)"


def test_batch_normalisation_that_has_learned_nonsense_is_named(inputs: Tensor) -> None:
    model = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8)).eval()
    model[1].running_var[2] = math.nan
    assert origin(model, inputs) == "1.running_var"
    assert bad_weight(model) == "1.running_var"


def test_infinity_in_a_mask_is_not_bad(inputs: Tensor) -> None:
    model = net()
    model.register_buffer("mask", torch.full((2, 2), -math.inf))
    assert bad_weight(model) is None
    assert origin_of_step(model, lambda: model(inputs).mean()) is None


@BAD
def test_backwards_the_last_layer_whose_gradient_is_not_finite_counts(
    bad: float, inputs: Tensor
) -> None:
    model = net(Spoils(bad, "backward"))
    assert origin(model, inputs) == "the gradient that 4 (Linear) passes back"


def test_the_gradient_of_a_loss_may_be_what_is_not_finite(inputs: Tensor) -> None:
    def root(outputs: Tensor) -> Tensor:
        return (outputs * 0).sqrt().mean()  # 0, with an infinite slope

    assert origin(net(), inputs, root) == "the gradient that the loss passes back"


def test_a_gradient_that_overflows_in_a_weight_alone_is_named(inputs: Tensor) -> None:
    model = nn.Sequential(nn.Linear(64, 4, bias=False))

    def steep(outputs: Tensor) -> Tensor:  # 0, with a slope of 1e37 for each of 16 items
        return ((outputs - outputs.detach()) * 1e37).sum()

    found = origin(model, inputs.abs() + 10, steep)
    assert found == "the gradient of 0.weight"


def test_gradients_that_are_finite_may_have_no_finite_norm(inputs: Tensor) -> None:
    def steep(outputs: Tensor) -> Tensor:
        return outputs.mean() * 1e25

    assert origin(net(), inputs, steep) == "the sum over all layers, each of which was finite"


def test_a_loss_may_be_what_is_not_finite(inputs: Tensor) -> None:
    found = origin(net(), inputs, lambda outputs: outputs.mean() / 0)
    assert found == "the loss itself: what every layer gave was finite"


def test_code_between_layers_shows_in_the_input_of_the_next(inputs: Tensor) -> None:
    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(64, 8), nn.Linear(8, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            outputs: Tensor = self.two(torch.log(self.one(inputs) * 0))
            return outputs

    assert origin(Between(), inputs) == "the input of two (Linear)"


def test_a_step_that_cannot_be_taken_again_says_nothing_and_leaves_nothing(inputs: Tensor) -> None:
    model = net()
    assert origin_of_step(model, lambda: model(inputs[:, :3]).mean()) is None
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(parameter._backward_hooks for parameter in model.parameters())


def test_a_metric_is_traced_to_a_layer_or_is_itself_the_origin(inputs: Tensor) -> None:
    fine, bad = net().eval(), net(Spoils(math.inf, step=0)).eval()
    assert origin_of_score(bad, lambda: bad(inputs)) == "the output of 3 (Spoils)"
    itself = "the metric itself: what every layer gave was finite"
    assert origin_of_score(fine, lambda: fine(inputs)) == itself


def test_the_sentence_has_the_place_where_one_is_known() -> None:
    assert divergence("training loss", 3, None) == "training loss was not finite in epoch 3"
    expected = "gradient norm was not finite in epoch 3, first seen in 0.weight"
    assert divergence("gradient norm", 3, "0.weight") == expected


def diverging(data: ImageData, model: Callable[[], nn.Module], **changes: object) -> Outcome:
    outcome, _ = train(lesson_on(data, build=model, **changes))
    assert outcome.status is Status.DIVERGED
    return outcome


@BAD
@pytest.mark.parametrize("is_bf16", [False, True])
def test_a_training_names_the_epoch_and_the_layer_it_began_in(
    striped: ImageData, bad: float, is_bf16: bool
) -> None:
    lesson = lesson_on(striped)
    first_of_second = lesson.train.num_batches(32) + 1
    outcome = diverging(
        striped, lambda: net(Spoils(bad, step=first_of_second)), compute=Compute(is_bf16=is_bf16)
    )
    assert outcome.epochs == 1
    assert outcome.reason == (
        "training loss was not finite in epoch 2, first seen in the output of 3 (Spoils)"
    )


@BAD
def test_a_network_that_gives_no_numbers_as_built_is_told_from_one_that_was_trained_too_fast(
    striped: ImageData, bad: float
) -> None:
    outcome = diverging(striped, lambda: net(Spoils(bad, step=1)))
    assert outcome.reason == (
        "training loss was not finite before any step, first seen in the output of 3 (Spoils)"
    )


@BAD
def test_a_training_names_the_layer_in_which_a_gradient_began(
    striped: ImageData, bad: float
) -> None:
    outcome = diverging(striped, lambda: net(Spoils(bad, "backward", step=3)))
    assert outcome.reason == (
        "gradient norm was not finite in epoch 1, first seen in the gradient that 4 (Linear) "
        "passes back"
    )


def test_the_step_is_taken_again_with_the_same_draws(striped: ImageData) -> None:
    class Rarely(nn.Module):
        """Divides by zero where a draw is the largest of a few: another draw would not."""

        def __init__(self) -> None:
            super().__init__()
            self.seen: list[float] = []

        def forward(self, inputs: Tensor) -> Tensor:
            draw = float(torch.rand(()))
            return inputs / 0 if self.training and draw > 0.8 else inputs

    outcome = diverging(striped, lambda: net(Rarely()), epochs=9)
    assert "first seen in the output of 3 (Rarely)" in outcome.reason


@BAD
def test_of_two_phases_that_alternate_the_network_at_fault_is_named(
    striped: ImageData, bad: float
) -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = net(), net(Spoils(bad, step=5))

    def loss_of(name: str) -> Callable[[nn.Module, Batch], Tensor]:
        return lambda model, batch: cross_entropy(getattr(model, name), batch)

    phases = tuple(
        Phase(
            name=name,
            loss=loss_of(name),
            parameters=lambda model, name=name: getattr(model, name).parameters(),
        )
        for name in ("one", "other")
    )
    outcome = diverging(
        striped, Pair, phases=phases, score=lambda model, part: scores(model.one, part)
    )
    assert outcome.reason == (
        "training loss was not finite in epoch 2, first seen in the output of other.3 (Spoils)"
    )


@BAD
@pytest.mark.parametrize("at", ["start", "epoch"])
def test_a_fit_that_leaves_no_numbers_diverges_even_where_metrics_stay_finite(
    striped: ImageData, bad: float, at: str
) -> None:
    def fit(model: nn.Module, train: Split) -> None:
        with torch.no_grad():
            model[6].weight[0, 0] = bad

    phase = Fit(name="fit", function=fit, at=at)  # type: ignore[arg-type]
    outcome = diverging(striped, net, phases=(phase,), score=lambda model, part: {"accuracy": 0.5})
    assert outcome.reason == "a weight was not finite in epoch 1, first seen in 6.weight"
    assert outcome.metrics == {}


@BAD
def test_a_metric_that_is_not_finite_is_named(striped: ImageData, bad: float) -> None:
    def score(model: nn.Module, part: Split) -> dict[str, float]:
        return {**scores(model, part), "own": bad}

    outcome = diverging(striped, net, score=score)
    assert outcome.reason == (
        "validation own was not finite in epoch 1, first seen in the metric itself: what every "
        "layer gave was finite"
    )


def test_weights_are_never_moved_by_what_is_not_finite(striped: ImageData) -> None:
    lesson = lesson_on(striped, build=lambda: net(Spoils(math.nan, step=4)))
    outcome, model = train(lesson)
    assert outcome.status is Status.DIVERGED
    assert bad_weight(model) is None
