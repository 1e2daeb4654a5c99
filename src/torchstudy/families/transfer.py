"""Transfer: a pretrained backbone, and a new head on its features."""

import functools
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from torchstudy.data.spec import DataSpec
from torchstudy.domains import Choice, Float, Int
from torchstudy.errors import StudyError
from torchstudy.families.backbones import (
    SHIPPED,
    check_name,
    find_backbone,
    last_blocks,
    register_backbone,
    shares_images,
)
from torchstudy.families.base import Family, family
from torchstudy.families.heads import Neighbours, Standardise, network_head
from torchstudy.families.logistic import fit_logistic
from torchstudy.families.phases import Fit, FrozenEncoder, Phase
from torchstudy.training.batches import Preprocessing, Split
from torchstudy.training.optim import TrainingConfig
from torchstudy.values import Value

LOGISTIC_STEPS = 1000
SCALING_BATCH = 64
SCALED_ON = 2048  # training items, evenly spread, whose features set a head's scale
EVERYTHING = -1  # as `unfreeze`: the whole backbone learns


@family
class Transfer(Family):
    """A pretrained backbone with a new head: a network, logistic regression or neighbours.

    With `unfreeze=0` the features are computed once and shared by all trials; with `unfreeze=n` the
    last n blocks of the backbone learn too, with -1 all of it, BatchNorm keeping its statistics.
    `layer_decay` below 1 lets each block learn that much slower than the one after it (Howard &
    Ruder 2018). `input_size` scales images for the backbone (0: as they are).
    """

    training_when: ClassVar[Mapping[str, Value]] = {"head": "network"}

    backbone: str = SHIPPED
    weights: str = "default"
    input_size: int = 0
    head: str = Choice("network", "logistic", "neighbours", default="network")
    hidden: int = Choice(0, 64, 256, default=0, when={"head": "network"}, is_open=True)
    head_dropout: float = Float(0.0, 0.5, default=0.0, when={"head": "network"})
    unfreeze: int = Choice(0, default=0, when={"head": "network"}, is_open=True)
    layer_decay: float = Choice(1.0, default=1.0, when={"head": "network"}, is_open=True)
    regularisation: float = Float(1e-3, 1e3, log=True, default=1.0, when={"head": "logistic"})
    neighbours: int = Int(1, 30, log=True, default=5, when={"head": "neighbours"})

    @classmethod
    @override
    def adopted(cls, name: str, change: object) -> object:
        """A function given as `backbone` is registered under its own name."""
        if name == "backbone" and callable(change):
            return register_backbone(getattr(change, "__name__", type(change).__name__), change)
        return change

    @override
    def problems(self, data: DataSpec) -> Sequence[str]:
        if data.views > 1:
            return (f"takes one image an item, but the data have {data.views}; use MultiInput",)
        if self.head == "logistic" and data.task == "regression":
            choices = 'Choice("network", "neighbours")'
            return (
                f"head='logistic' finds classes, but {data.target!r} is a number: give "
                f'space={{"Transfer.head": {choices}}}',
            )
        if not 0 < self.layer_decay <= 1:
            return (f"layer_decay must be above 0 and at most 1, not {self.layer_decay:g}",)
        if self.unfreeze < EVERYTHING:
            return (f"unfreeze is a number of blocks, or -1 for all; not {self.unfreeze}",)
        return self._backbone_problems(data)

    @override
    def preprocessing(self, data: DataSpec) -> Preprocessing:
        return find_backbone(self.backbone, self.weights).preprocessing

    @override
    def encoder(self, data: DataSpec) -> FrozenEncoder | None:
        if self.unfreeze:
            return None
        backbone = find_backbone(self.backbone, self.weights)
        return FrozenEncoder(
            key=f"{backbone.key}@{self.input_size}",
            build=self._scaled_backbone,
            preprocessing=backbone.preprocessing,
        )

    @override
    def build(self, data: DataSpec) -> nn.Module:
        if self.unfreeze:
            return self._partly_frozen(self._scaled_backbone(), data)
        return self._head(data, data.num_features)

    @override
    def phases(self, data: DataSpec, training: TrainingConfig) -> tuple[Phase | Fit, ...]:
        if self.head == "logistic":
            return (Fit(name="logistic", function=self._fit_logistic),)
        if self.head == "neighbours":
            return (Fit(name="neighbours", function=lambda m, t: _fit_neighbours(m, t, data)),)
        step = Phase(
            name="train",
            loss=self.prediction_loss(data, training),
            rate_factors=self._rate_factors,
        )
        return (Fit(name="scale", function=_fit_scale, at="start"), step)

    @override
    def fresh(self, model: nn.Module) -> Sequence[nn.Module]:
        return (model.head if isinstance(model, PartlyFrozen) else model,)

    @override
    def deployed(self, data: DataSpec) -> nn.Module:
        network = self._scaled(find_backbone(self.backbone, "default").architecture())
        if self.unfreeze:
            return self._partly_frozen(network, data)
        return nn.Sequential(network, self.build(data))

    def _backbone_problems(self, data: DataSpec) -> Sequence[str]:
        try:
            check_name(self.backbone)
            backbone = find_backbone(self.backbone, self.weights)
            if shares_images(backbone, data.sketch):
                return (
                    f"backbone {self.backbone!r} was trained on images of this data set: its score "
                    "would not be honest; choose another one, for example "
                    'space={"Transfer.backbone": "mobilenet_v2"}',
                )
            size = (self.input_size, self.input_size) if self.input_size else data.shape[1:]
            _try_out(self.backbone, self.weights, *size)
        except StudyError as error:
            return error.problems
        return ()

    def _scaled_backbone(self) -> nn.Module:
        return self._scaled(find_backbone(self.backbone, self.weights).build())

    def _scaled(self, network: nn.Module) -> nn.Module:
        return Scaled(network, self.input_size) if self.input_size else network

    def _partly_frozen(self, backbone: nn.Module, data: DataSpec) -> "PartlyFrozen":
        channels = len(self.preprocessing(data).mean)
        with torch.inference_mode():
            image = torch.zeros(1, channels, data.height, data.width)
            num_features = backbone.eval()(image).shape[1]
        return PartlyFrozen(backbone, self._head(data, num_features), num_unfrozen=self.unfreeze)

    def _head(self, data: DataSpec, num_features: int) -> nn.Module:
        if self.head == "logistic":
            return nn.Linear(num_features, data.num_classes)
        if self.head == "neighbours":
            return Neighbours(data, neighbours=self.neighbours)
        return network_head(data, num_features, hidden=self.hidden, dropout=self.head_dropout)

    def _fit_logistic(self, model: nn.Module, train: Split) -> None:
        assert isinstance(model, nn.Linear)
        features = torch.cat([batch.inputs for batch in train.in_order()])
        fit_logistic(
            model,
            features,
            train.targets,
            regularisation=self.regularisation,
            max_steps=LOGISTIC_STEPS,
        )

    def _rate_factors(self, model: nn.Module) -> Mapping[nn.Parameter, float]:
        """`layer_decay` to the power of a block's distance from the head."""
        if not isinstance(model, PartlyFrozen):
            return {}
        factors: dict[nn.Parameter, float] = {}
        factor = 1.0
        for block in reversed(model.learning):
            if any(parameter.ndim >= 2 for parameter in block.parameters()):
                factor *= self.layer_decay
            factors |= dict.fromkeys(block.parameters(), factor)
        return factors


class Scaled(nn.Module):
    """A network that sees every image at `size` x `size` pixels."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network = network
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        """What the network returns for the scaled images."""
        if images.shape[-2:] != (self.size, self.size):
            images = nn.functional.interpolate(
                images, size=(self.size, self.size), mode="bilinear", antialias=True
            )
        features: Tensor = self.network(images)
        return features


class PartlyFrozen(nn.Module):
    """A backbone of which the last blocks learn, and a head; BatchNorm always uses its statistics.

    A BatchNorm that stayed in training mode would replace the statistics the backbone was trained
    with by those of a few small batches.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, *, num_unfrozen: int) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.head = head
        network = backbone.network if isinstance(backbone, Scaled) else backbone
        count = len(list(network.modules())) if num_unfrozen == EVERYTHING else num_unfrozen
        self.learning = last_blocks(network, count)
        for block in self.learning:
            block.requires_grad_(True)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, num_classes)."""
        logits: Tensor = self.head(self.backbone(images))
        return logits

    @override
    def train(self, mode: bool = True) -> "PartlyFrozen":
        super().train(mode)
        for module in self.backbone.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


def _fit_scale(model: nn.Module, train: Split) -> None:
    """Set the head's scale from features of training items, through the backbone if any."""
    places = torch.linspace(0, len(train) - 1, min(SCALED_ON, len(train))).round().long()
    shown = train.take(places).in_order(SCALING_BATCH)
    encode: nn.Module = nn.Identity()
    head = model
    if isinstance(model, PartlyFrozen):
        encode, head = model.backbone, model.head
    features = torch.cat([encode(batch.inputs) for batch in shown])
    assert isinstance(head, nn.Sequential)
    assert isinstance(head[0], Standardise)
    head[0].fit(features)


def _fit_neighbours(model: nn.Module, train: Split, data: DataSpec) -> None:
    assert isinstance(model, Neighbours)
    features = torch.cat([batch.inputs for batch in train.in_order()])
    targets = train.targets
    if data.task == "regression":
        targets = (targets - data.target_mean) / data.target_std
    model.fit(features, targets)


@functools.cache
def _try_out(name: str, weights: str, height: int, width: int) -> None:
    """Raise StudyError unless the backbone loads and makes a vector of an image of this size."""
    backbone = find_backbone(name, weights)
    network = backbone.build().eval()
    channels = len(backbone.preprocessing.mean)
    try:
        with torch.inference_mode():
            features = network(torch.zeros(1, channels, height, width))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise StudyError(
            f"backbone {name!r} cannot take images of {height} x {width} px ({error}); "
            'give it larger ones with space={"Transfer.input_size": 96}'
        ) from None
    if not isinstance(features, Tensor) or features.ndim != 2:
        found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise StudyError(f"backbone {name!r} returns {found} for one image, not a vector")
