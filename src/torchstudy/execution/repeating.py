"""The searches of a study, one after the other: each is held, gone through and let go of."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from torchstudy.errors import CannotWrite, InterruptedAtOnce, RunError, reason_to_stop
from torchstudy.execution import finishing
from torchstudy.execution.earlier import first_beginnings
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.preconditions import results_folder
from torchstudy.execution.repeats_table import searches_of
from torchstudy.execution.session import Session
from torchstudy.execution.watching import Watcher
from torchstudy.failpoints import failpoint
from torchstudy.repeats import kept_words
from torchstudy.space import Config
from torchstudy.study import Study

Beginnings: TypeAlias = dict[str, list[tuple[Config, str]]]
Begin: TypeAlias = Callable[[Study, Path, bool, Beginnings], Session]
"""Makes the session of a search from its study, folder, whether there is news, and beginnings."""


@contextmanager
def held(ledger: Ledger, study: Study, fingerprint: str, watcher: Watcher) -> Iterator[bool]:
    """Hold a study: `Ledger.claim`. Yields whether its last run did not come to its end."""
    declaration = {**study.describe(), "fingerprint": fingerprint}
    has_news = not ledger.claim(study.name, declaration, tell=watcher.note)
    failpoint("after-claim")
    state, stopped_on = "interrupted", ""
    try:
        yield has_news
        state = "finished"
    except Exception as error:  # noted in the ledger, and raised again
        stopped_on = reason_to_stop(error)
        raise
    finally:
        failpoint("before-release")
        ledger.release(study.name, state, stopped_on)


def all_counted(ledger: Ledger, study: Study, watcher: Watcher) -> Study:
    """The study with as many repeats as there are searches, if it asks for fewer."""
    begun = len(searches_of(ledger, study.name))
    if said := kept_words(study.repeats, begun):
        watcher.note(said)
    return replace(study, repeats=max(study.repeats, begun))


def go_on_with_repeats(
    study: Study,
    *,
    ledger: Ledger,
    folder: Path,
    fingerprint: str,
    watcher: Watcher,
    begin: Begin,
    is_written: bool,
    until: int,
) -> None:
    """The searches of a held study after the first, which is over; then what all of them say.

    Those after the number `until` are kept as they are. `is_written` says whether the first search
    has written the study's folder.
    """
    try:
        for number in range(2, until + 1):
            own = study.repeat(number)
            place = results_folder(folder.parent, own.name)
            with held(ledger, own, fingerprint, watcher) as has_news:
                good = first_beginnings(ledger, study)
                is_written |= begin(own, place, has_news, good).go()
    except (InterruptedAtOnce, CannotWrite):
        raise
    except RunError as error:
        finishing.write_again(study, ledger, folder, "interrupted", reason_to_stop(error))
        raise
    if is_written or not (folder / "repeats.parquet").exists():
        finishing.write_again(study, ledger, folder, "finished")
    watcher.finished(folder / "report.html")
