"""What a run would do and how long it would take, for `--dry-run`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from torchstudy.cacheview import as_size
from torchstudy.data.dataset import prepare
from torchstudy.data.sources import scan
from torchstudy.execution.board import Board
from torchstudy.execution.forecast import Forecast, disk_needed, forecast
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.preconditions import ExecutorName, num_workers_of
from torchstudy.execution.repeats_table import searches_of
from torchstudy.execution.retrying import check_retry, crashed, retry_words, way_on
from torchstudy.execution.room import checked_disk
from torchstudy.execution.schedule import Schedule
from torchstudy.execution.watching import counted, notes
from torchstudy.models.limits import Limits
from torchstudy.records import Training
from torchstudy.repeats import kept_words
from torchstudy.report.formats import duration
from torchstudy.stored import reading
from torchstudy.study import Study


def plan_lines(
    study: Study,
    *,
    reports: Path,
    storage: str | None,
    workers: int | Literal["auto"],
    executor: ExecutorName,
    families: Sequence[str] | None,
    disk: float | None = None,
    fresh: bool = False,
    retry_crashed: bool = False,
) -> tuple[str, list[list[str]], str]:
    """Title, one line per family, and the forecast. Trains nothing, writes nothing but caches."""
    check_retry(retry_crashed, fresh)
    num_workers = num_workers_of(workers, executor)
    active = [study.family(name) for name in families] if families else list(study.families)
    study.check(scan(study.images).spec())
    data = prepare(study.images, seed=study.seed)
    study.check(data.spec)
    Limits(study, data.spec).check()
    with reading(reports, storage) as stored:
        names = [family.__name__ for family in active]
        ledger = Ledger("sqlite://") if fresh or stored is None else stored
        searches = [study.repeat(number + 1) for number in range(study.repeats)]
        said = [kept_words(study.repeats, len(searches_of(ledger, study.name)))]
        again = list[Training]()
        if retry_crashed:
            again = [t for search in searches for t in crashed(ledger, search.name, names)]
            said.append(retry_words(again))
        else:
            said += [way_on(ledger, search.name, names) for search in searches]
        schedules = [
            Schedule(
                study=search,
                board=Board(ledger, search.name, names),
                folder=reports / search.name,
                num_workers=num_workers,
                families=names,
            )
            for search in searches
        ]
    confirmations = (study.confirm[0] + 1) * study.confirm[1] if study.confirm else 0
    is_over = all(schedule.search_is_over for schedule in schedules)
    lines, seconds, most_disk = [], 0.0, checked_disk(disk)
    forecasts: list[Forecast] = []
    for family in active:
        name, boards = family.__name__, [schedule.board for schedule in schedules]
        retried = sum(training.trial.family == name for training in again)
        left = retried + sum(schedule.num_left(name) for schedule in schedules)
        ended = [t for board in boards for t in (*board.searched(name), *board.confirmed(name))]
        is_inline = executor == "inline"
        effort = retried + sum(schedule.effort_left(name) for schedule in schedules)
        expected = forecast(study, data, family, ended, left, effort=effort, in_process=is_inline)
        seconds += expected.seconds
        forecasts.append(expected)
        trials = int(min(study.trials, study.space_of(family).size))
        lines.append(
            [
                name,
                str(study.repeats * trials),
                _at_most(study.repeats * confirmations, is_exact=not confirmations),
                _at_most(left, is_exact=not confirmations or is_over or not left),
                duration(expected.seconds),
                expected.basis,
            ]
        )
    sizes = ", ".join(f"{name} {len(rows)}" for name, rows in data.splits.items())
    repeats = f", {counted(study.repeats, 'repeat')}" if study.repeats > 1 else ""
    title = f"{study.name}: {data.spec.source}, {sizes}{repeats}"
    footer = [*filter(None, said), *notes(study, data), _footer(seconds, num_workers)]
    if seconds:
        footer.append(_disk_line(*disk_needed(study, forecasts, num_workers), most_disk))
    return title, lines, "\n".join(footer)


def _at_most(number: int, *, is_exact: bool) -> str:
    """A number of trainings; fewer are confirmed where the recipe is among the best."""
    return str(number) if is_exact else f"up to {number}"


def _disk_line(checkpoints: float, rest: float, limit: float) -> str:
    line = (
        f"disk: about {as_size(int(checkpoints + rest))}, {as_size(int(checkpoints))} of it for "
        f"checkpoints, which may take {as_size(int(limit))}"
    )
    return f"{line}: that is not enough, allow more with --disk" if checkpoints > limit else line


def _footer(seconds: float, num_workers: int) -> str:
    if not seconds:
        return "nothing is left to train: the budget is spent"
    return (
        f"forecast: about {duration(seconds / num_workers)} with "
        f"{counted(num_workers, 'worker')}, this machine as busy as it is now. Other "
        "configurations than those that were timed often cost a third as much, or three times."
    )
