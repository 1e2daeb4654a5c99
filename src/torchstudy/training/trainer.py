"""The one training loop: every family, every phase, one epoch after another."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor, nn

from torchstudy.families.base import Fit, Phase
from torchstudy.records import Epoch, Objective, Outcome, Status
from torchstudy.seeds import derive
from torchstudy.training.batches import Batch, Split
from torchstudy.training.checkpoint import Standing, restore, save
from torchstudy.training.health import divergence
from torchstudy.training.optim import (
    TrainingConfig,
    learning_rate_at,
    make_optimizer,
    set_learning_rate,
)

CHECK_EVERY = 32  # batches between two looks at whether the loss is still finite


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What is to be trained: a network, its phases, the data, and how success is measured.

    `build` makes the untrained model; `score(model, split)` gives the metrics of one split.
    """

    build: Callable[[], nn.Module]
    phases: Sequence[Phase | Fit]
    config: TrainingConfig
    train: Split
    valid: Split
    score: Callable[[nn.Module, Split], dict[str, float]]
    objective: Objective
    epochs: int
    seed: int

    @property
    def num_epochs(self) -> int:
        """How many epochs a full training has: one where nothing takes gradient steps."""
        return self.epochs if any(isinstance(phase, Phase) for phase in self.phases) else 1


class Stopped(Exception):
    """Raised inside an epoch when the training is asked to stop; the epoch is not kept."""


class Diverged(Exception):
    """Raised when a loss, gradient or metric is not finite; carries the reason."""


def train(
    lesson: Lesson,
    *,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Epoch], None] = lambda row: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[Outcome, nn.Module]:
    """Train to the end, from the checkpoint if there is one; return the best epoch's model.

    `on_epoch` gets one row per finished epoch, the rows of earlier legs first. The outcome is
    `completed`, `diverged`, or `paused` when `should_stop` turned true between two batches. Torch's
    global random state is put back afterwards. Same lesson, same machine: the same numbers.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(lesson.seed, "init"))
        standing = _beginning(lesson)
        torch.manual_seed(derive(lesson.seed, "train"))
        if checkpoint is not None:
            restore(standing, checkpoint)
        for row in standing.rows:
            on_epoch(row)
        try:
            while not _is_finished(lesson, standing):
                _epoch(lesson, standing, should_stop)
                if checkpoint is not None:
                    save(standing, checkpoint)
                on_epoch(standing.rows[-1])
        except Stopped:
            return _outcome(lesson, standing, Status.PAUSED), standing.model
        except Diverged as error:
            return _outcome(lesson, standing, Status.DIVERGED, str(error)), standing.model
        standing.model.load_state_dict(standing.best_weights)
        standing.model.eval()
        return _outcome(lesson, standing, Status.COMPLETED), standing.model


def _beginning(lesson: Lesson) -> Standing:
    model = lesson.build().to(memory_format=torch.channels_last)
    optimizers = {
        phase.name: make_optimizer(phase.parameters(model), lesson.config)
        for phase in lesson.phases
        if isinstance(phase, Phase)
    }
    shuffle = torch.Generator().manual_seed(derive(lesson.seed, "shuffle"))
    return Standing(model=model, optimizers=optimizers, shuffle=shuffle)


def _is_finished(lesson: Lesson, standing: Standing) -> bool:
    done = len(standing.rows)
    return done >= lesson.num_epochs or done - standing.best_epoch >= lesson.config.patience


def _epoch(lesson: Lesson, standing: Standing, should_stop: Callable[[], bool]) -> None:
    """One epoch: gradient steps, fits, score, and the row that says how it went."""
    began = time.perf_counter()
    epoch = len(standing.rows) + 1
    train_loss, grad_norm, rate = _gradient_steps(lesson, standing, epoch, should_stop)
    with torch.no_grad():
        standing.model.eval()
        for phase in lesson.phases:
            if isinstance(phase, Fit):
                phase.function(standing.model, lesson.train)
    metrics = _scored(lesson, standing.model)
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise Diverged(divergence(standing.model, f"validation {name}", epoch))
    if _is_best(lesson.objective, standing, metrics):
        standing.keep_best(epoch, metrics[lesson.objective.metric])
    standing.rows.append(
        Epoch(
            epoch=epoch,
            seconds=time.perf_counter() - began,
            finished=datetime.now(UTC).isoformat(),
            train_loss=train_loss,
            valid_loss=metrics["loss"],
            learning_rate=rate,
            grad_norm=grad_norm,
            metrics={name: value for name, value in metrics.items() if name != "loss"},
        )
    )


def _is_best(objective: Objective, standing: Standing, metrics: dict[str, float]) -> bool:
    """Whether an epoch beats the best so far; the lower loss decides between equals.

    Accuracy on few images takes few values, and the first epoch to reach one is rarely the best.
    """
    value = metrics[objective.metric]
    if value == standing.best_value:
        return metrics["loss"] < standing.rows[standing.best_epoch - 1].valid_loss
    return objective.is_better(value, standing.best_value)


def _gradient_steps(
    lesson: Lesson, standing: Standing, epoch: int, should_stop: Callable[[], bool]
) -> tuple[float, float, float]:
    """Every batch once for each active phase: mean loss, mean gradient norm, last learning rate."""
    active = _active_phases(lesson, epoch)
    if not active:
        return math.nan, math.nan, math.nan
    standing.model.train()
    losses: list[Tensor] = []
    norms: list[Tensor] = []
    rate = math.nan
    for batch in lesson.train.shuffled(lesson.config.batch_size, standing.shuffle):
        if should_stop():
            raise Stopped
        for phase in active:
            rate = _set_rate(lesson, standing, phase)
            loss, norm = _step(lesson, standing, phase, batch)
            losses.append(loss)
            norms.append(norm)
        if len(losses) % CHECK_EVERY < len(active):
            _check_finite(standing.model, losses, norms, epoch)
    _check_finite(standing.model, losses, norms, epoch)
    return float(torch.stack(losses).mean()), float(torch.stack(norms).mean()), rate


def _step(lesson: Lesson, standing: Standing, phase: Phase, batch: Batch) -> tuple[Tensor, Tensor]:
    """One optimizer step: the loss, and the norm of the whole gradient before clipping."""
    optimizer = standing.optimizers[phase.name]
    loss = phase.loss(standing.model, batch)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own annotation is missing
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    limit = lesson.config.gradient_clipping or math.inf
    norm = nn.utils.clip_grad_norm_(parameters, limit)
    optimizer.step()
    standing.steps[phase.name] = standing.steps.get(phase.name, 0) + 1
    return loss.detach(), norm.detach()


def _set_rate(lesson: Lesson, standing: Standing, phase: Phase) -> float:
    first, last = _epochs_of(phase, lesson.num_epochs)
    num_steps = (last - first) * lesson.train.num_batches(lesson.config.batch_size)
    rate = learning_rate_at(lesson.config, standing.steps.get(phase.name, 0), num_steps)
    set_learning_rate(standing.optimizers[phase.name], rate)
    return rate


def _active_phases(lesson: Lesson, epoch: int) -> list[Phase]:
    active = []
    for phase in lesson.phases:
        if isinstance(phase, Phase):
            first, last = _epochs_of(phase, lesson.num_epochs)
            if first < epoch <= last:
                active.append(phase)
    return active


def _epochs_of(phase: Phase, num_epochs: int) -> tuple[int, int]:
    """The phase runs in the epochs after the first number, up to the second."""
    begin, end = phase.span
    return round(begin * num_epochs), round(end * num_epochs)


def _scored(lesson: Lesson, model: nn.Module) -> dict[str, float]:
    """Metrics on the valid split, in eval mode; whatever scoring draws leaves no trace."""
    model.eval()
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(lesson.seed, "score"))
        return lesson.score(model, lesson.valid)


def _check_finite(model: nn.Module, losses: list[Tensor], norms: list[Tensor], epoch: int) -> None:
    if not math.isfinite(float(losses[-1])):
        raise Diverged(divergence(model, "training loss", epoch))
    if not math.isfinite(float(norms[-1])):
        raise Diverged(divergence(model, "gradient norm", epoch))


def _outcome(lesson: Lesson, standing: Standing, status: Status, reason: str = "") -> Outcome:
    best = standing.rows[standing.best_epoch - 1] if standing.best_epoch else None
    metrics = {} if best is None else {**best.metrics, "loss": best.valid_loss}
    if status is Status.COMPLETED and len(standing.rows) < lesson.num_epochs:
        reason = f"no better {lesson.objective.metric} in {lesson.config.patience} epochs"
    return Outcome(
        status=status,
        reason=reason,
        epochs=len(standing.rows),
        best_epoch=standing.best_epoch,
        parameters=sum(p.numel() for p in standing.model.parameters() if p.requires_grad),
        metrics={f"valid_{name}": value for name, value in metrics.items()},
    )
