"""Which loss a network's predictions are trained on, chosen by the task."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from torchstudy.data.spec import DataSpec
from torchstudy.training.batches import Batch
from torchstudy.training.optim import TrainingConfig

PredictionLoss = Callable[[Tensor, Batch], Tensor]

REGRESSION_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": nn.functional.mse_loss,
    "mae": nn.functional.l1_loss,
    "huber": nn.functional.huber_loss,
}


def prediction_loss(data: DataSpec, training: TrainingConfig) -> PredictionLoss:
    """The loss of (outputs, batch), the mean over the batch in single precision.

    Cross-entropy for logits (batch, classes), binary cross-entropy for one logit (batch, 1), and
    for regression `training.regression_loss` of standardised values.
    """
    if data.task == "regression":
        return _regression_loss(data, training)
    return _classification_loss(data, training)


def balanced_weights(counts: tuple[int, ...]) -> Tensor:
    """A weight per class, inverse to its frequency, with mean 1 over the items."""
    present = torch.tensor(counts, dtype=torch.float32)
    return present.sum() / (len(counts) * present)


def _classification_loss(data: DataSpec, training: TrainingConfig) -> PredictionLoss:
    is_weighted = training.class_weights == "balanced" and bool(data.class_counts)
    weights = balanced_weights(data.class_counts) if is_weighted else None
    smoothing = training.label_smoothing

    def loss(outputs: Tensor, batch: Batch) -> Tensor:
        logits = _checked(outputs, batch, "classes")
        if logits.shape[1] > 1:
            return nn.functional.cross_entropy(
                logits, batch.targets, weight=_beside(weights, logits), label_smoothing=smoothing
            )
        targets = batch.targets.float() * (1 - smoothing) + smoothing / 2
        each = nn.functional.binary_cross_entropy_with_logits(
            logits.flatten(), targets, reduction="none"
        )
        if weights is None:
            return each.mean()
        chosen = weights.to(logits.device)[batch.targets]
        return (each * chosen).sum() / chosen.sum()

    return loss


def _beside(weights: Tensor | None, logits: Tensor) -> Tensor | None:
    return None if weights is None else weights.to(logits.device)


def _regression_loss(data: DataSpec, training: TrainingConfig) -> PredictionLoss:
    measure = REGRESSION_LOSSES[training.regression_loss]

    def loss(outputs: Tensor, batch: Batch) -> Tensor:
        found = _checked(outputs, batch, "1")
        if found.shape[1] != 1:
            raise ValueError(
                f"the network returns {tuple(found.shape)}, expected ({len(batch)}, 1)"
            )
        wanted = (batch.targets - data.target_mean) / data.target_std
        return measure(found.flatten(), wanted.float())

    return loss


def _checked(outputs: Tensor, batch: Batch, width: str) -> Tensor:
    """The outputs in single precision; a shape that would broadcast silently is an error."""
    if outputs.ndim != 2 or len(outputs) != len(batch):
        expected = f"({len(batch)}, {width})"
        raise ValueError(f"the network returns {tuple(outputs.shape)}, expected {expected}")
    return outputs.to(torch.float32)
