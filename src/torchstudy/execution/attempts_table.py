"""What had become of trainings that crashed and began again: rows of the table `attempts`."""

from collections.abc import Iterator, Sequence

from torchstudy.records import Training

Row = dict[str, object]


def attempt_rows(study: str, trainings: Sequence[Training]) -> Iterator[Row]:
    """One row each time that a training of a study was given up and began again."""
    for training in trainings:
        for attempt in training.earlier:
            yield {
                "study": study,
                "family": training.trial.family,
                "trial": training.trial.number,
                "seed": training.seed,
                "purpose": training.purpose,
                "attempt": attempt.number,
                "status": str(attempt.status),
                "reason": attempt.reason,
                "epochs": len(attempt.epochs),
                "seconds": attempt.seconds,
                "started": attempt.started or None,
                "finished": attempt.finished or None,
                "worker": attempt.worker,
                "environment": attempt.environment or None,
            }
