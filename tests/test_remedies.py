"""Each remedy of training, seen at work: the effect it is known for, on small real trainings."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from torchstudy.data.dataset import ImageData
from torchstudy.data.spec import DataSpec
from torchstudy.families.cnn import CNN
from torchstudy.families.phases import Phase
from torchstudy.records import Epoch, Objective, Status
from torchstudy.training.batches import Batch, Split
from torchstudy.training.initial import initialise
from torchstudy.training.lesson import Lesson
from torchstudy.training.losses import balanced_weights, prediction_loss
from torchstudy.training.metrics import prediction_metrics
from torchstudy.training.optim import TrainingConfig
from torchstudy.training.trainer import train

TWO = DataSpec(source="points", channels=1, height=1, width=2, classes=("no", "yes"), num_train=1)
NUMBER = replace(TWO, classes=(), task="regression")
PLAIN = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant"}


def points(count: int = 200, *, share: float = 0.5, seed: int = 0) -> Split:
    """Two overlapping clouds in the plane, `share` of them in the second class."""
    generator = np.random.default_rng(seed)
    targets = (np.arange(count) < share * count).astype(np.int64)
    places = generator.normal(size=(count, 2)) + 1.5 * targets[:, None]
    return Split.of(places.astype(np.float32), np.arange(count), targets)


def lesson(config: TrainingConfig, *, split: Split | None = None, **changes: object) -> Lesson:
    data = changes.pop("data", TWO)
    assert isinstance(data, DataSpec)
    measure = prediction_loss(data, config)
    given = split or points()

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return measure(model(batch.inputs), batch)

    plan = Lesson(
        build=lambda: nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1)),
        phases=(Phase(name="train", loss=loss),),
        config=config,
        train=given,
        valid=points(seed=1) if split is None else split,
        score=lambda model, part: prediction_metrics(
            data, lambda batch: model(batch.inputs), part.in_order()
        ),
        objective=Objective(metric="loss", direction="minimize"),
        epochs=5,
        seed=3,
    )
    return replace(plan, **changes)  # type: ignore[arg-type]


def size(model: nn.Module) -> float:
    weights = [p.detach().flatten() for p in model.parameters() if p.ndim > 1]
    return float(torch.cat(weights).norm())


# -- early stopping ----------------------------------------------------------------------------


def ended(losses: list[float], *, stopping: str, patience: int) -> tuple[Status, int, str]:
    """How a training ends whose validation losses are these."""
    left = iter(losses)
    config = TrainingConfig(**PLAIN, stopping=stopping, patience=patience)  # type: ignore[arg-type]
    plan = lesson(config, score=lambda model, part: {"loss": next(left)}, epochs=len(losses))
    outcome, _ = train(plan)
    return outcome.status, outcome.epochs, outcome.reason


def test_no_improvement_counts_epochs_since_the_best() -> None:
    found = ended([5.0, 4.0, 4.5, 4.2, 1.0], stopping="no-improvement", patience=2)
    assert found == (Status.COMPLETED, 4, "no better loss in 2 epochs")


def test_rises_count_only_in_a_row() -> None:
    found = ended([5.0, 4.0, 4.5, 4.2, 4.3, 4.4, 1.0], stopping="rises", patience=2)
    assert found == (Status.COMPLETED, 6, "the validation loss rose 2 epochs in a row")


def test_patience_counts_from_the_beginning_of_the_last_phase() -> None:
    values = iter([1.0, 2.0, 2.0, 2.0, 0.9, 0.8])
    plan = lesson(TrainingConfig(**PLAIN, patience=2), epochs=6)  # type: ignore[arg-type]
    first, last = (
        replace(plan.phases[0], name=name, span=span)  # type: ignore[type-var]
        for name, span in (("first", (0.0, 0.5)), ("last", (0.5, 1.0)))
    )
    plan = replace(plan, phases=(first, last), score=lambda model, part: {"loss": next(values)})
    outcome, _ = train(plan)
    assert outcome.epochs == 6
    assert outcome.best_epoch == 6


# -- weights kept small ------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_weight_decay_leaves_smaller_weights(optimizer: str) -> None:
    def trained(weight_decay: float) -> float:
        config = TrainingConfig(
            optimizer=optimizer, learning_rate=0.02, weight_decay=weight_decay, batch_size=20
        )
        return size(train(lesson(config))[1])

    assert trained(2.0) < 0.8 * trained(0.0)


def test_dropout_makes_training_harder_and_rests_in_validation(striped: ImageData) -> None:
    def rows(dropout: float) -> list[Epoch]:
        family = CNN(depth=1, width=4, dropout=dropout, normalisation="none")
        parts = {
            name: Split.of(
                striped.pixels, rows, striped.targets[rows], family.preprocessing(striped.spec)
            )
            for name, rows in striped.splits.items()
        }
        found: list[Epoch] = []
        plan = lesson(
            TrainingConfig(batch_size=32),
            build=lambda: family.build(striped.spec),
            train=parts["train"],
            valid=parts["valid"],
            phases=family.phases(striped.spec, TrainingConfig()),
            score=lambda model, part: family.score(model, striped.spec, part.in_order()),
        )
        train(plan, on_epoch=found.append)
        return found

    wet, dry = rows(0.5), rows(0.0)
    assert all(a.train_loss > b.train_loss for a, b in zip(wet, dry, strict=True))
    again = rows(0.5)
    assert [row.valid_loss for row in again] == [row.valid_loss for row in wet]


# -- clipping ----------------------------------------------------------------------------------


def largest_move(config: TrainingConfig) -> tuple[float, float]:
    """The largest change of one weight, and the length of the whole change, after one step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))
    before = nn.utils.parameters_to_vector(model.parameters()).clone()
    train(lesson(config, build=lambda: model, epochs=1))
    moved = (nn.utils.parameters_to_vector(model.parameters()) - before).detach()
    return float(moved.abs().max()), float(moved.norm())


def test_clipping_by_value_bounds_each_weight_and_by_norm_the_whole_step() -> None:
    free = TrainingConfig(**PLAIN, learning_rate=1.0, batch_size=512)  # type: ignore[arg-type]
    largest, length = largest_move(free)
    assert largest > 0.01
    assert largest_move(replace(free, value_clipping=1e-3))[0] == pytest.approx(1e-3, rel=1e-3)
    assert largest_move(replace(free, gradient_clipping=1e-3))[1] == pytest.approx(1e-3, rel=1e-3)
    assert largest_move(replace(free, gradient_clipping=1e3)) == pytest.approx((largest, length))


# -- schedules ---------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_warm_up_takes_small_steps_first(schedule: str) -> None:
    config = TrainingConfig(
        optimizer="sgd",
        momentum=0.0,
        weight_decay=0.0,
        learning_rate=1.0,
        batch_size=512,
        schedule=schedule,
    )
    at_once = largest_move(config)[1]
    warm = largest_move(replace(config, warm_up=0.5))[1]
    assert warm == pytest.approx(at_once / 25, rel=1e-3)


# -- losses ------------------------------------------------------------------------------------


def test_label_smoothing_lowers_the_confidence_of_right_answers() -> None:
    def confidence(smoothing: float) -> float:
        config = TrainingConfig(label_smoothing=smoothing, learning_rate=0.03, batch_size=20)
        _, model = train(lesson(config, split=points(80), epochs=30))
        with torch.inference_mode():
            logits = model(points(80).array).flatten()
        return float(torch.maximum(logits.sigmoid(), 1 - logits.sigmoid()).mean())

    assert confidence(0.3) < confidence(0.0) - 0.03


def test_class_weights_find_more_of_a_rare_class() -> None:
    rare = points(400, share=0.05)
    spec = replace(TWO, class_counts=(380, 20), num_train=400)

    def recall(class_weights: str) -> float:
        config = TrainingConfig(class_weights=class_weights, learning_rate=0.03, batch_size=100)
        _, model = train(lesson(config, split=rare, data=spec, epochs=15))
        with torch.inference_mode():
            found = model(rare.array).flatten() > 0
        return float(found[rare.targets == 1].float().mean())

    assert recall("balanced") > recall("none") + 0.2


def test_balanced_weights_give_every_class_the_same_say() -> None:
    weights = balanced_weights((30, 10))
    assert (weights * torch.tensor([30, 10])).tolist() == pytest.approx([20.0, 20.0])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_one_logit_is_trained_like_two(smoothing: float) -> None:
    spec = replace(TWO, class_counts=(3, 1))
    config = TrainingConfig(label_smoothing=smoothing, class_weights="none")
    logit = torch.tensor([[0.3], [-1.2], [2.0]])
    batch = Batch(logit, torch.tensor([0, 1, 1]))
    both = torch.cat([torch.zeros_like(logit), logit], dim=1)
    measure = prediction_loss(spec, config)
    assert float(measure(logit, batch)) == pytest.approx(float(measure(both, batch)), rel=1e-6)


def test_the_loss_of_a_number_may_shrug_off_outliers() -> None:
    split = points(200)
    values = torch.zeros(200)
    values[::10] = 50.0
    far = replace(split, targets=values)

    def middle(regression_loss: str) -> float:
        config = TrainingConfig(regression_loss=regression_loss, learning_rate=0.05, batch_size=50)
        _, model = train(lesson(config, split=far, data=NUMBER, epochs=40))
        with torch.inference_mode():
            return float(model(far.array).mean())

    assert middle("mse") > 3
    assert abs(middle("mae")) < 0.5
    assert abs(middle("huber")) < 2


def test_outputs_that_would_broadcast_silently_are_refused() -> None:
    measure = prediction_loss(NUMBER, TrainingConfig())
    batch = Batch(torch.zeros(3, 2), torch.zeros(3))
    for shape in ((3,), (3, 2), (1, 1)):
        with pytest.raises(ValueError, match=r"the network returns \(.*\), expected \(3, 1\)"):
            measure(torch.zeros(shape), batch)


# -- initial weights ---------------------------------------------------------------------------


def stack(init: str, activation: type[nn.Module]) -> float:
    """The spread of what comes out of ten layers, for inputs of spread 1."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(10):
        layers += [nn.Linear(128, 128), activation()]
    net = nn.Sequential(*layers)
    initialise(net, init)
    with torch.inference_mode():
        return float(net(torch.randn(256, 128)).std())


def test_kaiming_keeps_signals_alive_through_relu_layers_and_small_normal_does_not() -> None:
    assert 0.3 < stack("kaiming", nn.ReLU) < 3
    assert stack("xavier", nn.ReLU) < 0.3 * stack("kaiming", nn.ReLU)
    assert 0.1 < stack("xavier", nn.Tanh) < 1
    assert stack("small-normal", nn.ReLU) < 1e-6


def test_init_sets_the_new_head_and_leaves_pretrained_layers() -> None:
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))
    pretrained = model[0].weight.detach().clone()
    config = TrainingConfig(init="small-normal", learning_rate=1e-30, weight_decay=0.0)
    plan = lesson(config, build=lambda: model, fresh=lambda model: (model[2],), epochs=1)
    train(plan)
    assert torch.equal(model[0].weight, pretrained)
    assert float(model[2].weight.detach().abs().max()) < 0.05
    assert float(model[2].bias.detach()) == pytest.approx(0.0, abs=1e-20)
