"""How good a network's predictions are on a split, summed over batches."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from torchstudy.data.spec import DataSpec
from torchstudy.training.batches import Batch

CLASSIFICATION_METRICS = ("accuracy", "loss")
REGRESSION_METRICS = ("mse", "mae", "r2", "loss")

Outputs = Callable[[Batch], Tensor]


def prediction_metrics(
    data: DataSpec, outputs: Outputs, batches: Iterable[Batch]
) -> dict[str, float]:
    """The metrics of the data's task; `outputs` maps a batch to what the network returns for it."""
    if data.task == "regression":
        return regression_metrics(data, outputs, batches)
    return classification_metrics(outputs, batches)


def classification_metrics(outputs: Outputs, batches: Iterable[Batch]) -> dict[str, float]:
    """Mean cross-entropy (`loss`, nats) and share of right answers (`accuracy`) over all items.

    `outputs` gives logits (batch, classes), or one logit (batch, 1) for the second of two classes.
    Sums are kept in double precision, so that the size of the batches does not show.
    """
    losses, rights, count = [], [], 0
    for batch in batches:
        logits = two_sided(outputs(batch).float())
        losses.append(nn.functional.cross_entropy(logits, batch.targets, reduction="sum"))
        rights.append((logits.argmax(dim=1) == batch.targets).sum())
        count += len(batch)
    loss = float(torch.stack(losses).cpu().double().sum())
    return {"accuracy": int(torch.stack(rights).sum()) / count, "loss": loss / count}


def regression_metrics(
    data: DataSpec, outputs: Outputs, batches: Iterable[Batch]
) -> dict[str, float]:
    """Errors in the target's own unit: `mse`, `mae`, and `r2`, the share of variance explained.

    `outputs` gives standardised values (batch, 1). `r2` is 1 - SSE / SST with the split's own mean,
    so 0 is worth a constant and it may be negative. `loss` is the MSE of standardised values.
    """
    found, wanted = [], []
    for batch in batches:
        found.append(in_target_unit(data, outputs(batch)))
        wanted.append(batch.targets.cpu().double())
    targets = torch.cat(wanted)
    errors = torch.cat(found) - targets
    mse = float(errors.square().mean())
    variance = float((targets - targets.mean()).square().mean())
    return {
        "mse": mse,
        "mae": float(errors.abs().mean()),
        "r2": 1 - mse / variance if variance > 0 else float(mse == 0),
        "loss": mse / data.target_std**2,
    }


def two_sided(logits: Tensor) -> Tensor:
    """Logits (batch, classes >= 2) with the same probabilities: one logit x becomes (0, x)."""
    if logits.shape[1] != 1:
        return logits
    return torch.cat([torch.zeros_like(logits), logits], dim=1)


def in_target_unit(data: DataSpec, outputs: Tensor) -> Tensor:
    """Standardised outputs (batch, 1) as float64 values (batch,) in the target's own unit.

    They lie on the CPU: not every device has double precision.
    """
    return outputs.cpu().double().flatten() * data.target_std + data.target_mean
