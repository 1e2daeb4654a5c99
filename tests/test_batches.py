import numpy as np
import pytest
import torch

from torchstudy.training.batches import Preprocessing, Split


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
