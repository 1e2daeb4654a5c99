import numpy as np
import pytest
import torch

from torchstudy.training.batches import Augment, Preprocessing, Split


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
