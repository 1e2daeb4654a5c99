"""What must hold before a run writes anything: possible workers, a folder for results."""

import os
from pathlib import Path
from typing import Literal

from torchstudy.errors import StudyError

ExecutorName = Literal["local", "inline"]


def num_workers_of(workers: int | Literal["auto"], executor: ExecutorName) -> int:
    """How many trainings run side by side; raises StudyError for what cannot be."""
    if executor not in ("local", "inline"):
        raise StudyError(f"executor: {executor!r} is not one of 'local', 'inline'")
    if executor == "inline":
        return 1
    if workers == "auto":
        return (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
    if not isinstance(workers, int) or workers < 1:
        raise StudyError(
            f"workers: must be a whole number of at least 1 or 'auto'; got {workers!r}"
        )
    return workers


def results_folder(reports: Path, name: str) -> Path:
    """The folder of a study's results, made if need be; StudyError if it cannot be written."""
    folder = reports / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"results cannot be written to {folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise StudyError(f"results cannot be written to {folder}: no write permission")
    return folder
