"""The table of proposals: what the search decided, what it expected, and what came of it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from torchstudy.analysis.environments import spans
from torchstudy.execution.ledger import Ledger, StudyState
from torchstudy.records import (
    Decision,
    Objective,
    Status,
    Training,
    TrainingKey,
    Trial,
    objectives_in,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Row = dict[str, object]


def proposal_rows(
    ledger: Ledger,
    state: StudyState,
    trainings: Sequence[Training],
    curves: "Mapping[TrainingKey, npt.NDArray[np.float64]]",
) -> list[Row]:
    """One row per decision, by family and decision; none for trials that have none recorded.

    `trainings` are those of the search, `curves` holds the objective after each epoch of one.
    """
    objective = objectives_in(state.summary)[0]
    searched = {(t.key.family, t.key.number): t for t in trainings}
    rows: list[Row] = []
    for family in state.summary["families"]:
        decided: list[tuple[int, Row]] = []
        for trial in ledger.trials(state.name, family):
            training = searched.get((family, trial.number))
            curve = None if training is None else curves.get(training.key)
            is_decided = bool(trial.decisions)
            best = _best_so_far(curve, objective) if is_decided and curve is not None else []
            decided += _rows(trial, training, best, objective)
        rows += [row for _, row in sorted(decided, key=lambda each: each[0])]
    return [{"study": state.name, **row} for row in rows]


def _best_so_far(curve: "npt.NDArray[np.float64]", objective: Objective) -> list[float]:
    import numpy as np

    best = np.fmax.accumulate(objective.sign * curve) * objective.sign
    return [float(value) for value in best]


def _rows(
    trial: Trial, training: Training | None, best: list[float], objective: Objective
) -> Iterator[tuple[int, Row]]:
    """The decisions of a trial with their rows; `best` is the objective so far, by epoch."""
    is_completed = training is not None and training.status is Status.COMPLETED
    final = training.valid(objective) if training is not None and is_completed else math.nan
    after = 0
    for decision in trial.decisions:
        is_there = bool(best) and (is_completed or len(best) >= decision.until)
        seen = best[min(decision.until, len(best)) - 1] if is_there else math.nan
        yield (
            decision.number,
            {
                "family": trial.family,
                "trial": trial.number,
                **_decided(decision),
                "after": after,
                "seen": seen,
                "at_the_end": final,
            },
        )
        after = decision.until


def _decided(decision: Decision) -> Row:
    return {
        "decision": decision.number,
        "origin": decision.origin,
        "until": decision.until,
        "pending": spans(decision.pending),
        "expected": decision.value,
        "spread": decision.spread,
        "expected_seconds": decision.seconds,
        "decided": decision.decided,
    }
