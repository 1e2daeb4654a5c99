"""MLP: fully connected layers on the columns of a table, or on pixels."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from torch import Tensor, nn
from typing_extensions import override

from torchstudy.data.spec import DataSpec
from torchstudy.domains import Choice, Float, Int
from torchstudy.families.base import Family, family
from torchstudy.families.blocks import ACTIVATIONS, OneHot, activation, unknown_name
from torchstudy.training.batches import Batch

NORMALISATIONS = ("none", "batch")


@family
class MLP(Family):
    """Fully connected layers: on the columns of the table if the data have one, else on pixels.

    Categories enter one-hot, so that the first layer learns a vector for each. One hidden layer of
    tanh units can come as close as one likes to any continuous function (Cybenko 1989).
    """

    needs_images: ClassVar[bool] = False

    depth: int = Int(1, 3, default=2)  # hidden layers
    width: int = Int(16, 256, log=True, default=128)
    activation: str = Choice("relu", "gelu", "tanh", default="relu", is_open=True)
    normalisation: str = Choice("none", "batch", default="none")
    dropout: float = Float(0.0, 0.5, default=0.1)

    @override
    def uses_images(self, data: DataSpec) -> bool:
        """Whether the network looks at the images: only where there is no table."""
        return not data.has_table

    @override
    def problems(self, data: DataSpec) -> Sequence[str]:
        return tuple(self._impossible())

    @override
    def build(self, data: DataSpec) -> "DenseNet":
        return DenseNet(self, data)

    @override
    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(model, DenseNet)
        if model.columns is None:
            outputs: Tensor = model(batch.inputs)
        else:
            outputs = model.layers(model.columns(batch.numbers, batch.categories))
        return outputs

    def _impossible(self) -> Iterator[str]:
        yield from unknown_name("activation", self.activation, tuple(ACTIVATIONS))
        for name in ("depth", "width"):
            if getattr(self, name) < 1:
                yield f"{name} must be at least 1, not {getattr(self, name)}"


class DenseNet(nn.Module):
    """The columns or pixels of an item as a vector, and fully connected layers on it."""

    def __init__(self, config: MLP, data: DataSpec) -> None:
        super().__init__()
        self.columns = OneHot(data) if data.has_table else None
        pixels = data.views * data.channels * data.height * data.width
        narrow = self.columns.width if self.columns else pixels
        layers: list[nn.Module] = []
        for _ in range(config.depth):
            layers.append(nn.Linear(narrow, config.width))
            if config.normalisation == "batch":
                layers.append(nn.BatchNorm1d(config.width))
            layers += [activation(config.activation), nn.Dropout(config.dropout)]
            narrow = config.width
        self.layers = nn.Sequential(*layers, nn.Linear(narrow, data.num_outputs))

    def forward(self, images: Tensor) -> Tensor:
        """Logits or standardised values of images; a table goes through `columns`."""
        outputs: Tensor = self.layers(images.flatten(1))
        return outputs
