"""PretrainedEncoder: two phases, few labels, and the same network without the first phase."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training_jobs import job_for, run_job, space_of

from torchstudy.data.dataset import ImageData
from torchstudy.data.spec import DataSpec
from torchstudy.errors import SpaceError
from torchstudy.execution import job as jobs
from torchstudy.execution.exhibits import answers_path
from torchstudy.families.pretraining import EncoderNet, PretrainedEncoder
from torchstudy.fitting import instantiate
from torchstudy.models.saved import load_model, save_model
from torchstudy.records import Epoch, Outcome, Status
from torchstudy.training.batches import Batch, Split
from torchstudy.training.optim import TrainingConfig

COLOUR = DataSpec(source="x", channels=3, height=13, width=17, classes=tuple("abc"), num_train=99)
QUICK = {"width": 8, "depth": 1, "batch_size": 16, "labels": 30, "passes": 2}


def trained(
    data: ImageData, folder: Path, epochs: int = 4, **changes: object
) -> tuple[Outcome, list[Epoch]]:
    config = space_of(PretrainedEncoder).recipe | QUICK | changes
    return run_job(job_for(PretrainedEncoder, data, folder, config, epochs))


def split_of(targets: list[int]) -> Split:
    pixels = np.zeros((len(targets), 1, 8, 8), dtype=np.uint8)
    return Split.of(pixels, np.arange(len(targets)), np.array(targets))


def test_labels_are_chosen_by_class_at_even_distances_and_always_the_same() -> None:
    train = split_of([0, 1, 2] * 20 + [0] * 40)  # 60, 20 and 20 of the classes
    chosen = PretrainedEncoder(labels=10).labelled(train)
    assert torch.bincount(chosen.targets).tolist() == [6, 2, 2]
    assert chosen.rows.unique().numel() == 10
    assert torch.equal(chosen.rows, PretrainedEncoder(labels=10).labelled(train).rows)
    assert chosen.targets.tolist() == train.targets[chosen.rows].tolist()
    first = chosen.rows[chosen.targets == 0]
    assert first.min() == 0
    assert first.max() > 80


def test_every_class_has_a_label_where_there_are_as_few_as_classes() -> None:
    train = split_of([0] * 500 + [1] + [2] * 2)
    for labels, expected in ((3, [1, 1, 1]), (4, [2, 1, 1]), (400, [398, 1, 1])):
        chosen = PretrainedEncoder(labels=labels).labelled(train)
        assert torch.bincount(chosen.targets).tolist() == expected
        assert chosen.rows.unique().numel() == labels
    assert len(PretrainedEncoder(labels=10_000).labelled(train)) == 503


@pytest.mark.parametrize("labels", [40, 100, 333])
def test_classes_keep_their_shares_within_one_item(labels: int) -> None:
    generator = np.random.default_rng(labels)
    train = split_of(generator.choice(5, 1000, p=[0.5, 0.2, 0.15, 0.1, 0.05]).tolist())
    found = torch.bincount(PretrainedEncoder(labels=labels).labelled(train).targets)
    wanted = torch.bincount(train.targets) * labels / len(train)
    assert (found - wanted).abs().max().item() < 1


def test_the_first_phase_sees_no_targets_and_the_second_only_the_chosen_ones() -> None:
    config = PretrainedEncoder(width=4, depth=2, labels=10, passes=3, pretraining_share=0.25)
    first, second = config.phases(COLOUR, TrainingConfig())
    train = split_of([0, 1, 2] * 20)
    assert (first.name, second.name) == ("reconstruct", "fine-tune")
    assert first.span == (0.0, 0.25)
    assert second.span == (0.25, 1.0)
    assert len(first.items(train)) == 60
    assert len(second.items(train)) == 10
    assert (first.passes, second.passes) == (1, 3)
    net = config.build(COLOUR)
    images = torch.rand(4, 3, 13, 17)
    losses = []
    for target in (0, 1):
        torch.manual_seed(0)
        losses.append(first.loss(net, Batch(images, torch.full((4,), target))))
    assert losses[0] == losses[1]


def test_each_phase_has_its_own_parameters_and_scratch_has_no_decoder() -> None:
    config = PretrainedEncoder(width=4, depth=2)
    net = config.build(COLOUR)
    assert isinstance(net, EncoderNet)
    names = {id(parameter): name.split(".")[0] for name, parameter in net.named_parameters()}
    first, second = config.phases(COLOUR, TrainingConfig())
    assert {names[id(p)] for p in first.parameters(net)} == {"encoder", "decoder"}
    assert {names[id(p)] for p in second.parameters(net)} == {"encoder", "head"}
    scratch = replace(config, pretraining="none")
    (only,) = scratch.phases(COLOUR, TrainingConfig())
    assert (only.name, only.span, only.passes) == ("fine-tune", second.span, second.passes)
    assert not list(scratch.build(COLOUR).decoder.parameters())


def test_both_kinds_begin_from_the_same_encoder_and_head() -> None:
    nets = []
    for pretraining in ("autoencoder", "none"):
        torch.manual_seed(3)
        nets.append(PretrainedEncoder(width=4, pretraining=pretraining).build(COLOUR))
    shared = nets[1].state_dict()
    assert all(torch.equal(nets[0].state_dict()[name], value) for name, value in shared.items())
    assert len(shared) > 4


def test_the_encoder_may_learn_slower_once_it_is_pretrained() -> None:
    config = PretrainedEncoder(width=4, encoder_rate=0.2)
    net = config.build(COLOUR)
    assert isinstance(net, EncoderNet)
    factors = config.phases(COLOUR, TrainingConfig())[1].rate_factors(net)
    assert set(factors) == set(net.encoder.parameters())
    assert set(factors.values()) == {0.2}
    scratch = replace(config, pretraining="none").phases(COLOUR, TrainingConfig())
    assert scratch[0].rate_factors(net) == {}


@pytest.mark.parametrize("size", [(8, 8), (13, 17), (28, 28)])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_decoder_gives_images_of_the_shape_and_range_it_was_shown(
    size: tuple[int, int], depth: int
) -> None:
    data = replace(COLOUR, height=size[0], width=size[1])
    net = PretrainedEncoder(width=4, depth=depth).build(data)
    assert isinstance(net, EncoderNet)
    images = torch.rand(2, 3, *size)
    rebuilt = net.decoder(net.encoder(images))
    assert rebuilt.shape == images.shape
    assert 0 <= rebuilt.min().item() <= rebuilt.max().item() <= 1
    assert net(images).shape == (2, 3)


def test_phases_follow_each_other_and_fine_tuning_is_as_long_either_way(
    striped: ImageData, tmp_path: Path
) -> None:
    losses = {}
    for pretraining in ("autoencoder", "none"):
        outcome, rows = trained(striped, tmp_path / pretraining, pretraining=pretraining)
        assert outcome.status is Status.COMPLETED, outcome.reason
        losses[pretraining] = [not math.isnan(row.train_loss) for row in rows]
        phases = [{name for name in row.measured if name.startswith("train_loss")} for row in rows]
        if pretraining == "autoencoder":
            first, second = {"train_loss_reconstruct"}, {"train_loss_fine-tune"}
            assert phases == [first, first, second, second]
    assert losses == {"autoencoder": [True] * 4, "none": [False, False, True, True]}


def test_it_learns_from_few_labels_and_patience_counts_from_the_second_phase(
    striped: ImageData, tmp_path: Path
) -> None:
    outcome, rows = trained(striped, tmp_path, epochs=8, patience=2, learning_rate=0.01, passes=4)
    assert len(rows) > 4
    assert outcome.metrics["valid_accuracy"] > 0.8
    assert outcome.best_epoch > 4


def test_it_comes_back_from_its_file_and_predicts_the_same(
    striped: ImageData, tmp_path: Path
) -> None:
    trained(striped, tmp_path / "run")
    config = space_of(PretrainedEncoder).recipe | QUICK
    instance = instantiate(PretrainedEncoder, config).family
    state, spec = jobs.deployed_state(tmp_path / "run", instance, striped.spec)
    folder = tmp_path / "model"
    save_model(folder, family=PretrainedEncoder, config=config, data=spec, state=state, metrics={})
    model = load_model(folder, [PretrainedEncoder])
    pixels = torch.from_numpy(np.array(striped.pixels[striped.splits["valid"]]))
    saved = np.load(answers_path(tmp_path / "run", "valid"))
    assert model.predict(pixels).argmax(dim=1).tolist() == saved["predicted"].tolist()


def test_it_predicts_numbers_too_from_items_in_the_order_of_their_targets() -> None:
    data = replace(COLOUR, classes=(), task="regression", target_std=2.0)
    config = PretrainedEncoder(width=4, labels=5)
    net = config.build(data)
    assert net(torch.rand(2, 3, 13, 17)).shape == (2, 1)
    train = replace(split_of(list(range(9))), targets=torch.tensor([8.0, *range(8)]))
    assert config.labelled(train).targets.tolist() == [0, 2, 4, 6, 8]
    batch = Batch(torch.rand(2, 3, 13, 17), torch.tensor([1.0, 2.0]))
    assert config.phases(data, TrainingConfig())[1].loss(net, batch).ndim == 0


def test_what_cannot_work_is_said() -> None:
    (problem,) = PretrainedEncoder(labels=2).problems(COLOUR)
    assert problem == "labels=2 is too few for 3 classes: give at least one each"
    (problem,) = PretrainedEncoder().problems(replace(COLOUR, views=2))
    assert problem == "takes one image an item, but the data have 2; use MultiInput"
    (problem,) = PretrainedEncoder(depth=3).problems(replace(COLOUR, height=7))
    assert problem.startswith("depth=3 halves the image 3 times and needs at least 8 px")
    with pytest.raises(SpaceError) as caught:
        PretrainedEncoder(labels=0, passes=0, pretraining_share=1.0)
    assert caught.value.problems == (
        "labels must be at least 1, not 0",
        "passes must be at least 1, not 0",
        "pretraining_share must be above 0 and below 1, not 1",
    )
