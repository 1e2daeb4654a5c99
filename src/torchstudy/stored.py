"""The stored studies, opened for reading; where results may be written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from torchstudy.errors import StudyError, did_you_mean
from torchstudy.execution.ledger import Ledger, StudyState
from torchstudy.execution.repeats_table import searches_of
from torchstudy.repeats import choice_words, repeat_of


@contextmanager
def reading(reports: Path, storage: str | None) -> Iterator[Ledger | None]:
    """The ledger, or None where none was ever written; nothing is made or changed."""
    path = reports / "studies.sqlite"
    if storage is None and not path.exists():
        yield None
        return
    ledger = Ledger(storage or _read_url(path), read_only=True)
    try:
        yield ledger
    finally:
        ledger.close()


def described_studies(ledger: Ledger | None) -> list[StudyState]:
    """The studies that a run has told enough about to show them; a repeat is a part of one."""
    known = [state for state in ledger.studies() if state.summary] if ledger else []
    return [state for state in known if repeat_of(state.name)[1] == 1]


def find_study(
    ledger: Ledger | None, reports: Path, reference: str, repeat: int | None = None
) -> tuple[Ledger, StudyState]:
    """The ledger, and the study in it that a name, a path or `module:attribute` means.

    Of a study that was searched several times, the search of the number `repeat`; else the first.
    """
    name = reference.rpartition(":")[2] if ":" in reference else Path(reference).name
    name = name.removesuffix(".py")
    states = {state.name: state for state in described_studies(ledger)}
    if ledger is None or not states:
        raise StudyError(f"study {name!r} has not been run yet (no results in {reports})")
    if name not in states:
        hint = did_you_mean(name, states)
        known = f"; there are results of {', '.join(states)}"
        raise StudyError(f"study {name!r} has not been run yet{hint}{known}")
    return ledger, states[name] if repeat is None else _search(ledger, name, repeat)


def search_words(reports: Path, storage: str | None, study: str, repeat: int | None) -> str:
    """Of which search of a study an answer is; nothing where there is one."""
    with reading(reports, storage) as opened:
        ledger, state = find_study(opened, reports, study)
        return choice_words(state.name, repeat, len(searches_of(ledger, state.name)))


def _search(ledger: Ledger, name: str, repeat: int) -> StudyState:
    """The search of a study that has this number; StudyError that says how many there are."""
    begun = {repeat_of(state.name)[1]: state for state in searches_of(ledger, name)}
    if repeat not in begun:
        there = (
            f"it has {len(begun)} searches, 1 to {max(begun)}"
            if len(begun) > 1
            else "it has one search; `optimize run` does more with --repeats"
        )
        raise StudyError(f"study {name!r} has no repeat {repeat}; {there}")
    return begun[repeat]


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn a file or folder that cannot be written into a StudyError that names it."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StudyError(f"{place} cannot be written: {reason}") from None


def _read_url(path: Path) -> str:
    """The URL of a SQLite file that may lie where nothing can be written."""
    is_at_rest = not path.with_name(f"{path.name}-wal").exists()
    if is_at_rest and not os.access(path.parent, os.W_OK):
        return f"sqlite:///file:{quote(str(path))}?immutable=1&uri=true"
    return f"sqlite:///{path}"
