"""What is to be trained, and the two ways in which an epoch ends early."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from torchstudy.families.phases import Fit, Phase
from torchstudy.records import Objective
from torchstudy.training.batches import Batch, Split
from torchstudy.training.compute import Compute
from torchstudy.training.optim import TrainingConfig


def whole_model(model: nn.Module) -> Sequence[nn.Module]:
    """All of it: nothing is pretrained."""
    return (model,)


def no_pictures(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Nothing to look at."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """A network, its phases, the data, and how success is measured.

    `build` makes the untrained model, of which `fresh` names the parts that are not pretrained;
    `score(model, split)` gives the metrics of one split. `averaged` names metrics that are means of
    another one over the last epochs; `pictures(model, batch)` gives images to keep, by caption.
    `train` and `valid` lie where `compute` says that the network is trained. After epoch `until`
    the training pauses, if it is not at its end (None: it does not).
    """

    build: Callable[[], nn.Module]
    phases: Sequence[Phase | Fit]
    config: TrainingConfig
    train: Split
    valid: Split
    score: Callable[[nn.Module, Split], dict[str, float]]
    objective: Objective
    epochs: int
    seed: int
    fresh: Callable[[nn.Module], Sequence[nn.Module]] = whole_model
    averaged: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    pictures: Callable[[nn.Module, Batch], dict[str, Tensor]] = no_pictures
    compute: Compute = field(default_factory=Compute)
    until: int | None = None

    @property
    def num_epochs(self) -> int:
        """How many epochs a full training has: one where nothing takes gradient steps."""
        return self.epochs if any(isinstance(phase, Phase) for phase in self.phases) else 1

    @property
    def last_phase_begins(self) -> int:
        """The number of epochs after which the last of the phases begins."""
        spans = [self.epochs_of(phase) for phase in self.phases if isinstance(phase, Phase)]
        return max((begin for begin, _ in spans), default=0)

    def epochs_of(self, phase: Phase) -> tuple[int, int]:
        """The phase runs in the epochs after the first number, up to the second."""
        begin, end = phase.span
        return round(begin * self.num_epochs), round(end * self.num_epochs)

    def active(self, epoch: int) -> list[list[Phase]]:
        """The phases of one epoch, those that alternate batch by batch side by side."""
        groups: dict[object, list[Phase]] = {}
        for phase in self.phases:
            if isinstance(phase, Phase):
                begin, end = self.epochs_of(phase)
                if begin < epoch <= end:
                    groups.setdefault((phase.items, phase.passes), []).append(phase)
        return list(groups.values())


class Stopped(Exception):
    """Raised inside an epoch when the training is asked to stop; the epoch is not kept."""


class Diverged(Exception):
    """Raised when a loss, gradient or metric is not finite; carries the reason."""
