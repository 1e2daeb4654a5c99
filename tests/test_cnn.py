"""CNN: closed forms of its size, the recipe, what it refuses, and every field at work."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.training_jobs import job_for, run_job, space_of
from torch import nn

from torchstudy.data.dataset import ImageData
from torchstudy.data.spec import DataSpec
from torchstudy.families.blocks import ACTIVATIONS, num_groups, pooled_activation
from torchstudy.families.cnn import CNN
from torchstudy.records import Status
from torchstudy.study import Study
from torchstudy.training.batches import Batch
from torchstudy.training.optim import TrainingConfig

GREY = DataSpec(source="x", channels=1, height=28, width=28, classes=tuple("abc"), num_train=1)
TWO = replace(GREY, classes=("a", "b"))
NUMBER = replace(GREY, classes=(), task="regression", target="age", target_std=2.0)

FIELDS = {
    "depth": st.integers(1, 3),
    "width": st.integers(1, 13),
    "kernel": st.sampled_from([1, 3, 5, 7]),
    "convolutions": st.integers(1, 3),
    "padding": st.sampled_from(["same", "valid"]),
    "stride": st.integers(1, 3),
    "pooling": st.sampled_from(["max", "average"]),
    "skip": st.booleans(),
    "normalisation": st.sampled_from(["none", "batch", "group"]),
    "activation": st.sampled_from(sorted(ACTIVATIONS)),
    "global_pooling": st.sampled_from(["none", "max", "average"]),
    "dropout": st.sampled_from([0.0, 0.5]),
}
configurations = st.fixed_dictionaries(FIELDS).map(lambda fields: CNN(**fields))
sides = st.integers(1, 40)


def last_side(config: CNN, side: int) -> int:
    """floor((n + 2p - k) / s) + 1 for a convolution, floor(n / 2) for a pooling."""
    border = config.kernel // 2 if config.padding == "same" else 0
    for _ in range(config.depth):
        for number in range(config.convolutions):
            step = config.stride if number == 0 else 1
            side = (side + 2 * border - config.kernel) // step + 1
            if side < 1:
                return 0
        side = side // 2 if config.stride == 1 else side
    return side


def num_parameters(config: CNN, data: DataSpec) -> int:
    """k*k*in*out weights a convolution; a bias, or scale and shift, per output channel."""
    per_channel = 1 if config.normalisation == "none" else 2
    total, narrow = 0, data.channels
    for level in range(config.depth):
        wide = config.width * 2**level
        for number in range(config.convolutions):
            total += config.kernel**2 * (narrow if number == 0 else wide) * wide
            total += per_channel * wide
        if config.skip:
            total += (narrow + per_channel) * wide
        narrow = wide
    height, width = (last_side(config, side) for side in (data.height, data.width))
    pixels = 1 if config.global_pooling != "none" else height * width
    return total + (narrow * pixels + 1) * max(1, data.num_outputs)


def test_the_fields_that_the_closed_forms_cover_are_all_there_are() -> None:
    assert FIELDS.keys() == CNN.__dataclass_fields__.keys()


@settings(max_examples=150, deadline=None)
@given(config=configurations, height=sides, width=sides, data=st.sampled_from([GREY, TWO, NUMBER]))
def test_parameters_and_output_size_are_those_of_the_closed_forms(
    config: CNN, height: int, width: int, data: DataSpec
) -> None:
    data = replace(data, height=height, width=width, channels=3)
    assume(not config.problems(data))
    net = config.build(data)
    assert sum(parameter.numel() for parameter in net.parameters()) == num_parameters(config, data)
    images = torch.zeros(2, 3, height, width)
    assert isinstance(net, nn.Sequential)
    maps = net[: -4 if config.global_pooling != "none" else -3].eval()(images)
    channels = config.width * 2 ** (config.depth - 1)
    assert maps.shape == (2, channels, last_side(config, height), last_side(config, width))
    assert net.eval()(images).shape == (2, data.num_outputs)


@settings(max_examples=150, deadline=None)
@given(config=configurations, height=sides, width=sides)
def test_an_image_is_refused_exactly_when_nothing_would_be_left_of_it(
    config: CNN, height: int, width: int
) -> None:
    assume(not config.problems(replace(GREY, height=2000, width=2000)))
    data = replace(GREY, height=height, width=width)
    is_left = min(last_side(config, height), last_side(config, width)) >= 1
    assert (config.problems(data) == ()) == is_left


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (
            CNN(depth=3),
            "depth=3 halves the image 3 times and needs at least 8 px, but the images have 6 x 8: "
            "narrow depth or raise the image size",
        ),
        (
            CNN(depth=2, kernel=3, padding="valid"),
            "depth=2 with kernel=3, padding='valid' and stride=1 needs at least 10 px, but the "
            "images have 6 x 8: narrow depth or raise the image size",
        ),
        (CNN(padding="full"), "padding must be one of same, valid, not 'full'"),
        (
            CNN(normalisation="layer"),
            "normalisation must be one of none, batch, group, not 'layer'",
        ),
        (
            CNN(activation="elu"),
            "activation must be one of relu, leaky-relu, gelu, silu, tanh, sigmoid, not 'elu'",
        ),
        (
            CNN(global_pooling="mean"),
            "global_pooling must be one of none, max, average, not 'mean'",
        ),
        (CNN(stride=0), "stride must be at least 1, not 0"),
        (CNN(kernel=4), "padding='same' needs an odd kernel, not 4"),
        (
            CNN(skip=True, padding="valid"),
            "skip=True needs padding='same': both ways through a block must end equally large",
        ),
    ],
)
def test_what_cannot_be_built_is_a_problem(config: CNN, problem: str) -> None:
    assert config.problems(replace(GREY, height=6, width=8)) == (problem,)


def test_several_views_are_refused() -> None:
    (problem,) = CNN().problems(replace(GREY, views=4))
    assert problem == "takes one image an item, but the data have 4; use MultiInput"


def test_the_recipe_is_the_plain_network_layer_by_layer() -> None:
    torch.manual_seed(0)
    net = CNN().build(GREY).eval()
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(64 * 7 * 7, 3),
    ).eval()
    images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    assert torch.equal(net(images), plain(images))


def test_pooling_before_a_monotone_activation_computes_the_same() -> None:
    maps = torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    for name in ("relu", "leaky-relu"):
        fast = nn.Sequential(*pooled_activation(name, "max"))
        plain = nn.Sequential(ACTIVATIONS[name](), nn.MaxPool2d(2))
        assert torch.equal(fast(maps.clone()), plain(maps.clone()))
    for name, pooling in (("gelu", "max"), ("relu", "average")):
        assert isinstance(pooled_activation(name, pooling)[0], ACTIVATIONS[name])


def test_a_block_with_skip_is_the_sum_of_its_two_ways() -> None:
    net = CNN(depth=1, width=4, skip=True, convolutions=2, stride=2).build(GREY).eval()
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    block = net[0]
    expected = torch.relu(block.layers(images) + block.shortcut(images))
    assert torch.equal(net[:2](images), expected)
    assert block.shortcut[0].kernel_size == (1, 1)


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_global_pooling_takes_one_number_of_each_map(pooling: str) -> None:
    net = CNN(depth=1, width=4, global_pooling=pooling).build(GREY).eval()
    assert isinstance(net, nn.Sequential)
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    maps = net[:-4](images)
    expected = maps.amax(dim=(2, 3)) if pooling == "max" else maps.mean(dim=(2, 3))
    assert torch.allclose(net[:-2](images), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("channels", "groups"), [(3, 1), (8, 2), (11, 1), (12, 3), (32, 8), (64, 16), (512, 32)]
)
def test_group_normalisation_has_at_least_four_channels_in_a_group(
    channels: int, groups: int
) -> None:
    assert num_groups(channels) == groups


def test_two_classes_have_one_logit_and_binary_cross_entropy() -> None:
    torch.manual_seed(0)
    config = CNN(width=8, dropout=0.0)
    net = config.build(TWO).eval()
    batch = Batch(torch.rand(6, 1, 28, 28), torch.tensor([0, 1, 1, 0, 1, 1]))
    loss = config.prediction_loss(TWO, TrainingConfig())(net, batch)
    logits = net(batch.inputs)
    assert logits.shape == (6, 1)
    right = torch.where(batch.targets == 1, logits.flatten(), -logits.flatten()).sigmoid()
    assert loss.item() == pytest.approx(-right.log().mean().item(), rel=1e-5)
    probabilities = config.predict(net, TWO, batch)
    assert probabilities is not None
    assert torch.allclose(probabilities[:, 1], logits.flatten().sigmoid())


def test_numbers_are_predicted_in_the_unit_of_the_target() -> None:
    config = CNN(width=8)
    net = config.build(NUMBER).eval()
    batch = Batch(torch.rand(3, 1, 28, 28), torch.tensor([1.0, 2.0, 3.0]))
    values = config.predict(net, NUMBER, batch)
    assert values is not None
    assert torch.allclose(values, net(batch.inputs).flatten().double() * 2.0)


CLOSED = {
    "stride": 2,
    "skip": True,
    "convolutions": 2,
    "padding": "valid",
    "normalisation": "group",
    "global_pooling": "average",
}


@pytest.mark.parametrize("name", CLOSED)
def test_every_closed_field_can_be_opened_and_learns(
    name: str, striped: ImageData, tmp_path: Path
) -> None:
    study = Study(
        data="digits",
        families=[CNN],
        maximize="accuracy",
        space={f"CNN.{name}": CLOSED[name], "CNN.width": 16, "CNN.depth": 1, "batch_size": 16},
    )
    config = {**study.space_of(CNN).recipe, "learning_rate": 0.01}
    outcome, _ = run_job(job_for(CNN, striped, tmp_path, config, epochs=6))
    assert outcome.status is Status.COMPLETED, outcome.reason
    assert outcome.metrics["valid_accuracy"] > 0.9  # chance is a third


def test_pooling_is_searched_only_where_the_stride_leaves_something_to_pool() -> None:
    study = Study(data="digits", families=[CNN], maximize="accuracy", space={"CNN.stride": 2})
    assert "pooling" not in study.space_of(CNN).recipe
    assert space_of(CNN).recipe["pooling"] == "max"
    searched = {name for name, domain in space_of(CNN).domains.items() if domain.size > 1}
    assert searched.isdisjoint(CLOSED.keys() - {"normalisation"})
