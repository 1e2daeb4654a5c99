"""One configuration with several seeds in one worker: as one network where that is the same."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from torchstudy.data.dataset import open_data
from torchstudy.execution import job as jobs
from torchstudy.execution.job import CHECKPOINT, Gallery, Job, Note
from torchstudy.fitting import instantiate
from torchstudy.records import Epoch, Outcome, TrainingKey
from torchstudy.training.together.grouping import agrees, together_key
from torchstudy.training.together.train import train_together

Report: TypeAlias = Callable[[TrainingKey, Epoch | Note | Outcome], None]


def goes_together(job: Job) -> bool:
    """Whether trainings of the job's configuration with several seeds are quicker as one network.

    It depends on the configuration and the data alone. What cannot be built is trained alone and
    says so then.
    """
    try:
        family, _, augmentation = instantiate(job.family, job.config)
        encodes = family.encoder(open_data(job.data).spec) is not None
        if augmentation.is_on or encodes:  # features may not have been computed yet
            return False
        ready = jobs.prepared(job, _unheard, lambda: False, with_latency=False)
        return together_key(ready.family, ready.data, ready.lesson) is not None
    except Exception:  # a family's code may raise anything
        return False


def run_all(job: Job, report: Report, should_stop: Callable[[], bool]) -> None:
    """Do a job and report everything, the outcome of every training of it last.

    A group that fails, for whatever reason, is trained one by one, each from its checkpoint.
    """
    parts = [replace(job, companions=())]
    parts += [
        replace(job, key=other.key, folder=other.folder, companions=()) for other in job.companions
    ]
    outcomes = _together(parts, report, should_stop) if job.companions else None
    if outcomes is None:
        for part in parts:
            report(part.key, jobs.run(part, partial(report, part.key), should_stop))
        return
    for part, outcome in zip(parts, outcomes, strict=True):
        report(part.key, outcome)


def _together(
    parts: list[Job], report: Report, should_stop: Callable[[], bool]
) -> list[Outcome] | None:
    """The outcomes of jobs trained as one network; None where they have to be trained alone."""
    galleries: list[Gallery] = [{} for _ in parts]
    try:
        ready = jobs.prepared(parts[0], _unheard, should_stop)  # the others differ in their seed
        family, data = ready.family, ready.data
        lessons = [replace(ready.lesson, seed=part.key.seed) for part in parts]
        for part in parts:
            part.folder.mkdir(parents=True, exist_ok=True)
            jobs.sift_checkpoint(part, partial(report, part.key))
        if not agrees(lessons, data, family.outputs):
            return None
        ended = train_together(
            lessons,
            data=data,
            outputs=family.outputs,
            checkpoints=[part.folder / CHECKPOINT for part in parts],
            on_epoch=lambda number, row: report(parts[number].key, row),
            on_pictures=lambda number, epoch, images: galleries[number].update({epoch: images}),
            should_stop=should_stop,
        )
        return [
            jobs.concluded(part, ready, outcome, model, gallery)
            for part, (outcome, model), gallery in zip(parts, ended, galleries, strict=True)
        ]
    except Exception:  # alone, each says what is wrong with it
        return None


def _unheard(payload: Epoch | Note) -> None:
    """Notes on features: what goes together has none."""
