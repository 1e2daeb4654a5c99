import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from torchstudy.data.dataset import ImageData
from torchstudy.data.spec import DataSpec
from torchstudy.families.cnn import CNN
from torchstudy.families.phases import Fit, Phase
from torchstudy.records import SECONDS, Epoch, Objective, Status
from torchstudy.training.batches import Batch, Split
from torchstudy.training.compute import Compute
from torchstudy.training.lesson import Lesson
from torchstudy.training.losses import prediction_loss
from torchstudy.training.metrics import classification_metrics
from torchstudy.training.optim import TrainingConfig
from torchstudy.training.trainer import train

ACCURACY = Objective(metric="accuracy", direction="maximize")
THREE = DataSpec(source="x", channels=1, height=8, width=8, classes=("a", "b", "c"), num_train=1)


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    return prediction_loss(THREE, TrainingConfig())(model(batch.inputs), batch)


def scores(model: nn.Module, part: Split) -> dict[str, float]:
    return classification_metrics(lambda batch: model(batch.inputs), part.in_order())


def lesson_on(data: ImageData, **changes: object) -> Lesson:
    family = CNN(width=8, depth=1, dropout=0.3)
    preprocessing = family.preprocessing(data.spec)

    def split(name: str) -> Split:
        rows = data.splits[name]
        return Split.of(data.pixels, rows, data.targets[rows], preprocessing)

    lesson = Lesson(
        build=lambda: family.build(data.spec),
        phases=(Phase(name="train", loss=cross_entropy),),
        config=TrainingConfig(batch_size=32, learning_rate=1e-2),
        train=split("train"),
        valid=split("valid"),
        score=scores,
        objective=ACCURACY,
        epochs=4,
        seed=7,
    )
    return replace(lesson, **changes)  # type: ignore[arg-type]


def rows_of(lesson: Lesson, **options: object) -> list[Epoch]:
    rows: list[Epoch] = []
    train(lesson, on_epoch=rows.append, **options)  # type: ignore[arg-type]
    return rows


def numbers(rows: list[Epoch]) -> list[dict[str, float]]:
    return [row.values() for row in rows]


def test_training_learns_and_keeps_the_best_epochs_weights(striped: ImageData) -> None:
    lesson = lesson_on(striped)
    outcome, model = train(lesson)
    assert outcome.status is Status.COMPLETED
    assert outcome.metrics["valid_accuracy"] > 0.9
    assert not model.training
    with torch.inference_mode():
        again = scores(model, lesson.valid)
    assert again["accuracy"] == outcome.metrics["valid_accuracy"]
    assert again["loss"] == outcome.metrics["valid_loss"]


def test_the_same_lesson_gives_the_same_numbers_bit_for_bit(striped: ImageData) -> None:
    first, second = rows_of(lesson_on(striped)), rows_of(lesson_on(striped))
    assert numbers(first) == numbers(second)
    assert numbers(first) != numbers(rows_of(lesson_on(striped, seed=8)))


def test_training_leaves_torchs_global_random_state_alone(striped: ImageData) -> None:
    before = torch.get_rng_state()
    train(lesson_on(striped, epochs=1))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_resumed_training_continues_exactly(
    striped: ImageData, tmp_path: Path, optimizer: str, stop_after: int
) -> None:
    config = TrainingConfig(batch_size=32, learning_rate=1e-2, optimizer=optimizer)
    lesson = lesson_on(striped, config=config)
    whole, checkpoint = rows_of(lesson), tmp_path / "checkpoint.pt"
    first: list[Epoch] = []
    outcome, _ = train(
        lesson,
        checkpoint=checkpoint,
        on_epoch=first.append,
        should_stop=lambda: len(first) >= stop_after,
    )
    assert outcome.status is Status.PAUSED
    assert outcome.epochs == stop_after
    resumed: list[Epoch] = []
    outcome, model = train(lesson, checkpoint=checkpoint, on_epoch=resumed.append)
    assert numbers(resumed) == numbers(whole)
    expected, reference = train(lesson)
    assert outcome == expected
    for name, value in reference.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_a_damaged_checkpoint_starts_the_training_over(striped: ImageData, tmp_path: Path) -> None:
    lesson, checkpoint = lesson_on(striped, epochs=2), tmp_path / "checkpoint.pt"
    whole = rows_of(lesson, checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-200])
    assert numbers(rows_of(lesson, checkpoint=checkpoint)) == numbers(whole)


def test_patience_ends_a_training_that_gets_no_better(striped: ImageData) -> None:
    scores = iter([0.1, 0.5, 0.4, 0.5, 0.3, 0.9])
    lesson = lesson_on(
        striped,
        epochs=6,
        config=TrainingConfig(patience=3),
        score=lambda model, part: {"accuracy": next(scores), "loss": 1.0},
    )
    outcome, _ = train(lesson)
    assert (outcome.epochs, outcome.best_epoch) == (5, 2)
    assert outcome.metrics["valid_accuracy"] == 0.5
    assert outcome.reason == "no better accuracy in 3 epochs"


def test_between_epochs_of_equal_accuracy_the_lower_loss_is_kept(striped: ImageData) -> None:
    losses = iter([0.9, 0.4, 0.6])
    lesson = lesson_on(
        striped,
        epochs=3,
        score=lambda model, part: {"accuracy": 0.5, "loss": next(losses)},
    )
    outcome, _ = train(lesson)
    assert outcome.best_epoch == 2


def test_minimizing_keeps_the_lowest_value(striped: ImageData) -> None:
    scores = iter([3.0, 1.0, 2.0])
    lesson = lesson_on(
        striped,
        epochs=3,
        objective=Objective(metric="loss", direction="minimize"),
        score=lambda model, part: {"accuracy": 0.0, "loss": next(scores)},
    )
    outcome, _ = train(lesson)
    assert outcome.best_epoch == 2


def test_validation_runs_in_eval_mode_and_sampling_in_it_changes_nothing(
    striped: ImageData,
) -> None:
    modes = []

    def sampling_score(model: nn.Module, part: Split) -> dict[str, float]:
        modes.append(model.training)
        torch.rand(5)
        return scores(model, part)

    plain = numbers(rows_of(lesson_on(striped)))
    sampled = numbers(rows_of(lesson_on(striped, score=sampling_score)))
    assert modes == [False] * 4
    assert sampled == plain


def exploding(at_step: int) -> Callable[[nn.Module, Batch], Tensor]:
    steps = 0

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        nonlocal steps
        steps += 1
        factor = math.inf if steps >= at_step else 1.0
        return cross_entropy(model, batch) * factor

    return loss


def test_a_loss_that_is_not_finite_ends_as_diverged_with_epoch_and_layer(
    striped: ImageData,
) -> None:
    num_batches = lesson_on(striped).train.num_batches(32)
    phases = (Phase(name="train", loss=exploding(num_batches + 1)),)
    outcome, _ = train(lesson_on(striped, phases=phases))
    assert outcome.status is Status.DIVERGED
    assert outcome.epochs == 1
    assert outcome.reason == (
        "training loss was not finite in epoch 2, first seen in the loss itself: what every layer "
        "gave was finite"
    )


def test_a_metric_that_is_not_finite_ends_as_diverged(striped: ImageData) -> None:
    lesson = lesson_on(striped, score=lambda model, part: {"accuracy": 0.5, "loss": math.nan})
    outcome, _ = train(lesson)
    assert outcome.status is Status.DIVERGED
    assert outcome.reason == (
        "validation loss was not finite in epoch 1, first seen in the metric itself: what every "
        "layer gave was finite"
    )
    assert outcome.metrics == {}


def test_phases_with_spans_follow_each_other_and_others_alternate(striped: ImageData) -> None:
    seen: list[str] = []

    def noting(name: str) -> Callable[[nn.Module, Batch], Tensor]:
        def loss(model: nn.Module, batch: Batch) -> Tensor:
            seen.append(name)
            return cross_entropy(model, batch)

        return loss

    phases = (
        Phase(name="a", loss=noting("a"), span=(0.0, 0.5)),
        Phase(name="b", loss=noting("b"), span=(0.0, 0.5)),
        Phase(name="c", loss=noting("c"), span=(0.5, 1.0)),
    )
    lesson = lesson_on(striped, phases=phases, epochs=2)
    train(lesson)
    num_batches = lesson.train.num_batches(32)
    assert seen == ["a", "b"] * num_batches + ["c"] * num_batches


def test_a_phase_trains_its_own_parameters_only(striped: ImageData) -> None:
    phase = Phase(name="head", loss=cross_entropy, parameters=lambda m: m[-1].parameters())
    lesson = lesson_on(striped, phases=(phase,), epochs=1)
    torch.manual_seed(0)
    start = lesson.build()
    lesson = replace(lesson, build=lambda: start)
    before = {name: value.clone() for name, value in start.named_parameters()}
    train(lesson)
    changed = {n for n, value in start.named_parameters() if not torch.equal(value, before[n])}
    assert changed == {f"{len(start) - 1}.weight", f"{len(start) - 1}.bias"}


def test_fits_alone_take_one_epoch(striped: ImageData) -> None:
    calls = []
    fit = Fit(name="fit", function=lambda model, part: calls.append(len(part)))
    rows = rows_of(lesson_on(striped, phases=(fit,)))
    assert len(rows) == 1
    assert calls == [len(striped.splits["train"])]
    assert math.isnan(rows[0].train_loss)


def test_clipping_bounds_the_steps_of_plain_sgd(striped: ImageData) -> None:
    def moved(clipping: float) -> float:
        config = TrainingConfig(
            optimizer="sgd",
            momentum=0.0,
            weight_decay=0.0,
            schedule="constant",
            learning_rate=1.0,
            batch_size=512,
            gradient_clipping=clipping,
        )
        lesson = lesson_on(striped, config=config, epochs=1)
        start = lesson.build()
        before = nn.utils.parameters_to_vector(start.parameters()).clone()
        train(replace(lesson, build=lambda: start))
        after = nn.utils.parameters_to_vector(start.parameters())
        return float((after - before).norm().detach())

    assert moved(0.01) == pytest.approx(0.01, rel=1e-3)
    assert moved(0.0) > 0.1


def test_a_network_of_the_wrong_shape_is_named_before_the_first_step(striped: ImageData) -> None:
    lesson = lesson_on(striped, build=lambda: nn.Flatten(0))
    lesson = replace(
        lesson,
        phases=(
            Phase(
                name="t", loss=cross_entropy, parameters=lambda m: [nn.Parameter(torch.zeros(1))]
            ),
        ),
    )
    with pytest.raises(ValueError, match=r"the network returns .* expected \(\d+, classes\)"):
        train(lesson)


def test_a_phase_sees_its_own_items_as_often_as_it_says(striped: ImageData) -> None:
    seen: list[int] = []

    def noting(model: nn.Module, batch: Batch) -> Tensor:
        seen.append(len(batch))
        return cross_entropy(model, batch)

    few = Phase(name="few", loss=noting, items=lambda train: train.take(torch.arange(10)), passes=3)
    rows = rows_of(lesson_on(striped, phases=(few,), epochs=2))
    assert seen == [10] * 6
    assert rows[0].learning_rate > rows[1].learning_rate  # the schedule counts three steps an epoch


def test_a_fit_at_the_start_is_done_once_and_survives_a_stop(
    striped: ImageData, tmp_path: Path
) -> None:
    calls: list[int] = []
    fit = Fit(name="fit", function=lambda model, part: calls.append(len(part)), at="start")
    lesson = lesson_on(striped, phases=(fit, *lesson_on(striped).phases), epochs=3)
    left = iter([False] * (lesson.train.num_batches(32) + 1) + [True])
    outcome, _ = train(lesson, checkpoint=tmp_path / "c.pt", should_stop=lambda: next(left))
    assert outcome.status is Status.PAUSED
    train(lesson, checkpoint=tmp_path / "c.pt")
    assert calls == [len(striped.splits["train"])]


def test_losses_of_alternating_phases_are_kept_apart(striped: ImageData) -> None:
    def scaled(factor: float) -> Callable[[nn.Module, Batch], Tensor]:
        return lambda model, batch: cross_entropy(model, batch) * factor

    phases = (Phase(name="a", loss=scaled(1.0)), Phase(name="b", loss=scaled(100.0)))
    (row,) = rows_of(lesson_on(striped, phases=phases, epochs=1))
    assert row.measured["train_loss_b"] > 10 * row.measured["train_loss_a"]
    assert "train_loss_train" not in rows_of(lesson_on(striped, epochs=1))[0].measured


def test_averaged_metrics_are_means_over_the_last_epochs(
    striped: ImageData, tmp_path: Path
) -> None:
    def run(**options: object) -> list[Epoch]:
        values = iter([1.0, 0.0, 0.5, 0.6])
        lesson = lesson_on(
            striped,
            score=lambda model, part: {"accuracy": next(values), "loss": 1.0},
            averaged={"steady": ("accuracy", 3)},
        )
        return rows_of(lesson, **options)

    assert [row.metrics["steady"] for row in run()] == pytest.approx([1.0, 0.5, 0.5, 1.1 / 3])


def test_pictures_are_taken_untrained_and_then_ever_more_rarely(
    striped: ImageData, tmp_path: Path
) -> None:
    def pictures(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        assert not model.training
        return {"seen": batch.inputs * 0 + 2.0, "dark": batch.inputs * 0 - 1.0}

    found: dict[int, dict[str, Tensor]] = {}
    lesson = lesson_on(striped, pictures=pictures, epochs=7)
    left = iter([False] * 3 * lesson.train.num_batches(32) + [True])
    train(lesson, checkpoint=tmp_path / "c.pt", should_stop=lambda: next(left))
    train(lesson, checkpoint=tmp_path / "c.pt", on_pictures=found.__setitem__)
    assert list(found) == [0, 1, 2, 4, 7]
    assert found[4]["seen"].shape == (8, 1, 8, 8)
    assert found[4]["seen"].unique().tolist() == [255]
    assert found[4]["dark"].unique().tolist() == [0]


def test_bfloat16_is_for_products_alone(striped: ImageData) -> None:
    lesson = lesson_on(striped, compute=Compute(is_bf16=True), epochs=2)
    seen: list[tuple[torch.dtype, torch.dtype]] = []

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        outputs = model(batch.inputs)
        value = prediction_loss(THREE, TrainingConfig())(outputs, batch)
        seen.append((outputs.dtype, value.dtype))
        return value

    phases = (Phase(name="train", loss=loss),)
    rows: list[Epoch] = []
    outcome, model = train(replace(lesson, phases=phases), on_epoch=rows.append)
    assert set(seen) == {(torch.bfloat16, torch.float32)}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert [row.precision for row in rows] == ["bf16", "bf16"]
    with torch.inference_mode():
        assert scores(model, lesson.valid)["loss"] == outcome.metrics["valid_loss"]


def test_bfloat16_trains_as_well_as_single_precision(striped: ImageData) -> None:
    single, half = (
        rows_of(lesson_on(striped, compute=Compute(is_bf16=is_bf16))) for is_bf16 in (False, True)
    )
    assert single[0].train_loss != half[0].train_loss
    for one, other in zip(single, half, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, abs=0.03)  # 8 bits of mantissa


def test_an_epoch_says_where_its_time_went(striped: ImageData, tmp_path: Path) -> None:
    rows = rows_of(lesson_on(striped), checkpoint=tmp_path / "checkpoint.pt")
    for row in rows:
        assert set(row.parts) == set(SECONDS)
        assert all(row.parts[f"seconds_{part}"] > 0 for part in ("load", "forward", "evaluate"))
        within = sum(row.parts.values()) - row.parts["seconds_checkpoint"]
        assert within >= row.seconds - 0.01
    assert rows[0].parts["seconds_checkpoint"] == 0  # that of an epoch is in the next one's row
    assert rows[1].parts["seconds_checkpoint"] > 0
