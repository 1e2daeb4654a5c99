"""LinearModel: logistic or ridge regression, the yardstick for everything deeper."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from torchstudy.data.spec import DataSpec
from torchstudy.domains import Float
from torchstudy.families.base import Family, family
from torchstudy.families.blocks import OneHot
from torchstudy.families.logistic import fit_logistic, fit_ridge
from torchstudy.families.phases import Fit, Phase
from torchstudy.training.batches import Batch, Split
from torchstudy.training.optim import TrainingConfig

MAX_STEPS = 1000  # of L-BFGS


@family
class LinearModel(Family):
    """One linear layer, fitted by a solver: logistic regression for classes, ridge for numbers.

    It sees the columns of the table if the data have one, categories one-hot, else the pixels, each
    standardised. A solver has no learning rate: the training hyperparameters do not exist here.
    """

    needs_images: ClassVar[bool] = False
    trains: ClassVar[bool] = False

    regularisation: float = Float(1e-3, 1e3, log=True, default=1.0)

    @override
    def uses_images(self, data: DataSpec) -> bool:
        """Whether the network looks at the images: only where there is no table."""
        return not data.has_table

    @override
    def build(self, data: DataSpec) -> "LinearNet":
        return LinearNet(data)

    @override
    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(model, LinearNet)
        outputs: Tensor = model.layer(model.features(batch))
        return outputs

    @override
    def phases(self, data: DataSpec, training: TrainingConfig) -> tuple[Phase | Fit, ...]:
        def fit(model: nn.Module, train: Split) -> None:
            self._fit(model, train, data)

        return (Fit(name="fit", function=fit),)

    def _fit(self, model: nn.Module, train: Split, data: DataSpec) -> None:
        assert isinstance(model, LinearNet)
        features = torch.cat([model.features(batch) for batch in train.in_order()])
        # Scaling a one-hot column would shrink rare categories the least.
        is_scaled = data.has_table
        if data.task == "regression":
            targets = (train.targets - data.target_mean) / data.target_std
            fit_ridge(
                model.layer,
                features,
                targets,
                regularisation=self.regularisation,
                is_scaled=is_scaled,
            )
            return
        fit_logistic(
            model.layer,
            features,
            train.targets,
            regularisation=self.regularisation,
            max_steps=MAX_STEPS,
            is_scaled=is_scaled,
        )


class LinearNet(nn.Module):
    """The columns or pixels of an item as a vector, and one linear layer on it."""

    def __init__(self, data: DataSpec) -> None:
        super().__init__()
        self.columns = OneHot(data) if data.has_table else None
        pixels = data.views * data.channels * data.height * data.width
        self.layer = nn.Linear(self.columns.width if self.columns else pixels, data.num_outputs)

    def features(self, batch: Batch) -> Tensor:
        """What the layer takes, (batch, features)."""
        if self.columns is None:
            return batch.inputs.flatten(1)
        columns: Tensor = self.columns(batch.numbers, batch.categories)
        return columns

    def forward(self, images: Tensor) -> Tensor:
        """Logits or standardised values of images; a table goes through `features`."""
        outputs: Tensor = self.layer(images.flatten(1))
        return outputs
