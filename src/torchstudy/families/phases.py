"""What happens in an epoch: gradient steps on a loss, or a fit; and networks that never learn."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from torchstudy.training.batches import Batch, Preprocessing, Split

Loss = Callable[[nn.Module, Batch], Tensor]


def every_item(train: Split) -> Split:
    """The whole training split."""
    return train


def equal_rates(model: nn.Module) -> Mapping[nn.Parameter, float]:
    """No parameter learns faster or slower than the others."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Gradient steps on one loss, over some of the network's parameters.

    `loss(model, batch)` is a scalar, the mean over the batch. `span` is the part of the epochs in
    which the phase runs: phases with the same span alternate batch by batch, phases with spans
    one after the other follow each other. The learning-rate schedule covers the span. `items`
    picks the training items it sees, `passes` says how often it goes through them in an epoch;
    phases that alternate share both. `rate_factors(model)` maps parameters to a multiple of the
    learning rate.
    """

    name: str
    loss: Loss
    parameters: Callable[[nn.Module], Iterable[nn.Parameter]] = nn.Module.parameters
    span: tuple[float, float] = (0.0, 1.0)
    items: Callable[[Split], Split] = every_item
    passes: int = 1
    rate_factors: Callable[[nn.Module], Mapping[nn.Parameter, float]] = equal_rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A part of the network fitted in closed form or by a solver.

    `function(model, train)` writes its result into the model's tensors: after the steps of every
    epoch, or once at the start, before the first. A family with nothing but fits trains for one
    epoch.
    """

    name: str
    function: Callable[[nn.Module, Split], None]
    at: Literal["epoch", "start"] = "epoch"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenEncoder:
    """A network that never learns: its output is computed once per image and kept.

    `key` names the network and its weights; `build` makes it, mapping preprocessed images to
    features of shape (batch, features). The features of several views stand side by side.
    """

    key: str
    build: Callable[[], nn.Module]
    preprocessing: Preprocessing
