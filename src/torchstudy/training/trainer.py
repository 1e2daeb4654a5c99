"""The one training loop: every family, every phase, one epoch after another."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from torchstudy.failpoints import failpoint
from torchstudy.families.phases import Fit, Phase
from torchstudy.records import Epoch, Objective, Outcome, Status
from torchstudy.seeds import derive
from torchstudy.training.checkpoint import Standing, restore, save
from torchstudy.training.clock import Clock
from torchstudy.training.gallery import SHOWN, is_due, taken
from torchstudy.training.initial import initialise
from torchstudy.training.lesson import Diverged, Lesson, Stopped
from torchstudy.training.optim import make_optimizer
from torchstudy.training.origin import bad_weight, divergence, origin_of_score
from torchstudy.training.probing import settled
from torchstudy.training.steps import gradient_steps

PROBED = 8  # items of the step that is tried in bfloat16


def train(
    lesson: Lesson,
    *,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Epoch], None] = lambda row: None,
    on_pictures: Callable[[int, dict[str, Tensor]], None] = lambda epoch, pictures: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[Outcome, nn.Module]:
    """Train to the end, from the checkpoint if there is one; return the best epoch's model.

    `on_epoch` gets one row per finished epoch and `on_pictures` the uint8 images taken after some
    of them, those of earlier legs first. The outcome is `completed`, `diverged`, or `paused` when
    `should_stop` turned true between two batches, or after the lesson's epoch `until`. Torch's
    global random state is put back afterwards. Same lesson, same machine: the same numbers.
    """
    clock = Clock(synchronise=lesson.compute.synchronise)
    with torch.random.fork_rng(devices=lesson.compute.seeded_devices):
        lesson.compute.seed(derive(lesson.seed, "init"))
        standing = beginning(lesson)
        lesson = _settled(lesson, standing)
        lesson.compute.seed(derive(lesson.seed, "train"))
        try:
            if checkpoint is None or not restore(standing, checkpoint):
                _fit(lesson, standing, "start")
                take_pictures(lesson, standing)
            for row in standing.rows:
                on_epoch(row)
            for epoch, pictures in standing.pictures.items():
                on_pictures(epoch, pictures)
            while not is_finished(lesson, standing):
                if lesson.until is not None and len(standing.rows) >= lesson.until:
                    raise Stopped
                _epoch(lesson, standing, should_stop, clock)
                if checkpoint is not None:
                    with clock.part("checkpoint"):
                        save(standing, checkpoint)
                on_epoch(standing.rows[-1])
                failpoint("after-epoch")
                if (epoch := len(standing.rows)) in standing.pictures:
                    on_pictures(epoch, standing.pictures[epoch])
        except Stopped:
            return outcome_of(lesson, standing, Status.PAUSED), standing.model
        except Diverged as error:
            return outcome_of(lesson, standing, Status.DIVERGED, str(error)), standing.model
        standing.model.load_state_dict(standing.best_weights)
        standing.model.eval()
        return outcome_of(lesson, standing, Status.COMPLETED), standing.model


def beginning(lesson: Lesson) -> Standing:
    """An untrained network with its optimizers; what is drawn comes from the global generators."""
    model = lesson.build().to(memory_format=torch.channels_last)
    for part in lesson.fresh(model):
        initialise(part, lesson.config.init)
    model.to(lesson.compute.device)
    optimizers = {
        phase.name: make_optimizer(
            phase.parameters(model), lesson.config, phase.rate_factors(model)
        )
        for phase in lesson.phases
        if isinstance(phase, Phase)
    }
    shuffle = torch.Generator().manual_seed(derive(lesson.seed, "shuffle"))
    return Standing(model=model, optimizers=optimizers, shuffle=shuffle)


def _settled(lesson: Lesson, standing: Standing) -> Lesson:
    """The lesson in the precision that its phases can be trained in."""
    compute = lesson.compute
    if compute.is_bf16:
        batch = lesson.train.spread(PROBED)
        compute = settled(compute, standing.model, lesson.phases, batch)
    return lesson if compute == lesson.compute else replace(lesson, compute=compute)


def is_finished(lesson: Lesson, standing: Standing) -> bool:
    """Whether all epochs are done, or the last phase has had no success for long enough."""
    done, patience = len(standing.rows), lesson.config.patience
    if done >= lesson.num_epochs:
        return True
    if lesson.config.stopping == "rises":
        return _rises_in_a_row(standing.rows[lesson.last_phase_begins :]) >= patience
    return done - max(standing.best_epoch, lesson.last_phase_begins) >= patience


def _rises_in_a_row(rows: list[Epoch]) -> int:
    """How many times in a row the validation loss has just risen (Prechelt 1998, UP)."""
    count = 0
    for before, after in zip(rows[-2::-1], rows[:0:-1], strict=True):
        if not after.valid_loss > before.valid_loss:
            break
        count += 1
    return count


def _epoch(
    lesson: Lesson, standing: Standing, should_stop: Callable[[], bool], clock: Clock
) -> None:
    """One epoch: gradient steps, fits, score, and the row that says how it went."""
    began = time.perf_counter()
    epoch = len(standing.rows) + 1
    steps = gradient_steps(lesson, standing, epoch, should_stop, clock)
    _fit(lesson, standing, "epoch")
    with clock.part("evaluate"):
        metrics = _scored(lesson, standing)
    for name, value in metrics.items():
        if not math.isfinite(value):
            place = origin_of_score(standing.model, lambda: _scored(lesson, standing))
            raise Diverged(divergence(f"validation {name}", epoch, place))
    if is_best(lesson.objective, standing, metrics):
        standing.keep_best(epoch, metrics[lesson.objective.metric])
    standing.rows.append(
        Epoch(
            epoch=epoch,
            seconds=time.perf_counter() - began,
            finished=datetime.now(UTC).isoformat(),
            train_loss=steps.loss,
            valid_loss=metrics.get("loss", math.nan),
            learning_rate=steps.learning_rate,
            grad_norm=steps.grad_norm,
            metrics={name: value for name, value in metrics.items() if name != "loss"},
            measured=steps.measured,
            parts={f"seconds_{part}": seconds for part, seconds in clock.taken().items()},
            precision=lesson.compute.precision,
        )
    )
    if is_due(epoch, lesson.num_epochs):
        take_pictures(lesson, standing)


def _fit(lesson: Lesson, standing: Standing, at: Literal["start", "epoch"]) -> None:
    """Fit the parts that are due, in eval mode and without gradients.

    Raises Diverged for weights that are not finite now, whether by a fit or by the epoch's steps.
    """
    due = [phase for phase in lesson.phases if isinstance(phase, Fit) and phase.at == at]
    standing.model.eval()
    with torch.no_grad():
        for phase in due:
            phase.function(standing.model, lesson.train)
    place = bad_weight(standing.model) if due or at == "epoch" else None
    if place is not None:
        raise Diverged(divergence("a weight", len(standing.rows) + 1, place))


def is_best(objective: Objective, standing: Standing, metrics: dict[str, float]) -> bool:
    """Whether an epoch beats the best so far."""
    rows, best = standing.rows, standing.best_epoch
    return objective.is_better_epoch(
        metrics[objective.metric],
        metrics.get("loss", math.nan),
        than=standing.best_value,
        than_loss=rows[best - 1].valid_loss if best else math.nan,
    )


def _scored(lesson: Lesson, standing: Standing) -> dict[str, float]:
    """Metrics on the valid split, and those that are means over the last epochs."""
    with _looking_on(lesson, standing.model):
        metrics = lesson.score(standing.model, lesson.valid)
    for name, (source, epochs) in lesson.averaged.items():
        first = max(0, len(standing.rows) + 1 - epochs)
        values = [*(row.metrics[source] for row in standing.rows[first:]), metrics[source]]
        metrics[name] = math.fsum(values) / len(values)
    return metrics


def take_pictures(lesson: Lesson, standing: Standing) -> None:
    """Keep the pictures of the network as it is now, if its family has any."""
    with _looking_on(lesson, standing.model):
        pictures = taken(lesson.pictures, standing.model, lesson.valid.spread(SHOWN))
    if pictures:
        standing.pictures[len(standing.rows)] = pictures


@contextmanager
def _looking_on(lesson: Lesson, model: nn.Module) -> Iterator[None]:
    """In eval mode, without gradients; whatever is drawn leaves no trace."""
    model.eval()
    with torch.inference_mode(), torch.random.fork_rng(devices=lesson.compute.seeded_devices):
        lesson.compute.seed(derive(lesson.seed, "score"))
        yield


def outcome_of(lesson: Lesson, standing: Standing, status: Status, reason: str = "") -> Outcome:
    """How a training ended, with the numbers of its best epoch."""
    best = standing.rows[standing.best_epoch - 1] if standing.best_epoch else None
    metrics = {} if best is None else dict(best.metrics)
    if best is not None and not math.isnan(best.valid_loss):
        metrics["loss"] = best.valid_loss
    if status is Status.COMPLETED and len(standing.rows) < lesson.num_epochs:
        patience = lesson.config.patience
        reason = f"no better {lesson.objective.metric} in {patience} epochs"
        if lesson.config.stopping == "rises":
            reason = f"the validation loss rose {patience} epochs in a row"
    return Outcome(
        status=status,
        reason=reason,
        epochs=len(standing.rows),
        best_epoch=standing.best_epoch,
        parameters=sum(p.numel() for p in standing.model.parameters()),
        metrics={f"valid_{name}": value for name, value in metrics.items()},
    )
