"""Trainings stacked into one network: the same as alone, and alone where that cannot be."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from torchstudy.data.dataset import ImageData
from torchstudy.data.spec import DataSpec
from torchstudy.execution.inputs import splits_of
from torchstudy.families.base import Family, family
from torchstudy.families.cnn import CNN
from torchstudy.families.linear import LinearModel
from torchstudy.families.mlp import MLP
from torchstudy.records import Epoch, Objective, Outcome, Status
from torchstudy.training.augmentation import Augmentation
from torchstudy.training.batches import Batch, Split
from torchstudy.training.lesson import Lesson
from torchstudy.training.losses import prediction_loss
from torchstudy.training.optim import TrainingConfig
from torchstudy.training.together import train as together
from torchstudy.training.together.grouping import (
    MOST_VALUES,
    MOST_WORK,
    agrees,
    step_size,
    together_key,
)
from torchstudy.training.together.losses import member_losses
from torchstudy.training.together.stacking import stacked, unknown_layers
from torchstudy.training.together.train import train_together
from torchstudy.training.trainer import train

CLOSE = 1e-4  # relative, of weights and numbers: single precision is summed in another order
THREE = DataSpec(source="x", channels=1, height=8, width=8, classes=tuple("abc"), num_train=1)

MLPS = [MLP(width=16, dropout=0.1), MLP(width=16, dropout=0.0), MLP(width=16, dropout=0.4)]
ADAMS = [
    {"learning_rate": 1e-2},
    {"learning_rate": 3e-2, "schedule": "cosine", "warm_up": 0.2, "label_smoothing": 0.1},
    {"beta1": 0.8, "beta2": 0.99, "weight_decay": 0.1, "schedule": "constant"},
]
SGDS = [
    {"learning_rate": 0.1},
    {"learning_rate": 0.05, "momentum": 0.0, "value_clipping": 0.01},
    {"learning_rate": 0.1, "momentum": 0.5, "gradient_clipping": 0.3, "weight_decay": 1e-3},
]


def lesson_on(
    data: ImageData, network: Family, seed: int = 0, epochs: int = 3, **changes: object
) -> Lesson:
    config = TrainingConfig(**{"batch_size": 32, **changes})  # type: ignore[arg-type]
    preprocessing = network.preprocessing(data.spec)

    def split(name: str) -> Split:
        rows = data.splits[name]
        return Split.of(data.pixels, rows, data.targets[rows], preprocessing)

    return Lesson(
        build=lambda: network.build(data.spec),
        phases=network.phases(data.spec, config),
        config=config,
        train=split("train"),
        valid=split("valid"),
        score=lambda model, part: network.score(model, data.spec, part.in_order()),
        objective=Objective(metric="accuracy", direction="maximize"),
        epochs=epochs,
        seed=seed,
    )


def lessons_on(
    data: ImageData, networks: Sequence[Family], configs: Sequence[dict[str, object]]
) -> list[Lesson]:
    pairs = zip(networks, configs, strict=True)
    return [lesson_on(data, each, seed, **config) for seed, (each, config) in enumerate(pairs)]


def trained(
    data: ImageData, lessons: Sequence[Lesson], **options: object
) -> tuple[list[tuple[Outcome, nn.Module]], list[list[Epoch]]]:
    rows: list[list[Epoch]] = [[] for _ in lessons]
    results = train_together(
        lessons,
        data=data.spec,
        outputs=lambda model, batch: model(batch.inputs),
        on_epoch=lambda number, row: rows[number].append(row),
        **options,  # type: ignore[arg-type]
    )
    return results, rows


def alone(lesson: Lesson, **options: object) -> tuple[Outcome, nn.Module, list[Epoch]]:
    rows: list[Epoch] = []
    return *train(lesson, on_epoch=rows.append, **options), rows  # type: ignore[arg-type]


def assert_alike(found: nn.Module, expected: nn.Module) -> None:
    values = found.state_dict()
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(values[name], value, rtol=CLOSE, atol=CLOSE * 0.1, msg=name)


def assert_same_rows(found: list[Epoch], expected: list[Epoch]) -> None:
    for row, own in zip(found, expected, strict=True):
        assert row.values() == pytest.approx(own.values(), rel=CLOSE, abs=1e-6)
        assert row.parts.keys() == own.parts.keys()


@pytest.mark.parametrize(
    ("networks", "configs"),
    [
        (MLPS, [{"optimizer": "adamw", **config} for config in ADAMS]),
        (MLPS, [{"optimizer": "adam", **config} for config in ADAMS]),
        (MLPS, [{"optimizer": "sgd", **config} for config in SGDS]),
        ([MLP(width=8, activation="gelu", depth=1)] * 2, ADAMS[:2]),
        # Not Adam: a bias before batch normalisation has rounding noise for a gradient, and Adam
        # makes full steps of it, whose direction no two orders of summation agree on.
        (
            [MLP(width=8, activation="tanh", normalisation="batch")] * 2,
            [{"optimizer": "sgd", **config} for config in SGDS[:2]],
        ),
        ([CNN(width=8, depth=1, dropout=0.3)] * 3, ADAMS),
        (
            [CNN(width=4, depth=2, skip=True, normalisation="group", activation="silu")] * 2,
            ADAMS[1:],
        ),
    ],
    ids=["adamw", "adam", "sgd", "gelu", "tanh-batch", "cnn", "cnn-group"],
)
def test_each_training_of_a_group_is_what_it_is_alone(
    striped: ImageData, networks: list[Family], configs: list[dict[str, object]]
) -> None:
    lessons = lessons_on(striped, networks, configs)
    results, rows = trained(striped, lessons)
    for lesson, (outcome, model), found in zip(lessons, results, rows, strict=True):
        expected, own, own_rows = alone(lesson)
        assert_same_rows(found, own_rows)
        assert_alike(model, own)
        assert not model.training
        assert outcome == replace(expected, metrics=outcome.metrics)
        assert outcome.metrics == pytest.approx(expected.metrics, rel=CLOSE)


def test_the_same_group_gives_the_same_numbers_bit_for_bit(striped: ImageData) -> None:
    lessons = lessons_on(striped, MLPS, ADAMS)
    before = torch.get_rng_state()
    first, second = trained(striped, lessons)[1], trained(striped, lessons)[1]
    assert torch.equal(before, torch.get_rng_state())
    values = [[row.values() for row in rows] for rows in first]
    assert values == [[row.values() for row in rows] for rows in second]


def test_a_member_that_diverges_ends_as_it_does_alone_and_disturbs_no_other(
    striped: ImageData,
) -> None:
    configs: list[dict[str, object]] = [{}, {"learning_rate": 1e30, "optimizer": "adamw"}, {}]
    lessons = lessons_on(striped, [MLP(width=16)] * 3, configs)
    results, rows = trained(striped, lessons)
    assert [outcome.status for outcome, _ in results] == [
        Status.COMPLETED,
        Status.DIVERGED,
        Status.COMPLETED,
    ]
    expected, _, own_rows = alone(lessons[1])
    assert results[1][0] == expected
    assert "not finite in epoch" in expected.reason
    assert len(rows[1]) == len(own_rows)
    for number in (0, 2):
        _, own, own_rows = alone(lessons[number])
        assert_same_rows(rows[number], own_rows)
        assert_alike(results[number][1], own)


def test_members_that_wait_take_the_place_of_those_that_have_ended(
    striped: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "MOST_ITEMS", 64)
    lessons = [lesson_on(striped, MLPS[0], seed, epochs) for seed, epochs in enumerate((3, 1, 2))]
    order: list[tuple[int, int]] = []
    results = train_together(
        lessons,
        data=striped.spec,
        outputs=MLPS[0].outputs,
        on_epoch=lambda number, row: order.append((number, row.epoch)),
    )
    assert order == [(0, 1), (1, 1), (0, 2), (2, 1), (0, 3), (2, 2)]
    for lesson, (_, model) in zip(lessons, results, strict=True):
        assert_alike(model, alone(lesson)[1])


def test_members_stop_early_each_in_its_own_epoch(striped: ImageData) -> None:
    changes = {"optimizer": "sgd", "learning_rate": 0.3, "schedule": "constant"}
    lessons = [
        lesson_on(striped, MLPS[0], 0, 8, patience=patience, **changes) for patience in (1, 2, 9)
    ]
    results, rows = trained(striped, lessons)
    epochs = [outcome.epochs for outcome, _ in results]
    assert epochs[0] < epochs[1] < epochs[2]
    for lesson, (outcome, model), found in zip(lessons, results, rows, strict=True):
        expected, own, own_rows = alone(lesson)
        assert (outcome.reason, outcome.epochs, outcome.best_epoch) == (
            expected.reason,
            expected.epochs,
            expected.best_epoch,
        )
        assert_same_rows(found, own_rows)
        assert_alike(model, own)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_member_goes_on_alone_from_its_checkpoint_and_the_other_way_round(
    striped: ImageData, tmp_path: Path, optimizer: str
) -> None:
    network = CNN(width=8, depth=1, dropout=0.3)
    lessons = [lesson_on(striped, network, seed, 4, optimizer=optimizer) for seed in range(2)]
    per_epoch = lessons[0].train.num_batches(32)
    expected = [alone(lesson) for lesson in lessons]

    def after_two_epochs() -> bool:
        return next(left)

    left = iter([False] * 2 * per_epoch + [True])
    paths = [tmp_path / "first.pt", tmp_path / "second.pt"]
    results, rows = trained(striped, lessons, checkpoints=paths, should_stop=after_two_epochs)
    assert [outcome.status for outcome, _ in results] == [Status.PAUSED] * 2
    assert [len(each) for each in rows] == [2, 2]
    _, model, own_rows = alone(lessons[0], checkpoint=paths[0])
    assert_same_rows(own_rows, expected[0][2])
    assert_alike(model, expected[0][1])

    left = iter([False] * per_epoch + [True])
    alone(lessons[0], checkpoint=tmp_path / "alone.pt", should_stop=after_two_epochs)
    results, rows = trained(
        striped, lessons, checkpoints=[tmp_path / "alone.pt", paths[1]]
    )  # one epoch done by the first, two by the second
    for number in range(2):
        assert_same_rows(rows[number], expected[number][2])
        assert_alike(results[number][1], expected[number][1])


@pytest.mark.parametrize(
    "network",
    [
        MLP(width=8, depth=3),
        MLP(width=8, normalisation="batch", activation="leaky-relu"),
        CNN(width=4, depth=2, skip=True, convolutions=2),
        CNN(width=4, depth=2, normalisation="group", global_pooling="max", pooling="average"),
        CNN(width=4, depth=1, normalisation="none", stride=2, padding="valid"),
        CNN(width=4, depth=1, global_pooling="average", kernel=5),
    ],
)
def test_stacked_layers_are_exact_in_double_precision(network: Family) -> None:
    count, batch = 3, 20
    generators = [torch.Generator().manual_seed(number) for number in range(count)]
    members = [network.build(THREE).double() for _ in range(count)]
    group = stacked(members, generators)
    items = torch.randn(count * batch, 1, 8, 8, dtype=torch.float64, generator=generators[0])
    generators[0].manual_seed(0)
    answers = group(items)
    answers.square().sum().backward()
    gradients = {name: p.grad for name, p in group.named_parameters()}
    buffers = dict(group.named_buffers())
    for number, member in enumerate(members):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            part = slice(number * batch, (number + 1) * batch)
            own = member(items[part])
        torch.testing.assert_close(answers[part], own)
        own.square().sum().backward()
        for name, parameter in member.named_parameters():
            torch.testing.assert_close(gradients[name][number], parameter.grad)
        for name, buffer in member.named_buffers():
            torch.testing.assert_close(buffers[name][number], buffer)


@pytest.mark.parametrize("kind", ["classes", "balanced", "two", "two-balanced", "mae", "huber"])
def test_losses_of_a_group_are_those_of_its_members(kind: str) -> None:
    spec = replace(THREE, class_counts=(5, 3, 2))
    if kind.startswith("two"):
        spec = replace(spec, classes=("a", "b"), class_counts=(5, 3))
    if kind in ("mae", "huber"):
        spec = replace(spec, classes=(), task="regression", target_mean=2.0, target_std=3.0)
    shared = {
        "class_weights": "balanced" if "balanced" in kind else "none",
        "regression_loss": kind if kind in ("mae", "huber") else "mse",
    }
    configs = [
        TrainingConfig(label_smoothing=amount, **shared)  # type: ignore[arg-type]
        for amount in (0.0, 0.2)
    ]
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(14, spec.num_outputs, generator=generator)
    targets = torch.randint(0, max(2, len(spec.classes)), (14,), generator=generator)
    found = member_losses(spec, configs)(outputs, Batch(outputs, targets))
    for number, config in enumerate(configs):
        part = slice(number * 7, (number + 1) * 7)
        own = prediction_loss(spec, config)(outputs[part], Batch(outputs[part], targets[part]))
        torch.testing.assert_close(found[number], own)


class Centred(nn.Module):
    """Takes the mean over a batch away, which must be a member's own."""

    def forward(self, items: Tensor) -> Tensor:
        return items - items.mean(dim=0)


class ByHand(nn.Module):
    """Uses the weights of a layer itself."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(64, 64)

    def forward(self, items: Tensor) -> Tensor:
        return nn.functional.linear(items, self.inner.weight, self.inner.bias)


@family
class Odd(Family):
    """A family whose network has one layer that no group can have."""

    layer: str = "attention"

    def build(self, data: DataSpec) -> nn.Module:
        layers = {
            "attention": nn.LayerNorm(64),
            "mixing": Centred(),
            "by-hand": ByHand(),
            "plain": nn.Identity(),
        }
        return nn.Sequential(nn.Flatten(), layers[self.layer], nn.Linear(64, data.num_outputs))


def test_a_layer_that_is_not_known_is_refused_by_name() -> None:
    network = Odd().build(THREE)
    assert unknown_layers(network) == ["1: LayerNorm"]
    with pytest.raises(ValueError, match=r"these layers cannot be stacked: 1: LayerNorm"):
        stacked([network, network], [torch.Generator()] * 2)


def test_weights_that_two_layers_share_are_refused_by_name() -> None:
    layer = nn.Linear(3, 3)
    network = nn.Sequential(layer, nn.ReLU(), layer)
    assert unknown_layers(network) == ["2.weight: shared", "2.bias: shared"]


def test_columns_of_a_table_are_learned_from_as_they_are_alone(tabled: ImageData) -> None:
    network = MLP(width=8, depth=1)
    splits, spec = splits_of(network, tabled, ("train", "valid"))
    lessons = [
        replace(
            lesson_on(tabled, network, seed, learning_rate=0.01 * (1 + seed)),
            train=splits["train"],
            valid=splits["valid"],
        )
        for seed in range(2)
    ]
    assert together_key(network, spec, lessons[0]) is not None
    assert agrees(lessons, spec, network.outputs)
    results = train_together(lessons, data=spec, outputs=network.outputs)
    for lesson, (_, model) in zip(lessons, results, strict=True):
        assert_alike(model, alone(lesson)[1])


def test_a_module_that_stacking_changes_is_found_out_by_trying(striped: ImageData) -> None:
    for layer, is_fine in (("plain", True), ("mixing", False), ("by-hand", False)):
        network = Odd(layer=layer)
        lessons = [lesson_on(striped, network, seed) for seed in range(2)]
        assert together_key(network, striped.spec, lessons[0]) is not None
        assert agrees(lessons, striped.spec, network.outputs) is is_fine


def test_a_loss_or_score_of_its_own_is_found_out_by_trying(striped: ImageData) -> None:
    network = MLP(width=16)
    lessons = [lesson_on(striped, network, seed) for seed in range(2)]
    assert agrees(lessons, striped.spec, network.outputs)
    (phase,) = lessons[0].phases
    doubled = replace(phase, loss=lambda model, batch: 2 * phase.loss(model, batch))
    assert not agrees([replace(lessons[0], phases=(doubled,))], striped.spec, network.outputs)
    scored = replace(lessons[0], score=lambda model, part: {"accuracy": 0.5, "loss": 1.0})
    assert not agrees([scored], striped.spec, network.outputs)


def test_keys_are_equal_where_only_what_may_differ_does(striped: ImageData) -> None:
    def key(network: Family, **changes: object) -> object:
        return together_key(network, striped.spec, lesson_on(striped, network, **changes))

    base = key(MLP())
    assert base is not None
    assert base == key(MLP(dropout=0.4), learning_rate=0.1, label_smoothing=0.1, schedule="cosine")
    for other in (
        key(MLP(width=64)),
        key(MLP(activation="tanh")),
        key(MLP(), batch_size=16),
        key(MLP(), optimizer="sgd"),
        key(CNN(width=8, depth=1)),
    ):
        assert other is not None
        assert other != base


def test_what_only_a_training_alone_can_do_has_no_key(striped: ImageData) -> None:
    spec, network = striped.spec, MLP()
    lesson = lesson_on(striped, network)
    augmented = replace(lesson.train, augment=Augmentation(crop=0.1))
    assert together_key(network, spec, replace(lesson, train=augmented)) is None
    cheapest = Objective(metric="parameters", direction="minimize")
    assert together_key(network, spec, replace(lesson, objective=cheapest)) is None
    assert together_key(LinearModel(), spec, lesson_on(striped, LinearModel())) is None
    assert together_key(Odd(), spec, lesson_on(striped, Odd())) is None


def test_a_step_is_counted_by_hand_and_a_large_one_has_no_key(striped: ImageData) -> None:
    network = CNN(width=16, depth=2)
    lesson = lesson_on(striped, network, batch_size=64)
    values, work = step_size(network, network.build(striped.spec), lesson)
    # 3 x 3 kernels: 1 -> 16 at 8 px, 16 -> 32 at 4 px, and a layer of 128 -> 3
    assert values == 64 * (16 * 64 + 32 * 16 + 3)
    assert work == 64 * 2 * (9 * 16 * 64 + 9 * 16 * 32 * 16 + 128 * 3)
    assert together_key(network, striped.spec, lesson) is not None

    wide = CNN(width=64, depth=1)
    values, work = step_size(wide, wide.build(striped.spec), lesson)
    assert values > MOST_VALUES
    assert work < MOST_WORK
    assert together_key(wide, striped.spec, lesson_on(striped, wide, batch_size=64)) is None
    assert together_key(wide, striped.spec, lesson_on(striped, wide, batch_size=8)) is not None

    deep = MLP(width=600, depth=3)
    values, work = step_size(deep, deep.build(striped.spec), lesson)
    assert values < MOST_VALUES
    assert work > MOST_WORK
    assert together_key(deep, striped.spec, lesson_on(striped, deep, batch_size=64)) is None
