"""How long a run will take: measured on the recipes, or taken from trials that have ended."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, Pipe

import numpy as np
import torch
from numpy.typing import NDArray

from torchstudy.data.dataset import DataHandle, ImageData, open_data
from torchstudy.data.spec import DataSpec
from torchstudy.errors import RunError
from torchstudy.execution.forkserver import start_process
from torchstudy.execution.inputs import encoded_together, inputs_for, split_of
from torchstudy.execution.job import settings_for
from torchstudy.families.backbones import adopt_backbones, registered_backbones
from torchstudy.families.base import Family
from torchstudy.families.phases import Fit, FrozenEncoder, Phase
from torchstudy.fitting import instantiate
from torchstudy.models.costs import costs_of
from torchstudy.records import Objective, Status, Training
from torchstudy.seeds import derive
from torchstudy.study import Study
from torchstudy.training.batches import Split
from torchstudy.training.compute import devices_of
from torchstudy.training.features import ENCODING_BATCH, are_cached, features_of
from torchstudy.training.lesson import Lesson
from torchstudy.training.trainer import train
from torchstudy.values import Value

NUM_BATCHES = 8  # that a recipe steps over to be timed, once more than that to warm up
NUM_FITTED = 4096  # images that a fit is timed on: enough for its cost to grow with their number
WARM_UP = 256  # images of a fit that is not timed: it imports libraries
PARAMETER = 4  # bytes
ROW = 1500  # bytes of an epoch in the ledger and the tables, as CSV and as Parquet
REPORT = 5e6  # bytes of a report with what it shows of the models
START_SECONDS = 0.3  # per training beside its epochs: process, checkpoint, predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Seconds of one worker that a family is expected to need, and where the figure comes from.

    `effort` is that of all `trainings`, of which many are short, in trainings of full length;
    `weights` and `checkpoint` are bytes: what a training leaves, and what it needs to go on from.
    """

    family: str
    per_training: float
    once: float  # features of a frozen backbone, computed before the first trial
    trainings: int
    effort: float
    basis: str
    weights: float = 0.0
    checkpoint: float = 0.0

    @property
    def seconds(self) -> float:
        """All of it; nothing where nothing is left to train."""
        return self.once + self.per_training * self.effort if self.trainings else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a process needs to time a family's recipe; `epochs` is the full length of a training."""

    family: type[Family]
    config: Mapping[str, Value]
    data: DataHandle
    objective: Objective
    epochs: int
    precision: str = "auto"
    device: str = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Seconds for the features of all images, and for one training after that.

    `weights` are the bytes of a network, `optimizer` those of what its optimizers remember.
    """

    once: float
    per_training: float
    weights: float = 0.0
    optimizer: float = 0.0


def forecast(
    study: Study,
    data: ImageData,
    family: type[Family],
    ended: Sequence[Training],
    trainings: int,
    *,
    effort: float | None = None,
    in_process: bool = False,
) -> Forecast:
    """What `trainings` more trainings of a family will take, as long as `effort` whole ones.

    Three or more completed trials speak for the rest by their mean; else the recipe is timed on a
    few batches here and now, in a worker process as trials are trained in (in this one with
    `in_process`), and every other configuration is taken to cost as much. Raises RunError if the
    recipe fails.
    """
    completed = [training for training in ended if training.status is Status.COMPLETED]
    cost, basis = Cost(once=0.0, per_training=0.0), "nothing is left"
    if trainings and len(completed) >= 3:
        mean = sum(training.seconds for training in completed) / len(completed)
        parameters = sum(training.parameters for training in completed) / len(completed)
        cost = Cost(
            once=0.0,
            per_training=mean,
            weights=PARAMETER * parameters,
            optimizer=2 * PARAMETER * parameters,  # Adam's two moments; SGD has one
        )
        basis = f"mean of {len(completed)} finished trainings"
    elif trainings:
        sample = Sample(
            family=family,
            config=study.space_of(family).recipe,
            data=data.handle,
            objective=study.objective,
            epochs=study.epochs,
            precision=study.precision,
            device=devices_of(study.device)[0],
        )
        cost = _answered(_measured(sample) if in_process else _asked(sample), family)
        basis = "its recipe, timed on a few batches"
    return Forecast(
        family=family.__name__,
        per_training=cost.per_training,
        once=cost.once,
        trainings=trainings,
        effort=trainings if effort is None else effort,
        basis=basis,
        weights=cost.weights,
        checkpoint=2 * cost.weights + cost.optimizer,  # as they are, and at the best epoch
    )


def disk_needed(
    study: Study, families: Sequence[Forecast], num_workers: int
) -> tuple[float, float]:
    """Bytes that a run takes at most: its checkpoints with what the best leave, and all the rest.

    Checkpoints are of the trainings that run, weights of the best trials and of those confirmed.
    The rest are tables, ledger and report. Other configurations may have larger networks.
    """
    num_best, num_seeds = study.confirm or (1, 0)
    kept = num_best + (num_best + 1) * num_seeds
    checkpoints = num_workers * max((each.checkpoint for each in families), default=0.0)
    checkpoints += kept * sum(each.weights for each in families if each.trainings)
    rows = study.epochs * sum(each.trainings for each in families)
    return checkpoints, ROW * rows + REPORT


def _answered(answer: Cost | str, family: type[Family]) -> Cost:
    if isinstance(answer, str):
        raise RunError(f"{family.__name__}: its recipe cannot be trained: {answer}")
    return answer


def _asked(sample: Sample) -> Cost | str:
    """The cost as a worker process measures it, or why there is none."""
    ours, theirs = Pipe()
    process = start_process(_serve, theirs, _Question(sample), name="forecast")
    theirs.close()
    try:
        answer: Cost | str = ours.recv()
    except EOFError:
        answer = "the process that timed it has died"
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()
    return answer


class _Question:
    """A sample and what the process that times it must know of this one."""

    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self.family = sample.family
        self.backbones = registered_backbones()


def _serve(connection: Connection, question: _Question) -> None:
    import os
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asked ends this process
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    torch.set_num_threads(1)
    adopt_backbones(question.backbones)
    connection.send(_measured(question.sample))


def _measured(sample: Sample) -> Cost | str:
    try:
        return measured(sample)
    except Exception as error:  # a family's code may raise anything; a run would record it
        return f"{type(error).__name__}: {error}"


def measured(sample: Sample) -> Cost:
    """Time the parts of an epoch on as many images as each needs, scaled to the whole splits."""
    data = open_data(sample.data)
    instance, training, augmentation = instantiate(sample.family, sample.config)
    train_rows, valid_rows = data.splits["train"], data.splits["valid"]
    most = max(NUM_BATCHES * training.batch_size, NUM_FITTED)
    timed = train_rows[_spread(len(train_rows), most)]
    spec, once = data.spec, 0.0
    encoder = instance.encoder(spec)
    if encoder is None:
        pixels, preprocessing = inputs_for(instance, data)
        images = split_of(data, pixels, timed, timed, preprocessing)
    else:
        once, features = _encoded(encoder, data, timed)
        spec = replace(spec, num_features=features.shape[1])
        images = split_of(data, features, np.arange(len(timed)), timed)
    if augmentation.is_on:
        images = replace(images, augment=augmentation)
    images = images.to(sample.device)
    phases = instance.phases(spec, training)
    work = costs_of(instance, spec, with_latency=False)["flops"] * training.batch_size
    lesson = Lesson(
        build=lambda: instance.build(spec),
        phases=[phase for phase in phases if isinstance(phase, Phase)],
        config=training,
        train=_some(images, NUM_BATCHES * training.batch_size),
        valid=images,
        score=lambda model, split: {"loss": 0.0, sample.objective.metric: 0.0},
        objective=sample.objective,
        epochs=1,
        seed=derive(0, "forecast"),
        compute=settings_for(instance, spec, work, sample.precision, sample.device),
    )
    _, model = train(lesson)  # warms up
    weights = sum(value.nbytes for value in model.state_dict().values())
    seconds = _steps(lesson) * len(train_rows) / len(lesson.train)
    seconds += _after_steps(instance, model, phases, images) * len(train_rows) / len(images)
    scored = _some(images, NUM_BATCHES * training.batch_size)
    seconds += _scoring(instance, model, spec, scored) * len(valid_rows) / len(scored)
    return Cost(
        once=once,
        per_training=START_SECONDS + seconds * (sample.epochs if lesson.phases else 1),
        weights=weights,
        optimizer=(1 if training.optimizer == "sgd" else 2) * weights,
    )


def _encoded(
    encoder: FrozenEncoder, data: ImageData, rows: NDArray[np.int64]
) -> tuple[float, NDArray[np.float32]]:
    """Seconds for the features of all images, and made-up ones in their shape for `rows`."""
    groups = [group.items for group in encoded_together(data)]
    network = encoder.build().eval().to(memory_format=torch.channels_last)
    probe = groups[0][: 2 * ENCODING_BATCH]
    batches = split_of(data, data.pixels, probe, probe, encoder.preprocessing)
    with torch.inference_mode():
        first, *rest = batches.in_order(ENCODING_BATCH)
        width = features_of(network, first.inputs).shape[1]
        timed = rest[0] if rest else first
        per_item = _seconds(lambda: features_of(network, timed.inputs)) / len(timed)
    key = data.handle.folder.name
    missing = [items for items in groups if not are_cached(encoder, items, data_key=key)]
    seconds = per_item * sum(map(len, missing))
    generator = np.random.default_rng(derive(0, "forecast"))
    return seconds, generator.normal(size=(len(rows), width)).astype(np.float32)


def _after_steps(
    instance: Family, model: torch.nn.Module, phases: Sequence[Phase | Fit], images: Split
) -> float:
    """Seconds of all fits on `images`, after a small one each to warm up."""
    model.eval()
    seconds = 0.0
    with torch.no_grad():
        for fit in (phase.function for phase in phases if isinstance(phase, Fit)):
            fit(model, _some(images, WARM_UP))
            seconds += _seconds(functools.partial(fit, model, images))
    return seconds


def _steps(lesson: Lesson) -> float:
    """Seconds of an average epoch's gradient steps: those of each span, by its share."""
    seconds = 0.0
    for span in dict.fromkeys(phase.span for phase in lesson.phases if isinstance(phase, Phase)):
        own = [
            replace(phase, span=(0.0, 1.0))
            for phase in lesson.phases
            if isinstance(phase, Phase) and phase.span == span
        ]
        part = replace(lesson, phases=own)
        seconds += (span[1] - span[0]) * _seconds(functools.partial(train, part))
    return seconds


def _scoring(instance: Family, model: torch.nn.Module, spec: DataSpec, images: Split) -> float:
    model.eval()
    with torch.inference_mode():
        return _seconds(lambda: instance.score(model, spec, images.in_order()))


def _some(images: Split, count: int) -> Split:
    return images.take(torch.from_numpy(_spread(len(images), count)))


def _spread(length: int, count: int) -> NDArray[np.int64]:
    """`count` places of `length`, evenly spaced: images lie in order of class, and all must be."""
    return np.linspace(0, length - 1, min(count, length)).astype(np.int64)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
