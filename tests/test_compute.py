import copy

import pytest
import torch
from torch import nn

from torchstudy.errors import StudyError
from torchstudy.families.phases import Phase
from torchstudy.training.batches import Batch
from torchstudy.training.compute import BF16_WORK, Compute, compute_for, device_named, has_bf16
from torchstudy.training.probing import settled

BATCH = Batch(torch.randn(4, 8), torch.tensor([0, 1, 0, 1]))


def test_a_small_network_is_never_trained_in_bfloat16():
    assert not compute_for("auto", "cpu", BF16_WORK - 1).is_bf16


def test_a_large_network_is_trained_in_bfloat16_where_the_processor_has_it():
    assert compute_for("auto", "cpu", BF16_WORK).is_bf16 == has_bf16("cpu")


def test_fp32_stays_single_precision_whatever_the_work():
    assert not compute_for("fp32", "cpu", 1e12).is_bf16


def test_products_are_in_bfloat16_and_weights_are_not():
    layer = nn.Linear(8, 2)
    with Compute(is_bf16=True).autocast():
        assert layer(BATCH.inputs).dtype == torch.bfloat16
    with Compute().autocast():
        assert layer(BATCH.inputs).dtype == torch.float32
    assert layer.weight.dtype == torch.float32


def test_a_device_that_is_not_there_is_refused_with_those_that_are():
    missing = "mps" if torch.cuda.is_available() else "cuda"
    with pytest.raises(StudyError, match=rf"device: '{missing}' is not there; .* has cpu"):
        device_named(missing)


def test_auto_falls_back_on_the_processor():
    expected = {"cuda", "mps"} if torch.cuda.is_available() else {"cpu", "mps"}
    assert device_named("auto") in expected
    assert device_named("cpu") == "cpu"


class Adding(nn.Module):
    """Adds what a layer makes of vectors to single-precision zeros, which must be of one type."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        places = torch.arange(len(vectors))
        return torch.zeros(len(vectors), 4).index_add(0, places, self.layer(vectors))


def test_a_network_that_cannot_be_trained_in_bfloat16_is_trained_without():
    phase = Phase(name="train", loss=lambda model, batch: model(batch.inputs).sum())
    compute = Compute(is_bf16=True)
    assert not settled(compute, Adding(), [phase], BATCH).is_bf16
    assert settled(compute, nn.Linear(8, 2), [phase], BATCH).is_bf16


def test_trying_leaves_weights_statistics_and_random_state_alone():
    model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    phase = Phase(name="train", loss=lambda model, batch: model(batch.inputs).sum())
    settled(Compute(is_bf16=True), model.eval(), [phase], BATCH)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.training
    assert torch.equal(torch.get_rng_state(), state)
