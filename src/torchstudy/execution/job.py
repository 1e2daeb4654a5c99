"""What a worker does: train one trial with one seed, read a split for it, or refit it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from torchstudy.data.dataset import DataHandle, open_data
from torchstudy.data.spec import DataSpec
from torchstudy.errors import CannotWrite, DataError, StudyError
from torchstudy.execution import exhibits
from torchstudy.execution.failing import failure
from torchstudy.execution.inputs import splits_of
from torchstudy.execution.placing import CAPACITY, MEMORY
from torchstudy.failpoints import failpoint
from torchstudy.families.base import Family
from torchstudy.files import last, refusal_in, writable, written_aside
from torchstudy.fitting import instantiate
from torchstudy.models.costs import costs_of
from torchstudy.records import COSTS, Epoch, Objective, Outcome, Purpose, Status, TrainingKey
from torchstudy.seeds import derive
from torchstudy.training.batches import Split
from torchstudy.training.checkpoint import sift
from torchstudy.training.compute import Compute, compute_for, memory_of
from torchstudy.training.lesson import Lesson, Stopped, no_pictures
from torchstudy.training.tensorfiles import Damaged, read_tensors, write_tensors
from torchstudy.training.trainer import train
from torchstudy.values import Value

CHECKPOINT, WEIGHTS = "checkpoint.pt", "weights.pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """Another training of a job's configuration, with another seed, that goes with it."""

    key: TrainingKey
    folder: Path
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One piece of work for one worker, with everything it needs.

    `train` trains and scores the `valid` split (and `select` when confirming); `test` scores the
    `test` split with the weights that training left in `folder`, and is paused where these are
    damaged: they are removed, so that it is trained again. `calibrate` answers the `select` split
    with these weights, where no confirmation does. `refit` trains to epoch `until` and
    keeps the weights as they are then: no split judges them. `companions` are trained in the
    same worker, as one network with this training where that is the same. A training that is not
    at its end after epoch `until` is paused there.
    """

    action: Literal["train", "test", "calibrate", "refit"]
    key: TrainingKey
    family: type[Family]
    config: Mapping[str, Value]
    objective: Objective
    epochs: int
    purpose: Purpose
    data: DataHandle
    folder: Path
    precision: str = "auto"
    device: str = "cpu"
    is_profiled: bool = False
    companions: tuple[Companion, ...] = ()
    until: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A lesson, and what is needed to judge and keep what comes of it."""

    family: Family
    data: DataSpec
    splits: Mapping[str, Split]
    costs: Mapping[str, float]
    lesson: Lesson


@dataclass(frozen=True, slots=True)
class Note:
    """Something a user may want to know while waiting."""

    text: str


Report = Callable[[Epoch | Note], None]
Gallery = dict[int, dict[str, torch.Tensor]]  # pictures by epoch, by caption


def run(job: Job, report: Report, should_stop: Callable[[], bool]) -> Outcome:
    """Do the job. A configuration that fails is an outcome with its reason, never an exception.

    A pause has a reason where something could not be written, which the run has to be told.
    """
    try:
        return _run(job, report, should_stop)
    except Stopped:
        return Outcome(status=Status.PAUSED)
    except CannotWrite as error:  # not the configuration's fault: it goes on once there is room
        return Outcome(status=Status.PAUSED, reason=str(error))
    except StudyError as error:
        is_refused = isinstance(error, DataError) and refusal_in(error.__cause__) is not None
        status = Status.PAUSED if is_refused else Status.CRASHED
        return Outcome(status=status, reason=str(error))
    except (Exception, SystemExit) as error:  # a family's code may raise anything
        return failure(error)


def settings_for(
    family: Family, data: DataSpec, work: float, precision: str, device: str
) -> Compute:
    """How a network is trained whose forward pass of one batch takes `work` operations.

    Heads on frozen features are too small for bfloat16, whatever the whole network takes.
    """
    is_head = family.encoder(data) is not None
    return compute_for(precision, device, 0.0 if is_head else work)


def deployed_state(
    folder: Path, family: Family, data: DataSpec
) -> tuple[dict[str, torch.Tensor], DataSpec]:
    """The weights of the whole network, a frozen encoder included, and the data it takes."""
    saved = read_tensors(folder / WEIGHTS)
    state: dict[str, torch.Tensor] = saved["state"]
    encoder = family.encoder(data)
    if encoder is not None:
        frozen = {f"0.{name}": value for name, value in encoder.build().state_dict().items()}
        state = {**frozen, **{f"1.{name}": value for name, value in state.items()}}
    return state, replace(data, num_features=saved["num_features"])


def _run(job: Job, report: Report, should_stop: Callable[[], bool]) -> Outcome:
    if job.action == "test":
        return _test(job, report, should_stop)
    if job.action == "calibrate":
        return _calibrate(job, report, should_stop)
    if job.action == "refit":
        return _refit(job, report, should_stop)
    ready = prepared(job, report, should_stop)
    sift_checkpoint(job, report)
    gallery: Gallery = {}
    outcome, model = train(
        ready.lesson,
        checkpoint=job.folder / CHECKPOINT,
        on_epoch=report,
        on_pictures=gallery.__setitem__,
        should_stop=should_stop,
    )
    if job.purpose == "search" and _is_over(job, outcome):
        exhibits.write_example(
            job.folder, ready.family, model, ready.data, ready.splits["valid"], outcome
        )
    return concluded(job, ready, outcome, model, gallery)


def sift_checkpoint(job: Job, report: Report) -> None:
    """Remove the job's checkpoint if it cannot be gone on from, and say so."""
    if complaint := sift(job.folder / CHECKPOINT):
        report(Note(complaint))


def prepared(
    job: Job, report: Report, should_stop: Callable[[], bool], *, with_latency: bool = True
) -> Prepared:
    """What is to be trained; raises Stopped where features are to be computed first."""
    family, training, augmentation = instantiate(job.family, job.config)
    splits, spec = _opened(job, family, report, should_stop)
    if augmentation.is_on:
        splits["train"] = replace(splits["train"], augment=augmentation)
    costs = costs_of(family, spec, with_latency=with_latency)
    known = {name: value for name, value in costs.items() if name == job.objective.metric}
    work = costs["flops"] * training.batch_size
    compute = settings_for(family, spec, work, job.precision, job.device)
    lesson = Lesson(
        build=lambda: family.build(spec),
        phases=family.phases(spec, training),
        config=training,
        train=splits["train"],
        valid=splits["valid"],
        score=lambda model, split: family.score(model, spec, split.in_order()) | known,
        objective=job.objective,
        epochs=job.epochs,
        seed=job.key.seed,
        fresh=family.fresh,
        averaged=family.averaged,
        pictures=family.pictures,
        compute=replace(compute, is_profiled=job.is_profiled),
        until=job.until,
    )
    return Prepared(family=family, data=spec, splits=splits, costs=costs, lesson=lesson)


def concluded(
    job: Job, ready: Prepared, outcome: Outcome, model: nn.Module, gallery: Gallery
) -> Outcome:
    """The outcome with its costs; of a completed training, weights and answers are kept."""
    costs = dict(ready.costs)
    outcome = replace(
        outcome,
        parameters=int(costs.pop("parameters")),
        metrics={**outcome.metrics, **costs, **_device_memory(job.device)},
    )
    if outcome.status is not Status.COMPLETED:
        return outcome
    family, spec, splits = ready.family, ready.data, ready.splits
    failpoint("before-weights")
    _write_weights(job, spec, model)
    failpoint("after-weights")
    exhibits.write_gallery(job.folder, gallery)
    exhibits.write_answers(job.folder, family, model, spec, splits["valid"], "valid")
    if job.purpose == "confirmation":
        selected = _scored(job, family, model, spec, splits["select"], "select")
        if bad := [name for name, value in selected.items() if not math.isfinite(value)]:
            reason = f"{bad[0].replace('_', ' ', 1)} was not finite"
            return replace(outcome, status=Status.DIVERGED, reason=reason)
        outcome = replace(outcome, metrics={**outcome.metrics, **selected})
    last(job.folder)  # before the outcome is recorded for good
    return outcome


def _is_over(job: Job, outcome: Outcome) -> bool:
    """Whether a training got to its end or to where it was to pause, and was not interrupted."""
    is_paused = outcome.status is Status.PAUSED and outcome.epochs == job.until
    return is_paused or outcome.status is Status.COMPLETED


def _refit(job: Job, report: Report, should_stop: Callable[[], bool]) -> Outcome:
    """Train without a score: to the trainer, every epoch is the best so far."""
    ready = prepared(job, report, should_stop, with_latency=False)
    done = 0

    def count(model: nn.Module, split: Split) -> dict[str, float]:
        nonlocal done
        done += 1
        return {"epochs": float(done)}

    lesson = replace(
        ready.lesson,
        score=count,
        objective=Objective(metric="epochs", direction="maximize"),
        averaged={},
        pictures=no_pictures,
    )
    outcome, model = train(lesson, on_epoch=report, should_stop=should_stop)
    if outcome.status is Status.PAUSED and outcome.epochs == job.until:
        outcome = replace(outcome, status=Status.COMPLETED)
    if outcome.status is Status.COMPLETED:
        _write_weights(job, ready.data, model)
    return outcome


def _write_weights(job: Job, spec: DataSpec, model: nn.Module) -> None:
    with written_aside(job.folder / WEIGHTS) as aside:
        state = {name: value.cpu() for name, value in model.state_dict().items()}
        write_tensors(aside, {"num_features": spec.num_features, "state": state})


def _opened(
    job: Job, family: Family, report: Report, should_stop: Callable[[], bool]
) -> tuple[dict[str, Split], DataSpec]:
    """The splits that a job reads, on its device; no other one is ever looked at."""

    def check_stop() -> None:
        if should_stop():
            raise Stopped

    data = open_data(job.data)
    splits, spec = splits_of(
        family, data, _looked_at(job), lambda text: report(Note(text)), check_stop
    )
    with writable(job.folder):
        job.folder.mkdir(parents=True, exist_ok=True)
    return {name: split.to(job.device) for name, split in splits.items()}, spec


def _looked_at(job: Job) -> tuple[str, ...]:
    if job.action == "test":
        return ("test",)
    if job.action == "calibrate":
        return ("select",)
    return ("train", "valid", "select") if job.purpose == "confirmation" else ("train", "valid")


def _device_memory(device: str) -> dict[str, float]:
    found = memory_of(device)
    return {} if found is None else {MEMORY: found[0], CAPACITY: found[1]}


def _test(job: Job, report: Report, should_stop: Callable[[], bool]) -> Outcome:
    failpoint("before-test")
    family = instantiate(job.family, job.config).family
    splits, spec = _opened(job, family, report, should_stop)
    path = job.folder / WEIGHTS
    try:
        model = _trained(job, family, spec)
    except Damaged as error:
        path.unlink(missing_ok=True)
        report(Note(f"{path} is damaged ({error}) and was removed: it is trained again"))
        return Outcome(status=Status.PAUSED)
    scored = _scored(job, family, model, spec, splits["test"], "test")
    metrics = {k: value if math.isfinite(value) else math.nan for k, value in scored.items()}
    return Outcome(status=Status.COMPLETED, metrics=metrics)


def _calibrate(job: Job, report: Report, should_stop: Callable[[], bool]) -> Outcome:
    """Answer the select split, which has chosen nothing where nothing was confirmed."""
    family = instantiate(job.family, job.config).family
    splits, spec = _opened(job, family, report, should_stop)
    try:
        model = _trained(job, family, spec)
    except Damaged as error:
        reason = f"{job.folder / WEIGHTS} is damaged ({error})"
        return Outcome(status=Status.CRASHED, reason=reason)
    select = splits["select"]
    exhibits.write_answers(job.folder, family, model, spec, select, "select", is_judge=True)
    return Outcome(status=Status.COMPLETED)


def _trained(job: Job, family: Family, spec: DataSpec) -> nn.Module:
    """The network with the weights that its training left; raises Damaged."""
    model = family.build(spec)
    model.load_state_dict(read_tensors(job.folder / WEIGHTS)["state"])
    return model.to(job.device).eval()


def _scored(
    job: Job, family: Family, model: nn.Module, spec: DataSpec, split: Split, name: str
) -> dict[str, float]:
    """The metrics of one split by their columns; the answers behind them are kept."""
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        Compute(device=job.device).seed(derive(job.key.seed, "score", name))
        metrics = family.score(model, spec, split.in_order())
    if job.objective.metric in COSTS:
        metrics |= costs_of(family, spec)
    metrics |= {mean: metrics[source] for mean, (source, _) in family.averaged.items()}
    exhibits.write_answers(job.folder, family, model, spec, split, name)
    return {f"{name}_{metric}": value for metric, value in metrics.items()}
