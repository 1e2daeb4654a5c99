"""MultiInput: the images of an item and its columns in a table, looked at together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from torchstudy.data.spec import DataSpec
from torchstudy.domains import Choice, Float, Int
from torchstudy.families.backbones import SHIPPED, find_backbone
from torchstudy.families.base import Family, family
from torchstudy.families.blocks import Embedded, normalisation, pooled_activation
from torchstudy.families.heads import Standardise
from torchstudy.families.phases import Fit, FrozenEncoder, Phase
from torchstudy.families.transfer import Scaled, Transfer
from torchstudy.training.batches import Batch, Preprocessing, Split
from torchstudy.training.features import features_of
from torchstudy.training.optim import TrainingConfig

FROM_SCRATCH = "none"  # as `backbone`
SCRATCH_WIDTHS = (16, 32, 64, 128)  # channels of the blocks of a network from scratch


@family
class MultiInput(Family):
    """A branch for the images and a branch for the table, side by side under one small network.

    Images become features of a frozen pretrained `backbone`, as in Transfer, or with "none" those
    of a small network that learns from scratch. `image_width` numbers are made of them, by weights
    that all views of an item share, and averaged over the views: with a few hundred items, more
    would be learned by heart, hence also the high `image_dropout`. A category becomes a learned
    vector of at most `embedding` numbers. `branches` leaves one side out, to see what it is worth.
    """

    training_space: ClassVar[Mapping[str, object]] = {
        "batch_size": Int(16, 128, log=True, default=32)  # tables with images are small
    }

    branches: str = Choice("both", "image", "table", default="both")
    backbone: str = SHIPPED
    weights: str = "default"
    input_size: int = 0
    image_width: int = Int(2, 32, log=True, default=8)
    image_dropout: float = Float(0.2, 0.9, default=0.8)
    embedding: int = 8
    hidden: int = Int(16, 128, log=True, default=64)
    dropout: float = Float(0.0, 0.5, default=0.1)

    @classmethod
    @override
    def adopted(cls, name: str, change: object) -> object:
        return Transfer.adopted(name, change)

    @override
    def uses_images(self, data: DataSpec) -> bool:
        """Whether the network looks at the images."""
        return self.branches != "table"

    @override
    def problems(self, data: DataSpec) -> Sequence[str]:
        return tuple(self._missing(data)) or tuple(self._backbone_problems(data))

    @override
    def preprocessing(self, data: DataSpec) -> Preprocessing:
        if self._has_backbone:
            return self._frozen.preprocessing(data)
        return super().preprocessing(data)

    @override
    def encoder(self, data: DataSpec) -> FrozenEncoder | None:
        return self._frozen.encoder(data) if self._has_backbone else None

    @override
    def build(self, data: DataSpec) -> "BranchedNet":
        return BranchedNet(self, data)

    @override
    def phases(self, data: DataSpec, training: TrainingConfig) -> tuple[Phase | Fit, ...]:
        step = Phase(name="train", loss=self.prediction_loss(data, training))
        return (Fit(name="scale", function=_fit_scale, at="start"), step)

    @override
    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        inputs, network = batch.inputs, model
        if isinstance(model, nn.Sequential):  # deployed: the backbone comes first
            backbone, network = model
            inputs = features_of(backbone, inputs)
        outputs: Tensor = network(inputs, batch.numbers, batch.categories)
        return outputs

    @override
    def deployed(self, data: DataSpec) -> nn.Module:
        network = self.build(data)
        if not self._has_backbone:
            return network
        backbone = find_backbone(self.backbone, "default").architecture()
        if self.input_size:
            backbone = Scaled(backbone, self.input_size)
        return nn.Sequential(backbone, network)

    @property
    def _has_backbone(self) -> bool:
        return self.branches != "table" and self.backbone != FROM_SCRATCH

    @property
    def _frozen(self) -> Transfer:
        """Transfer from the same backbone: what is computed for one serves the other."""
        return Transfer(backbone=self.backbone, weights=self.weights, input_size=self.input_size)

    def _missing(self, data: DataSpec) -> Iterator[str]:
        """What a branch lacks in the data, and which branch would do."""
        for branch, is_there in (("image", data.has_images), ("table", data.has_table)):
            if not is_there and self.branches in (branch, "both"):
                other = "table" if branch == "image" else "image"
                what = "images" if branch == "image" else "columns of numbers or categories"
                yield (
                    f"branches={self.branches!r} needs {what}, but the data have none: give "
                    f'space={{"MultiInput.branches": "{other}"}}'
                )

    def _backbone_problems(self, data: DataSpec) -> Iterator[str]:
        if self._has_backbone:
            for problem in self._frozen.problems(replace(data, views=1)):
                yield problem.replace("Transfer.", "MultiInput.")


class BranchedNet(nn.Module):
    """Two branches that each make a vector, and a network on both vectors together."""

    def __init__(self, config: MultiInput, data: DataSpec) -> None:
        super().__init__()
        has_images, has_table = config.branches != "table", config.branches != "image"
        self.images = ImageBranch(config, data) if has_images else None
        self.table = Embedded(data, most=config.embedding) if has_table else None
        width = config.image_width * has_images + (self.table.width if self.table else 0)
        self.head = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(width, config.hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, data.num_outputs),
        )

    def forward(self, inputs: Tensor, numbers: Tensor | None, categories: Tensor | None) -> Tensor:
        """Logits or standardised values (batch, outputs) of images or features, and of columns."""
        parts = [] if self.images is None else [self.images(inputs)]
        if self.table is not None:
            parts.append(self.table(numbers, categories))
        outputs: Tensor = self.head(torch.cat(parts, dim=1))
        return outputs


class ImageBranch(nn.Module):
    """A vector of `image_width` numbers for the views of an item: the mean over its views."""

    def __init__(self, config: MultiInput, data: DataSpec) -> None:
        super().__init__()
        self.views = data.views
        is_frozen = config.backbone != FROM_SCRATCH
        self.encoder = nn.Identity() if is_frozen else _scratch_encoder(data)
        total = data.num_features if is_frozen else data.views * SCRATCH_WIDTHS[-1]
        self.scale = Standardise(total) if is_frozen else nn.Identity()
        self.project = nn.Sequential(
            nn.Dropout(config.image_dropout),
            nn.Linear(total // data.views, config.image_width),
            nn.ReLU(inplace=True),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Vectors (batch, image_width) of features (batch, views * features), or of images."""
        features = self.scale(features_of(self.encoder, inputs))
        projected: Tensor = self.project(features.unflatten(1, (self.views, -1)))
        return projected.mean(dim=1)


def _scratch_encoder(data: DataSpec) -> nn.Module:
    """Images to the mean of the last maps of a few convolutions, which halve while they can."""
    layers: list[nn.Module] = []
    channels, side = data.channels, min(data.height, data.width)
    for width in SCRATCH_WIDTHS:
        layers += [
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            *normalisation("batch", width),
        ]
        layers += pooled_activation("relu", "max") if side > 1 else [nn.ReLU(inplace=True)]
        channels, side = width, side // 2
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _fit_scale(model: nn.Module, train: Split) -> None:
    """Set the scale of frozen features from those of the training items."""
    assert isinstance(model, BranchedNet)
    if model.images is not None and isinstance(model.images.scale, Standardise):
        scale = model.images.scale
        scale.fit(torch.cat([batch.inputs for batch in train.in_order()]))
