"""What is put on the features of a backbone: a scaler, a small network, or nearest neighbours."""

import torch
from torch import Tensor, nn

from torchstudy.data.spec import DataSpec

MIN_SPREAD = 1e-6  # of a feature; one that is constant in training may not be so elsewhere


class Standardise(nn.Module):
    """Features minus their mean, by their spread; both are fitted once and never learn.

    Features of different backbones differ in scale by orders of magnitude; with this, one range of
    learning rates serves them all.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("spread", torch.ones(num_features))

    def fit(self, features: Tensor) -> None:
        """Take mean and spread of (items, features)."""
        self.mean.copy_(features.mean(dim=0))
        spread = features.std(dim=0, correction=0)
        self.spread.copy_(torch.where(spread > MIN_SPREAD, spread, 1.0))

    def forward(self, features: Tensor) -> Tensor:
        """Features (batch, features) with mean 0 and spread 1 over the items of `fit`."""
        return (features - self.mean) / self.spread


class Neighbours(nn.Module):
    """The k nearest training items, by Euclidean distance of standardised features.

    Classes: the logarithm of the neighbours' shares, one pseudo-neighbour spread over all classes
    so that no probability is 0. Numbers: the mean of the neighbours'. The training items are kept
    in the model (Cover & Hart 1967).
    """

    def __init__(self, data: DataSpec, *, neighbours: int) -> None:
        super().__init__()
        self.neighbours = min(neighbours, data.num_train)
        self.num_classes = data.num_classes
        self.scale = Standardise(data.num_features)
        # What it learns are the items themselves, so they count as its parameters.
        self.items = nn.Parameter(torch.zeros(data.num_train, data.num_features))
        self.answers = nn.Parameter(torch.zeros(data.num_train, max(1, data.num_classes)))

    @torch.no_grad()
    def fit(self, features: Tensor, targets: Tensor) -> None:
        """Keep the training items: (items, features), and class numbers or standardised values."""
        self.scale.fit(features)
        self.items.copy_(self.scale(features))
        if self.num_classes:
            self.answers.copy_(nn.functional.one_hot(targets, self.num_classes).float())
        else:
            self.answers.copy_(targets[:, None].float())

    def forward(self, features: Tensor) -> Tensor:
        """Logits (batch, num_classes), or standardised values (batch, 1)."""
        # By matrix products whatever the batch, as the default has it for more than 25 items: a
        # program that is traced then takes any number of them.
        distances = torch.cdist(
            self.scale(features), self.items, compute_mode="use_mm_for_euclid_dist"
        )
        nearest = distances.topk(self.neighbours, dim=1, largest=False).indices
        found = self.answers[nearest]
        if not self.num_classes:
            return found.mean(dim=1)
        votes = found.sum(dim=1) + 1 / self.num_classes
        return (votes / (self.neighbours + 1)).log()


def network_head(
    data: DataSpec, num_features: int, *, hidden: int, dropout: float
) -> nn.Sequential:
    """Scaler, dropout and a linear layer; between them `hidden` ReLUs, where that is not 0."""
    layers: list[nn.Module] = [Standardise(num_features)]
    if hidden:
        layers += [nn.Linear(num_features, hidden), nn.ReLU(inplace=True)]
    return nn.Sequential(
        *layers, nn.Dropout(dropout), nn.Linear(hidden or num_features, data.num_outputs)
    )
