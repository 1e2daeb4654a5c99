"""What is measured in one training step."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from torchstudy.training.health import Monitor


def take_step(
    model: nn.Module,
    inputs: Tensor,
    *,
    monitor: Monitor | None = None,
    parameters: Sequence[nn.Parameter] | None = None,
    rate: float = 0.1,
    clip: float | None = None,
    loss: Callable[[Tensor], Tensor] = lambda outputs: outputs.square().mean(),
) -> dict[str, float]:
    """One watched SGD step over what can be trained; the measures."""
    monitor = monitor or Monitor(model)
    given = [p for p in parameters or model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(given, lr=rate)
    with monitor.step(given):
        value = loss(model(inputs))
        optimizer.zero_grad()
        value.backward()
        if clip:
            nn.utils.clip_grad_norm_(given, clip)
        optimizer.step()
    return monitor.measures()


def dense(*between: nn.Module) -> nn.Sequential:
    """Two linear layers of 8 units with the given modules between them."""
    return nn.Sequential(nn.Linear(4, 8), *between, nn.Linear(8, 8))


def kill(layer: nn.Linear | nn.Conv2d, units: int) -> None:
    """Let the first units of a layer be below 0 whatever comes in."""
    assert layer.bias is not None
    with torch.no_grad():
        layer.bias[:units] = -100.0


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def layer_norm(layer: nn.Module) -> float:
    grads = [p.grad.flatten() for p in layer.parameters() if p.grad is not None]
    return float(torch.cat(grads).norm())


def test_gradients_are_compared_between_the_first_and_the_last_layer() -> None:
    net = dense(nn.BatchNorm1d(8), nn.Tanh())
    measures = take_step(net, torch.randn(16, 4))
    first, last = layer_norm(net[0]), layer_norm(net[3])
    assert measures["gradient_ratio"] == pytest.approx(first / last, rel=1e-5)
    assert measures["gradient_max"] == pytest.approx(max(first, last), rel=1e-5)


def test_gradients_are_measured_before_they_are_clipped() -> None:
    inputs = torch.randn(16, 4)
    free, clipped = dense(), dense()
    clipped.load_state_dict(free.state_dict())
    expected = take_step(free, inputs)
    assert take_step(clipped, inputs, clip=1e-3)["gradient_max"] == expected["gradient_max"]
    assert layer_norm(clipped) < 2e-3


def test_the_update_ratio_is_the_median_change_of_the_weights() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    before = [layer.weight.detach().clone() for layer in net]
    measures = take_step(net, torch.randn(16, 4))
    changes = [
        float((layer.weight.detach() - old).norm() / old.norm())
        for layer, old in zip(net, before, strict=True)
    ]
    assert measures["update_ratio"] == pytest.approx(sorted(changes)[1], rel=1e-5)


def test_a_step_without_learning_rate_moves_no_weight() -> None:
    assert take_step(dense(), torch.randn(16, 4), rate=0.0)["update_ratio"] == 0.0


@pytest.mark.parametrize("relu", [nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6()])
def test_units_that_are_zero_for_every_item_are_dead(relu: nn.Module) -> None:
    net = dense(relu)
    kill(net[0], 3)
    with torch.no_grad():
        net[0].bias[3:] = 100.0
    assert take_step(net, torch.randn(16, 4))["dead_share"] == 3 / 8


def test_a_unit_that_lives_for_one_item_is_not_dead() -> None:
    net = dense(nn.ReLU())
    with torch.no_grad():
        net[0].weight.fill_(1.0)
        net[0].bias.zero_()
    inputs = -torch.ones(16, 4)
    assert take_step(net, inputs)["dead_share"] == 1.0
    with torch.no_grad():
        net[0].weight.fill_(1.0)
        net[0].bias.zero_()
    inputs[5] = 1.0
    assert take_step(net, inputs)["dead_share"] == 0.0


def test_the_units_of_maps_are_channels_also_in_place_after_pooling() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(64, 2),
    )
    with torch.no_grad():
        net[1].bias[:] = torch.tensor([-100.0, 100.0, 100.0, 100.0])
    inputs = torch.randn(8, 1, 8, 8).to(memory_format=torch.channels_last)
    assert take_step(net, inputs)["dead_share"] == 1 / 4


def test_the_units_of_tokens_are_their_last_dimension() -> None:
    net = dense(nn.ReLU())
    kill(net[0], 8)
    with torch.no_grad():
        net[0].bias[6:] = 100.0
    assert take_step(net, torch.randn(4, 5, 4))["dead_share"] == 6 / 8


def test_the_units_of_signals_are_channels() -> None:
    net = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Conv1d(4, 1, 3))
    with torch.no_grad():
        net[0].bias[:] = torch.tensor([-100.0, 100.0, 100.0, 100.0])
    assert take_step(net, torch.randn(4, 1, 9))["dead_share"] == 1 / 4


def test_the_worst_layer_counts() -> None:
    net = nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU()
    )
    for layer, units in ((net[0], 2), (net[2], 5), (net[4], 1)):
        with torch.no_grad():
            layer.bias.fill_(100.0)
        kill(layer, units)
    assert take_step(net, torch.rand(16, 4))["dead_share"] == 5 / 8


@pytest.mark.parametrize("smooth", [nn.LeakyReLU(), nn.GELU(), nn.SiLU(), nn.ELU()])
def test_units_that_always_pass_some_gradient_do_not_die(smooth: nn.Module) -> None:
    net = dense(smooth)
    kill(net[0], 8)
    assert set(take_step(net, torch.randn(16, 4))) == {
        "gradient_ratio",
        "gradient_max",
        "update_ratio",
    }


class Functional(nn.Module):
    """No activation modules, weights used by hand, and the last layer declared first."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 2)
        self.body = nn.Linear(8, 8)
        self.weight = nn.Parameter(torch.randn(8, 4))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.relu(inputs @ self.weight.t() - 100.0)
        output: Tensor = self.head(self.body(hidden).sigmoid())
        return output


def test_functional_code_is_seen_as_well() -> None:
    net = Functional()
    measures = take_step(net, torch.randn(16, 4))
    assert measures["dead_share"] == 1.0
    assert measures["saturated_share"] == 0.0
    assert measures["gradient_ratio"] == 0.0, "the weight used first is dead, the head is not"


def test_layers_count_in_the_order_of_use() -> None:
    net = Functional()
    net.weight.requires_grad_(False)
    ratio = take_step(net, torch.randn(16, 4))["gradient_ratio"]
    assert ratio == pytest.approx(layer_norm(net.body) / layer_norm(net.head), rel=1e-5)


@pytest.mark.parametrize(("bounded", "limit"), [(nn.Sigmoid(), 4.595), (nn.Tanh(), 2.298)])
def test_outputs_within_a_hundredth_of_a_bound_are_saturated(
    bounded: nn.Module, limit: float
) -> None:
    net = dense(bounded)  # 0.01 and 0.99 of sigmoid are at -4.595 and 4.595, of tanh at half
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias[:] = torch.tensor([-1.01, 1.01, -0.99, 0.99, 0.0, 0.5, 0.0, 2.0]) * limit
    assert take_step(net, torch.randn(16, 4))["saturated_share"] == 3 / 8


def test_an_output_between_bounds_may_be_at_them() -> None:
    net = dense(nn.ReLU(), nn.Linear(8, 8))
    net.append(nn.Sigmoid())
    with torch.no_grad():
        net[3].bias.fill_(100.0)
    assert "saturated_share" not in take_step(net, torch.randn(16, 4))


class Adversaries(nn.Module):
    """A generator that ends in a saturated tanh, and a discriminator with dead units."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = dense(nn.ReLU()).append(nn.Tanh())
        self.discriminator = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
        kill(self.discriminator[0], 7)
        with torch.no_grad():
            self.generator[0].bias.fill_(100.0)
            self.generator[2].bias.fill_(100.0)

    def forward(self, inputs: Tensor) -> Tensor:
        judged: Tensor = self.discriminator(self.generator(inputs))
        return judged


def test_only_layers_that_the_step_trains_are_looked_at() -> None:
    net, inputs = Adversaries(), torch.randn(16, 4)
    generator, discriminator = (
        list(net.generator.parameters()),
        list(net.discriminator.parameters()),
    )
    own = take_step(net, inputs, parameters=generator)
    assert own["dead_share"] == 0.0
    assert "saturated_share" not in own, "an image may be black or white"
    other = take_step(net, inputs, parameters=discriminator)
    assert other["dead_share"] >= 7 / 8
    assert "saturated_share" not in other


def test_the_worst_of_several_steps_counts_and_is_then_forgotten() -> None:
    net, inputs = Adversaries(), torch.randn(16, 4)
    monitor = Monitor(net)
    for parameters in (net.discriminator.parameters(), net.generator.parameters()):
        with monitor.step(list(parameters)):
            net(inputs).square().mean().backward()
    assert monitor.measures()["dead_share"] >= 7 / 8
    assert monitor.measures() == {}


def test_frozen_layers_are_left_out() -> None:
    net = nn.Sequential(dense(nn.ReLU()), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 2))
    kill(net[0][0], 8)
    net[0].requires_grad_(False)
    measures = take_step(net, torch.randn(16, 4))
    assert "dead_share" not in measures
    expected = layer_norm(net[2]) / layer_norm(net[3])
    assert measures["gradient_ratio"] == pytest.approx(expected, rel=1e-5)


def test_a_network_that_runs_twice_is_dead_where_both_runs_are() -> None:
    twin = dense(nn.ReLU(inplace=True))
    with torch.no_grad():
        twin[0].weight[:] = torch.tensor([1.0, 1, 1, 1, -1, -1, -1, 0])[:, None]
        twin[0].bias.zero_()
    optimizer, monitor = torch.optim.SGD(twin.parameters(), lr=0.1), Monitor(twin)
    with monitor.step(list(twin.parameters())):
        loss = twin(torch.ones(16, 4)).mean() + twin(-torch.ones(16, 4)).mean()
        loss.backward()
        optimizer.step()
    measures = monitor.measures()
    assert measures["dead_share"] == 1 / 8
    assert measures["gradient_ratio"] == pytest.approx(layer_norm(twin[0]) / layer_norm(twin[2]))


def test_one_relu_module_after_two_layers_counts_as_two() -> None:
    relu = nn.ReLU()
    net = nn.Sequential(nn.Linear(4, 8), relu, nn.Linear(8, 8), relu, nn.Linear(8, 1))
    kill(net[2], 8)
    with torch.no_grad():
        net[0].bias.fill_(100.0)
    assert take_step(net, torch.randn(16, 4))["dead_share"] == 1.0


def test_a_few_items_say_nothing_about_dead_units() -> None:
    assert "dead_share" not in take_step(dense(nn.ReLU()), torch.randn(7, 4))
    assert "dead_share" in take_step(dense(nn.ReLU()), torch.randn(8, 4))


def test_a_single_layer_has_no_ratio() -> None:
    assert set(take_step(nn.Linear(4, 2), torch.randn(8, 4))) == {"gradient_max", "update_ratio"}


def test_numbers_that_are_not_finite_are_left_out() -> None:
    measures = take_step(dense(), torch.full((8, 4), torch.inf))
    assert measures == {}


def test_networks_with_recurrent_and_shared_weights_are_watched() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(9, 4)
            self.lstm = nn.LSTM(4, 4, batch_first=True)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.back = nn.Linear(4, 9, bias=False)
            self.back.weight = self.words.weight

        def forward(self, tokens: Tensor) -> Tensor:
            states, _ = self.lstm(self.words(tokens))
            output: Tensor = self.back(self.attention(states, states, states)[0])
            return output

    measures = take_step(Reader(), torch.randint(0, 9, (8, 5)))
    assert measures["gradient_ratio"] > 0
    assert measures["update_ratio"] > 0


def trained(*, watched: bool) -> nn.Sequential:
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(144, 8),
        nn.Tanh(),
        nn.Linear(8, 3),
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, fused=True)
    monitor = Monitor(net)
    for _ in range(5):
        inputs, targets = torch.randn(16, 1, 8, 8), torch.randint(0, 3, (16,))
        with monitor.step(list(net.parameters()) if watched else []), torch.autocast("cpu"):
            loss = nn.functional.cross_entropy(net(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert bool(monitor.measures()) == watched
    return net


def test_watching_changes_no_number() -> None:
    one, other = trained(watched=True).state_dict(), trained(watched=False).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_nothing_is_left_on_the_model_even_by_a_step_that_fails() -> None:
    net = dense(nn.ReLU())
    monitor = Monitor(net)

    def fail() -> None:
        with monitor.step(list(net.parameters())):
            net(torch.randn(8, 4)).mean().backward()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not any(p._post_accumulate_grad_hooks for p in net.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert torch.overrides._get_current_function_mode() is None
    assert monitor.measures() == {}, "half a step says nothing"
