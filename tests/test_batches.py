import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from torchstudy.training.augmentation import Augmentation
from torchstudy.training.batches import Augment, Batch, Preprocessing, Split
from torchstudy.training.clock import Clock


def split_of(num_items: int) -> Split:
    array = np.arange(num_items * 2, dtype=np.float32).reshape(num_items, 2)
    rows = np.arange(num_items)
    return Split.of(array, rows, rows)


@pytest.mark.parametrize("num_items", [2, 7, 100, 129, 257])
def test_an_epoch_visits_every_item_once_in_batches_of_nearly_equal_size(num_items: int) -> None:
    batches = list(split_of(num_items).shuffled(128, torch.Generator().manual_seed(0)))
    sizes = [len(batch.targets) for batch in batches]
    assert len(sizes) == split_of(num_items).num_batches(128)
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 2
    assert sorted(torch.cat([batch.targets for batch in batches]).tolist()) == list(
        range(num_items)
    )


def test_inputs_and_targets_stay_together_when_shuffled() -> None:
    for batch in split_of(50).shuffled(8, torch.Generator().manual_seed(1)):
        assert torch.equal(batch.inputs[:, 0] / 2, batch.targets.float())


def test_shuffling_depends_on_the_generator_alone() -> None:
    def order(seed: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed)
        return torch.cat([b.targets for b in split_of(40).shuffled(8, generator)]).tolist()

    assert order(3) == order(3)
    assert order(3) != order(4)


def test_preprocessing_normalises_with_mean_and_spread() -> None:
    pixels = torch.tensor([[[[0, 255]]]], dtype=torch.uint8)
    images = Preprocessing(mean=(0.5,), std=(0.25,))(pixels)
    assert images.flatten().tolist() == pytest.approx([-2.0, 2.0], abs=1e-6)


def test_grey_images_become_three_channels_and_colours_one() -> None:
    grey = torch.full((2, 1, 4, 4), 51, dtype=torch.uint8)
    three = Preprocessing(mean=(0.0, 0.1, 0.2), std=(1.0, 1.0, 1.0))(grey)
    assert three[0, :, 0, 0].tolist() == pytest.approx([0.2, 0.1, 0.0], abs=1e-6)
    colours = torch.tensor([30, 60, 90], dtype=torch.uint8).reshape(1, 3, 1, 1)
    one = Preprocessing(mean=(0.0,), std=(1.0,))(colours)
    assert one.flatten().tolist() == pytest.approx([60 / 255], abs=1e-6)


def test_several_views_of_an_item_are_preprocessed_alike() -> None:
    pixels = torch.randint(0, 256, (3, 4, 1, 5, 6), dtype=torch.uint8)
    each = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    together = each(pixels)
    assert together.shape == (3, 4, 3, 5, 6)
    assert torch.equal(together[1], each(pixels[1]))


def full_split(augment: Augment | None = None) -> Split:
    pixels = np.arange(6 * 4, dtype=np.uint8).reshape(6, 1, 2, 2)
    return Split.of(
        pixels,
        np.array([5, 3, 1]),
        np.array([50, 30, 10]),
        numbers=np.array([[5.0], [3.0], [1.0]], dtype=np.float32),
        categories=np.array([[5], [3], [1]]),
        augment=augment,
    )


def test_images_and_columns_of_an_item_stay_together() -> None:
    split = full_split()
    for batch in (*split.shuffled(2, torch.Generator().manual_seed(0)), split.spread(2)):
        rows = batch.targets // 10
        assert torch.equal(batch.inputs[:, 0, 0, 0].long() // 4, rows)
        assert batch.numbers is not None
        assert torch.equal(batch.numbers.flatten().long(), rows)
        assert batch.categories is not None
        assert torch.equal(batch.categories.flatten(), rows)


def test_items_can_be_taken_in_any_order_and_spread_evenly() -> None:
    split = full_split()
    assert split.take(torch.tensor([2, 0])).targets.tolist() == [10, 50]
    assert split.spread(2).targets.tolist() == [50, 10]
    assert split.spread(9).targets.tolist() == [50, 30, 10]


def test_only_shuffled_batches_are_augmented() -> None:
    def invert(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return 255 - images

    split = full_split(invert)
    (plain,) = split.in_order()
    assert plain.inputs[:, 0, 0, 0].tolist() == [20, 12, 4]
    (changed,) = split.shuffled(9, torch.Generator().manual_seed(0))
    assert sorted((255 - changed.inputs[:, 0, 0, 0].long()).tolist()) == [4, 12, 20]
    assert torch.equal(split.spread(3).inputs, plain.inputs)


@pytest.mark.parametrize(("channels", "statistics"), [(1, 1), (3, 3), (1, 3), (3, 1)])
def test_preprocessing_in_place_is_the_formula_bit_for_bit(channels: int, statistics: int) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (9, channels, 11, 13), dtype=torch.uint8, generator=generator)
    before = pixels.clone()
    mean, std = (0.4914, 0.4822, 0.4465)[:statistics], (0.2470, 0.2435, 0.2616)[:statistics]
    found = Preprocessing(mean=mean, std=std)(pixels)
    images = pixels.float() * (1 / 255)
    if (channels, statistics) == (3, 1):
        images = images.mean(dim=1, keepdim=True)
    expected = images - torch.tensor(mean)[:, None, None]
    assert torch.equal(found, expected / torch.tensor(std)[:, None, None])
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(pixels, before)


# Where time goes


def test_gathering_and_augmenting_are_counted_apart_and_using_a_batch_is_neither() -> None:
    def slow(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        time.sleep(0.03)
        return images

    def slower(images: torch.Tensor) -> torch.Tensor:
        time.sleep(0.06)
        return images.float()

    clock = Clock()
    split = replace(full_split(slow), preprocessing=slower)  # type: ignore[arg-type]
    for _ in split.shuffled(3, torch.Generator(), clock):
        time.sleep(0.09)
    seconds = clock.taken()
    assert 0.03 <= seconds["augment"] < 0.06 <= seconds["load"] < 0.09 <= seconds["other"]


def test_a_clock_changes_no_batch() -> None:
    split = image_split()
    timed = list(split.shuffled(8, torch.Generator().manual_seed(1), Clock()))
    assert_same_batches(timed, list(split.shuffled(8, torch.Generator().manual_seed(1))))


# Devices


def image_split() -> Split:
    """40 images of 8 x 8 among 50, with columns, augmented and normalised."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (50, 3, 8, 8), dtype=np.uint8)
    rows = generator.permutation(50)[:40]
    return Split.of(
        pixels,
        rows,
        rows,
        Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)),
        numbers=rows[:, None].astype(np.float32),
        categories=rows[:, None],
        augment=Augmentation(crop=0.25, rotation=20.0, horizontal_flip=0.5, contrast=0.5, hue=0.1),
    )


def assert_same_batches(some: list[Batch], others: list[Batch]) -> None:
    for one, other in zip(some, others, strict=True):
        for name in ("inputs", "targets", "numbers", "categories"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize("room", [0, None])
def test_a_split_on_its_own_device_gives_the_same_batches(room: int | None) -> None:
    split = image_split()
    moved = split.to("cpu", room=room)
    assert moved.array is split.array  # nothing is copied
    generators = [torch.Generator().manual_seed(2) for _ in range(2)]
    assert_same_batches(
        list(moved.shuffled(16, generators[0])), list(split.shuffled(16, generators[1]))
    )
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


@pytest.fixture(scope="module")
def valueless() -> str:
    """A device without values; its first use takes torch more than a second."""
    Augmentation(rotation=1.0)(torch.zeros(1, 3, 2, 2, device="meta"), torch.Generator())
    return "meta"


@pytest.mark.parametrize("room", [40 * 3 * 8 * 8, 40 * 3 * 8 * 8 - 1])
@pytest.mark.parametrize("rotation", [0.0, 20.0])
def test_every_tensor_of_a_batch_is_on_the_device_and_draws_stay_on_the_cpu(
    valueless: str, room: int, rotation: float
) -> None:
    split = image_split()
    assert isinstance(split.augment, Augmentation)
    split = replace(split, augment=replace(split.augment, rotation=rotation))
    moved = split.to(valueless, room=room)  # mixing devices fails
    assert isinstance(moved.array, torch.Tensor)
    fits = room == 40 * 3 * 8 * 8
    assert moved.array.device.type == ("meta" if fits else "cpu")
    assert len(moved.array) == (40 if fits else 50)  # of an array on a device, the split's rows
    generators = [torch.Generator().manual_seed(2) for _ in range(2)]
    expected = list(split.shuffled(16, generators[1]))
    for one, other in zip(moved.shuffled(16, generators[0]), expected, strict=True):
        for name in ("inputs", "targets", "numbers", "categories"):
            found = getattr(one, name)
            assert found.device.type == "meta", name
            assert found.shape == getattr(other, name).shape
    assert torch.equal(generators[0].get_state(), generators[1].get_state())
    assert len(moved.take(torch.tensor([3, 1]))) == 2
    assert moved.spread(5).inputs.shape == (5, 3, 8, 8)
    assert [len(batch) for batch in moved.in_order(15)] == [15, 15, 10]
