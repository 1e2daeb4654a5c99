"""How good a network is on a split: loss and accuracy, summed over batches."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from torchstudy.training.batches import Batch


def classification_metrics(
    predict: Callable[[Tensor], Tensor], batches: Iterable[Batch]
) -> dict[str, float]:
    """Mean cross-entropy (`loss`, nats) and share of right answers (`accuracy`) over all items.

    `predict` maps inputs to logits of shape (batch, classes). Sums are kept in double precision,
    so that the size of the batches does not show.
    """
    loss = torch.zeros((), dtype=torch.float64)
    correct, count = 0, 0
    for batch in batches:
        logits = predict(batch.inputs).float()
        loss += nn.functional.cross_entropy(logits, batch.targets, reduction="sum").double()
        correct += int((logits.argmax(dim=1) == batch.targets).sum())
        count += len(batch.targets)
    return {"accuracy": correct / count, "loss": float(loss) / count}
