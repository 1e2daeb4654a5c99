"""Without a GPU: fake tensors know their device, and mixing devices is an error as on a real one.

Only forward passes can be had this way; gradients ask for a real GPU.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from torchstudy.data.dataset import ImageData
from torchstudy.families.base import Family
from torchstudy.families.built_in import BUILT_IN
from torchstudy.families.multi_input import MultiInput
from torchstudy.families.phases import Phase
from torchstudy.models.costs import num_features, one_item
from torchstudy.training.batches import Batch
from torchstudy.training.optim import TrainingConfig
from torchstudy.training.restoration import similarity

GPU = "cuda:0"
TRAINING = TrainingConfig(class_weights="balanced", label_smoothing=0.1)


def on_gpu(model: nn.Module) -> nn.Module:
    """`Module.to`, which fake tensors do not support."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                moved = parameter.detach().to(GPU)
                module._parameters[name] = nn.Parameter(moved, parameter.requires_grad)
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.to(GPU)
    return model


def moved(batch: Batch) -> Batch:
    def there(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else torch.zeros_like(tensor, device=GPU)

    inputs, targets = there(batch.inputs), there(batch.targets)
    assert inputs is not None
    assert targets is not None
    return Batch(
        inputs.expand(4, *inputs.shape[1:]),
        targets.expand(4),
        None if batch.numbers is None else torch.zeros(4, batch.numbers.shape[1], device=GPU),
        None
        if batch.categories is None
        else torch.zeros(4, batch.categories.shape[1], dtype=torch.int64, device=GPU),
    )


@pytest.mark.parametrize("cls", BUILT_IN)
def test_every_loss_and_prediction_stays_on_the_gpu(
    cls: type[Family], striped: ImageData, tabled: ImageData
) -> None:
    data = (tabled if cls is MultiInput else striped).spec
    family = cls()
    spec = replace(data, num_features=num_features(family, data))
    batch = one_item(family, spec)
    if spec.num_features:
        batch = replace(batch, inputs=torch.zeros(1, spec.num_features))
    with FakeTensorMode(allow_non_fake_inputs=True):
        model, items = on_gpu(family.build(spec)), moved(batch)
        for phase in family.phases(spec, TRAINING):
            if isinstance(phase, Phase):
                assert str(phase.loss(model, items).device) == GPU
        prediction = family.predict(model.eval(), spec, items)
        assert prediction is None or str(prediction.device) == GPU
        for picture in family.pictures(model, items).values():
            assert str(picture.device) == GPU


def test_similarity_is_measured_where_the_images_are() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        images = torch.zeros(2, 1, 12, 12, device=GPU)
        assert str(similarity(images, images).device) == GPU
