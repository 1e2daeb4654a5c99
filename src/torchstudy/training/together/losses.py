"""The loss of each member's predictions, for all members at once."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from torchstudy.data.spec import DataSpec
from torchstudy.training.batches import Batch
from torchstudy.training.losses import balanced_weights
from torchstudy.training.optim import TrainingConfig

MemberLosses = Callable[[Tensor, Batch], Tensor]

EACH: dict[str, Callable[..., Tensor]] = {
    "mse": nn.functional.mse_loss,
    "mae": nn.functional.l1_loss,
    "huber": nn.functional.huber_loss,
}


def member_losses(data: DataSpec, configs: Sequence[TrainingConfig]) -> MemberLosses:
    """What `training.losses.prediction_loss` gives each member: (members,) of (outputs, batch).

    Outputs and batch hold the items of the members one after the other, equally many of each.
    `class_weights` and `regression_loss` must be the same for all; label smoothing is each one's
    own.
    """
    if data.task == "regression":
        return _regression(data, configs)
    if data.num_outputs == 1:
        return _two_classes(data, configs)
    return _classes(data, configs)


def _classes(data: DataSpec, configs: Sequence[TrainingConfig]) -> MemberLosses:
    weights, smoothing = _weights(data, configs), _smoothing(configs)

    def losses(outputs: Tensor, batch: Batch) -> Tensor:
        def each(amount: float) -> Tensor:
            found = nn.functional.cross_entropy(
                outputs, batch.targets, weight=weights, label_smoothing=amount, reduction="none"
            )
            return _mean(found, batch, weights, len(configs))

        # Cross-entropy is linear in the targets, hence in the smoothing.
        return torch.lerp(each(0.0), each(1.0), smoothing) if smoothing.any() else each(0.0)

    return losses


def _two_classes(data: DataSpec, configs: Sequence[TrainingConfig]) -> MemberLosses:
    weights, smoothing = _weights(data, configs), _smoothing(configs)

    def losses(outputs: Tensor, batch: Batch) -> Tensor:
        amount = smoothing.repeat_interleave(len(batch) // len(configs))
        targets = batch.targets.float() * (1 - amount) + amount / 2
        found = nn.functional.binary_cross_entropy_with_logits(
            outputs.flatten(), targets, reduction="none"
        )
        chosen = found if weights is None else found * weights[batch.targets]
        return _mean(chosen, batch, weights, len(configs))

    return losses


def _regression(data: DataSpec, configs: Sequence[TrainingConfig]) -> MemberLosses:
    measure = EACH[configs[0].regression_loss]

    def losses(outputs: Tensor, batch: Batch) -> Tensor:
        wanted = (batch.targets - data.target_mean) / data.target_std
        found = measure(outputs.flatten(), wanted.float(), reduction="none")
        return found.view(len(configs), -1).mean(dim=1)

    return losses


def _weights(data: DataSpec, configs: Sequence[TrainingConfig]) -> Tensor | None:
    is_weighted = configs[0].class_weights == "balanced" and bool(data.class_counts)
    return balanced_weights(data.class_counts) if is_weighted else None


def _smoothing(configs: Sequence[TrainingConfig]) -> Tensor:
    return torch.tensor([config.label_smoothing for config in configs])


def _mean(each: Tensor, batch: Batch, weights: Tensor | None, num_members: int) -> Tensor:
    """The mean of each member's items, by their classes' weights where they have some."""
    sums = each.view(num_members, -1)
    if weights is None:
        return sums.mean(dim=1)
    return sums.sum(dim=1) / weights[batch.targets].view(num_members, -1).sum(dim=1)
