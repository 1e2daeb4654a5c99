"""The gradient steps of one epoch: phases in turn, clipped, watched, and checked to be finite."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn, optim

from torchstudy.families.phases import Phase
from torchstudy.training.batches import Batch
from torchstudy.training.checkpoint import Standing
from torchstudy.training.clock import Clock
from torchstudy.training.health import Monitor
from torchstudy.training.lesson import Diverged, Lesson, Stopped
from torchstudy.training.optim import learning_rate_at, set_learning_rate
from torchstudy.training.origin import bad_weight, divergence, origin_of_step

CHECK_EVERY = 32  # batches between two looks at the loss where a look waits for a GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What an epoch's steps left: means over the steps, the last learning rate, what was measured.

    All NaN, and nothing measured, for an epoch without gradient steps.
    """

    loss: float = math.nan
    grad_norm: float = math.nan
    learning_rate: float = math.nan
    measured: dict[str, float]


def gradient_steps(
    lesson: Lesson,
    standing: Standing,
    epoch: int,
    should_stop: Callable[[], bool],
    clock: Clock,
) -> Steps:
    """Take every step of one epoch. Raises Stopped between two batches, Diverged for no number."""
    groups = lesson.active(epoch)
    if not groups:
        return Steps(measured={})
    standing.model.train()
    monitor = Monitor(standing.model)
    losses: dict[str, list[Tensor]] = {phase.name: [] for group in groups for phase in group}
    norms: list[Tensor] = []
    rate, on_gpu = math.nan, lesson.compute.device != "cpu"
    for group in groups:
        items = group[0].items(lesson.train)
        total = group[0].passes * items.num_batches(lesson.config.batch_size)
        for number, batch in enumerate(_batches(lesson, standing, group[0], clock)):
            is_last = number == total - 1
            if should_stop():
                raise Stopped
            for phase in group:
                rate = _set_rate(lesson, standing, phase, total)
                watch = _watched(monitor if is_last else None, standing.optimizers[phase.name])
                with watch:
                    loss, norm = _step(lesson, standing, phase, batch, clock)
                losses[phase.name].append(loss)
                norms.append(norm)
            if on_gpu and (is_last or number % CHECK_EVERY == CHECK_EVERY - 1):
                _check_past(standing.model, losses, norms, epoch)
    means = {name: float(torch.stack(each).mean()) for name, each in losses.items()}
    health = {f"health_{name}": value for name, value in monitor.measures().items()}
    health["health_first_loss"] = float(next(each for each in losses.values() if each)[0])
    by_phase = {f"train_loss_{name}": mean for name, mean in means.items()}
    is_alone = sum(isinstance(phase, Phase) for phase in lesson.phases) == 1
    return Steps(
        loss=float(torch.stack([loss for each in losses.values() for loss in each]).mean()),
        grad_norm=float(torch.stack(norms).mean()),
        learning_rate=rate,
        measured=health if is_alone else {**by_phase, **health},
    )


def _batches(lesson: Lesson, standing: Standing, phase: Phase, clock: Clock) -> Iterator[Batch]:
    """The batches of an epoch of one phase, which may go through its items several times."""
    items = phase.items(lesson.train)
    for _ in range(phase.passes):
        yield from items.shuffled(lesson.config.batch_size, standing.shuffle, clock)


def _step(
    lesson: Lesson, standing: Standing, phase: Phase, batch: Batch, clock: Clock
) -> tuple[Tensor, Tensor]:
    """One optimizer step: the loss, and the norm of the whole gradient before clipping.

    On a CPU, where it takes 2 us to look, weights are never moved by what is not finite.
    """
    optimizer, config = standing.optimizers[phase.name], lesson.config
    parameters = _parameters(optimizer)
    draws = torch.get_rng_state()
    with clock.part("forward"), lesson.compute.autocast():
        loss = phase.loss(standing.model, batch)
    with clock.part("backward"):
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own annotation is missing
    with clock.part("step"):
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if lesson.compute.device == "cpu":
            _check_step(lesson, standing, phase, batch, (loss.detach(), norm), draws)
        if config.value_clipping:
            nn.utils.clip_grad_value_(parameters, config.value_clipping)
        if config.gradient_clipping:
            nn.utils.clip_grad_norm_(parameters, config.gradient_clipping)
        optimizer.step()
    standing.steps[phase.name] = standing.steps.get(phase.name, 0) + 1
    return loss.detach(), norm.detach()


def _parameters(optimizer: optim.Optimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _watched(monitor: Monitor | None, optimizer: optim.Optimizer) -> AbstractContextManager[None]:
    return monitor.step(_parameters(optimizer)) if monitor else nullcontext()


def _set_rate(lesson: Lesson, standing: Standing, phase: Phase, per_epoch: int) -> float:
    """Let the next step use the rate that the schedule has for it; `per_epoch` steps an epoch."""
    begin, end = lesson.epochs_of(phase)
    taken = standing.steps.get(phase.name, 0)
    rate = learning_rate_at(lesson.config, taken, (end - begin) * per_epoch)
    set_learning_rate(standing.optimizers[phase.name], rate)
    return rate


def _check_step(
    lesson: Lesson,
    standing: Standing,
    phase: Phase,
    batch: Batch,
    found: tuple[Tensor, Tensor],
    draws: Tensor,
) -> None:
    """Raise Diverged for a loss or gradient norm that is not finite, with where that began.

    `draws` is the random state that the step began with, so that it can be taken again.
    """
    what = _what_is_bad(*found)
    if what is None:
        return
    torch.set_rng_state(draws)

    def again() -> Tensor:
        with lesson.compute.autocast():
            return phase.loss(standing.model, batch)

    place = origin_of_step(standing.model, again) or bad_weight(standing.model)
    is_untrained = not standing.steps
    raise Diverged(divergence(what, len(standing.rows) + 1, place, is_untrained=is_untrained))


def _check_past(
    model: nn.Module, losses: dict[str, list[Tensor]], norms: list[Tensor], epoch: int
) -> None:
    """The same of the latest steps; what began in one of them has gone through all layers since."""
    latest = [loss for each in losses.values() for loss in each[-CHECK_EVERY:]]
    what = _what_is_bad(torch.stack(latest).sum(), torch.stack(norms[-len(latest) :]).sum())
    if what is not None:
        raise Diverged(divergence(what, epoch, bad_weight(model)))


def _what_is_bad(loss: Tensor, norm: Tensor) -> str | None:
    if not math.isfinite(loss.item()):
        return "training loss"
    return None if math.isfinite(norm.item()) else "gradient norm"
