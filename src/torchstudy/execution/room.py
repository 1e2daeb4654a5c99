"""How much disk the checkpoints of a study may take, and which of them go where it is more."""

import math
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from torchstudy.caching import size_of
from torchstudy.errors import RunError, StudyError
from torchstudy.execution.board import Board
from torchstudy.execution.job import CHECKPOINT
from torchstudy.execution.outputs import training_folder
from torchstudy.files import discard
from torchstudy.records import Objective, Training, TrainingKey
from torchstudy.scratch import REPLAYS, sweep

DISK = 20.0  # GB for the checkpoints of a study, unless `disk` says otherwise
LOOK_EVERY = 5.0  # seconds: what is written in between may be more than is allowed, for a while


def checked_disk(disk: float | None) -> float:
    """Bytes for checkpoints, from gigabytes; StudyError for what is no amount."""
    amount = DISK if disk is None else disk
    if not (math.isfinite(amount) and amount > 0):
        raise StudyError(f"disk is {amount:g}; it takes gigabytes above 0, such as {DISK:g}")
    return amount * 1e9


def clear_remains(folder: Path, trainings: Iterable[Training]) -> None:
    """Remove what killed processes left in a study's folder that nobody will look for.

    Half-written files, half-removed folders, and checkpoints of trainings that have ended. Not done
    while workers of the study run; who draws its report meanwhile is left in peace. Folders of
    killed replays lie beside the study's and go as well.
    """
    for path in folder.rglob(".*"):
        if path.name.endswith(".old") or (path.name.endswith(".part") and not _is_going_on(path)):
            discard(path)
    sweep(folder.parent, REPLAYS)
    for training in trainings:
        if training.status.is_final:
            (training_folder(folder, training.key) / CHECKPOINT).unlink(missing_ok=True)


class Room:
    """Keeps the checkpoints of a study within `limit` bytes.

    There are those of trainings that run, or wait to go on, and what the best have left. Where
    these are too much, trainings that wait lose theirs, the least promising first: they start over.
    """

    def __init__(self, folder: Path, limit: float) -> None:
        self._folder, self._limit = folder, limit
        self._looked = -math.inf

    def look(
        self, board: Board, objective: Objective, busy: Sequence[TrainingKey]
    ) -> tuple[list[str], RunError | None]:
        """What was removed, in sentences, and the end of the run where that is not enough.

        Looks at the disk every `LOOK_EVERY` seconds.
        """
        if time.monotonic() - self._looked < LOOK_EVERY:
            return [], None
        self._looked = time.monotonic()
        taken, notes = self._taken(), []
        for key in _least_promising(board, objective):
            checkpoint = training_folder(self._folder, key) / CHECKPOINT
            if taken <= self._limit:
                break
            if key not in busy and checkpoint.exists():
                taken -= checkpoint.stat().st_size
                checkpoint.unlink()
                notes.append(
                    f"{key.family} {key.number}: its checkpoint was removed, as all of them are "
                    f"more than {_size(self._limit)}; it starts over"
                )
        return notes, self._end(taken) if taken > self._limit else None

    def _taken(self) -> int:
        return size_of(self._folder / "checkpoints")[1]

    def _end(self, taken: float) -> RunError:
        return RunError(
            f"{self._folder / 'checkpoints'} takes {_size(taken)}, and may take "
            f"{_size(self._limit)}: allow more of the disk (--disk GB) and repeat the command: it "
            "goes on where it stopped"
        )


def _is_going_on(part: Path) -> bool:
    """Whether the process that writes a file aside, whose number is in the name, may be there."""
    number = part.name.split(".")[-3]
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return int(number) != os.getpid()


def _least_promising(board: Board, objective: Objective) -> list[TrainingKey]:
    """The trainings that wait, those without a value first, then the worst, then the latest."""

    def merit(key: TrainingKey) -> tuple[bool, float, int]:
        value = objective.sign * board.trainings[key].valid(objective)
        is_known = not math.isnan(value)
        return is_known, value if is_known else 0.0, -key.number

    return sorted(board.paused(), key=merit)


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.3g} GB"
