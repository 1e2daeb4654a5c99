"""Which crashed trainings of a search are trained again, and what is said of those that are not."""

from collections.abc import Sequence
from pathlib import Path

from torchstudy.errors import StudyError
from torchstudy.execution.examples import record_path
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.outputs import training_folder
from torchstudy.files import discard
from torchstudy.records import Status, Training
from torchstudy.repeats import repeat_of

SHOWN = 8  # trainings that are named


def check_retry(is_wanted: bool, is_fresh: bool) -> None:
    """Raise StudyError where nothing would be left to train again."""
    if is_wanted and is_fresh:
        raise StudyError("--fresh deletes what --retry-crashed would train again; give one of them")


def retry(ledger: Ledger, study: str, folder: Path, families: Sequence[str]) -> str:
    """Have the crashed trainings of these families begin again; says which, or that none did.

    Their files go first: what is left of a checkpoint must not be gone on from, nor answers to
    examples that it gave before it crashed be taken for what comes now.
    """
    found = crashed(ledger, study, families)
    for training in found:
        own = training_folder(folder, training.key)
        discard(own)
        discard(record_path(own))
    ledger.retry(study, [training.key for training in found])
    return _of_repeat(study) + retry_words(found)


def retry_words(found: Sequence[Training]) -> str:
    """Which trainings are trained again, or that none are."""
    return f"trained again: {_named(found)}" if found else "nothing crashed that could be retried"


def way_on(ledger: Ledger, study: str, families: Sequence[str]) -> str:
    """How crashed trainings of these families are trained again; empty where there are none."""
    found = crashed(ledger, study, families)
    if not found:
        return ""
    what = "that" if len(found) == 1 else "them"
    return _of_repeat(study) + (
        f"crashed: {_named(found)}; once the cause is mended, --retry-crashed trains {what} again"
    )


def crashed(ledger: Ledger, study: str, families: Sequence[str]) -> list[Training]:
    """The trainings of these families that crashed."""
    return [
        training
        for training in ledger.trainings(study)
        if training.status is Status.CRASHED and training.trial.family in families
    ]


def _of_repeat(study: str) -> str:
    number = repeat_of(study)[1]
    return f"repeat {number}: " if number > 1 else ""


def _named(trainings: Sequence[Training]) -> str:
    """`CNN #0, CNN #1, confirm CNN #1 and 3 more`."""
    words = {"search": "", "confirmation": "confirm "}
    names = [f"{words[t.purpose]}{t.trial.family} #{t.trial.number}" for t in trainings]
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
