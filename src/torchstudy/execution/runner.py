"""A study is run: its data are prepared, its ledger is claimed, and a session does the rest."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torchstudy.analysis.tables import Results, read_results
from torchstudy.data.dataset import prepare
from torchstudy.data.sources import scan
from torchstudy.execution import finishing
from torchstudy.execution.earlier import beginnings
from torchstudy.execution.environment import environment_of
from torchstudy.execution.idle import Timesheet
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.memory import checked_memory
from torchstudy.execution.preconditions import ExecutorName, num_workers_of, results_folder
from torchstudy.execution.redrawing import Order, Redrawing
from torchstudy.execution.repeating import (
    Beginnings,
    all_counted,
    go_on_with_repeats,
    held,
)
from torchstudy.execution.retrying import check_retry, retry, way_on
from torchstudy.execution.room import checked_disk
from torchstudy.execution.session import Session
from torchstudy.execution.watchdog import Patience
from torchstudy.execution.watching import PlainLines, Silent, Watcher
from torchstudy.files import writable
from torchstudy.models.limits import Limits
from torchstudy.study import Study
from torchstudy.training.compute import devices_of
from torchstudy.training.features import sift_features


def run(
    study: Study,
    *,
    reports: str | Path = "reports",
    storage: str | None = None,
    workers: int | Literal["auto"] = "auto",
    executor: ExecutorName = "local",
    families: Sequence[str] | None = None,
    fresh: bool = False,
    watcher: Watcher | None = None,
    quiet: bool = False,
    profile: bool = False,
    memory: float | None = None,
    stall: float | None = None,
    disk: float | None = None,
    warm_start: bool = True,
    watch: bool = False,
    retry_crashed: bool = False,
) -> Results:
    """Run a study to the end of its budget, or go on where it stopped; return its tables.

    Args:
        study: what to run.
        reports: the folder that gets `<study>/` with tables, models and the report.
        storage: the ledger's SQLAlchemy URL; `studies.sqlite` in `reports` if left out.
        workers: trainings side by side, one thread each; "auto" is one per core.
        executor: "local" trains in processes of their own, "inline" in this one.
        families: names of the families to go on with now; all if left out.
        fresh: delete the study's earlier results first.
        watcher: told of everything that happens; by default plain lines are printed.
        quiet: print nothing.
        profile: wait for a GPU at every part of a step, so that its time is told apart (slower).
        memory: gigabytes for each worker; by default what is free is shared, 10% kept back.
        stall: seconds without progress after which a worker counts as hung; by default 600, and
            3600 while it computes.
        disk: gigabytes for checkpoints, 20 by default. Where they are more, trainings that wait
            lose theirs, the least promising first, and then the run stops.
        warm_start: begin each family with what earlier studies in the same ledger found best.
        retry_crashed: train again what crashed, now that the cause is mended; its earlier attempts
            are kept (the table `attempts`).
        watch: redraw tables and report as results come in, in at most a twentieth of the time.

    Raises StudyError for data or configurations that cannot work, StudyClaimed and StudyChanged
    for a study held by another run or changed since, Interrupted after a signal, CannotWrite or
    another RunError where the disk is full or must not be written.
    """
    check_retry(retry_crashed, fresh)
    watching = watcher or (Silent() if quiet else PlainLines())
    num_workers = num_workers_of(workers, executor)
    most_memory, patience = checked_memory(memory), Patience.of(stall)
    most_disk = checked_disk(disk)
    devices = devices_of(study.device)
    active = [study.family(name).__name__ for name in families] if families else None
    study.check(scan(study.images).spec())
    data = prepare(study.images, seed=study.seed, progress=watching.preparing)
    study.check(data.spec)
    limits = Limits(study, data.spec)
    limits.check()
    if count := sift_features(data.handle.folder.name):
        watching.note(f"features in the cache were damaged ({count} of them) and are made again")
    if storage is not None:
        _opened(storage, watching).close()  # refused before a folder is made
    folder = results_folder(Path(reports), study.name)
    url = storage or f"sqlite:///{Path(reports) / 'studies.sqlite'}"
    ledger = _opened(url, watching)
    if watch:
        watching = Redrawing(watching, Order(url=url, study=study.name, folder=folder))
    try:
        if fresh:
            ledger.forget(study.name, tell=watching.note)
            finishing.clear(folder)
        threads = 1 if executor == "local" else None
        environment = environment_of(study, device=devices[0], threads=threads)

        def begin(search: Study, place: Path, has_news: bool, good: Beginnings) -> Session:
            stored = _summary(ledger, search)
            summary = finishing.summary(search, data, num_workers) | environment.added_to(stored)
            if (warning := environment.warning(stored)) and place == folder:
                watching.note(warning)
            names = active or [family.__name__ for family in study.families]
            if retry_crashed:
                watching.note(retry(ledger, search.name, place, names))
            elif said := way_on(ledger, search.name, names):
                watching.note(said)
            return Session(
                study=search,
                data=data,
                ledger=ledger,
                folder=place,
                num_workers=num_workers,
                executor=executor,
                watcher=watching,
                limits=limits,
                families=names,
                has_news=has_news or retry_crashed,
                timesheet=Timesheet(ledger, search.name, summary),
                devices=devices,
                is_profiled=profile,
                memory=most_memory,
                patience=patience,
                environment=environment.id,
                disk=most_disk,
                good=good,
            )

        fingerprint = data.spec.fingerprint
        with held(ledger, study, fingerprint, watching) as has_news, writable(folder):
            counted = all_counted(ledger, study, watching)
            good = beginnings(ledger, study, is_warm=warm_start)
            is_written = begin(counted, folder, has_news, good).go()
            if counted.repeats > 1:
                go_on_with_repeats(
                    counted,
                    until=study.repeats,
                    ledger=ledger,
                    folder=folder,
                    fingerprint=fingerprint,
                    watcher=watching,
                    begin=begin,
                    is_written=is_written,
                )
    finally:
        ledger.close()
    return read_results(folder)


def _summary(ledger: Ledger, study: Study) -> Mapping[str, Any]:
    """What the ledger knows of a study or one of its repeats."""
    return next(stored.summary for stored in ledger.studies() if stored.name == study.name)


def _opened(url: str, watching: Watcher) -> Ledger:
    """The ledger, and a line on what was found damaged in it."""
    ledger = Ledger(url)
    if ledger.note:
        watching.note(ledger.note)
    return ledger
