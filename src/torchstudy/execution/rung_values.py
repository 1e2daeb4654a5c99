"""What a training has shown by each rung, and what its epochs cost."""

import math

from torchstudy.records import COSTS, Epoch, Objective, Training
from torchstudy.search.rungs import Ladder

STEP = 3e7  # floating-point operations that a processor does in the time a step costs besides


def best_until(rows: list[Epoch], objective: Objective, ladder: Ladder) -> dict[int, Epoch]:
    """The best epoch up to each rung that the rows reach, as a training chooses it."""
    best: Epoch | None = None
    found: dict[int, Epoch] = {}
    for row in rows:
        if best is None or objective.is_better_epoch(
            row.valid(objective),
            row.valid_loss,
            than=best.valid(objective),
            than_loss=best.valid_loss,
        ):
            best = row
        if row.epoch in ladder.levels and best is not None:
            found[row.epoch] = best
    return found


def seen(training: Training, row: Epoch, objective: Objective) -> float:
    """An objective after an epoch of a training; what a network costs is that of any epoch."""
    return training.valid(objective) if objective.metric in COSTS else row.valid(objective)


def work_of(training: Training) -> float:
    """The counted work of an epoch per item, in floating-point operations; NaN if not known.

    It stands for an epoch's cost where no clock may decide: three forward passes, and what a step
    costs whatever the size of its batch.
    """
    flops, batch = training.metrics.get("flops", math.nan), training.trial.config.get("batch_size")
    return 3 * flops + STEP / batch if isinstance(batch, int) else 3 * flops
