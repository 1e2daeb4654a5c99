"""One epoch of a group: every member's steps, its score, and the row that says how it went."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import torch

from torchstudy.families.phases import Phase
from torchstudy.records import Epoch
from torchstudy.training.batches import Batch
from torchstudy.training.lesson import Stopped
from torchstudy.training.origin import bad_weight, divergence, origin_of_score, origin_of_step
from torchstudy.training.together.group import Group, Member, Step, part_of
from torchstudy.training.trainer import is_best

Reasons = dict[int, str]  # why a member has diverged, by its number


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trained:
    """What the steps of an epoch left of each member."""

    losses: list[float]
    norms: list[float]
    rates: list[float]
    measured: list[dict[str, float]]


def one_epoch(group: Group, diverged: Reasons, should_stop: Callable[[], bool]) -> list[Member]:
    """An epoch of every member; returns those that have a new row.

    The others are named in `diverged`, with the reason. Raises Stopped between two batches.
    """
    began = time.perf_counter()
    trained = _steps(group, diverged, should_stop)
    group.give_back_weights()
    with group.clock.part("evaluate"), torch.inference_mode():
        scores = group.scores(group.members[0].lesson.valid)
    for member, metrics in zip(group.members, scores, strict=True):
        if member.number not in diverged and (reason := _why_bad(member, metrics)):
            diverged[member.number] = reason
    share = 1 / len(group.members)
    seconds = (time.perf_counter() - began) * share
    parts = {f"seconds_{part}": all_of * share for part, all_of in group.clock.taken().items()}
    finished = []
    for place, (member, metrics) in enumerate(zip(group.members, scores, strict=True)):
        if member.number not in diverged:
            _keep(member, metrics, _row(member, place, metrics, trained, seconds, parts))
            finished.append(member)
    return finished


def _steps(group: Group, diverged: Reasons, should_stop: Callable[[], bool]) -> _Trained:
    lesson = group.members[0].lesson
    per_epoch = lesson.train.num_batches(lesson.config.batch_size)
    group.begin()
    steps: list[Step] = []
    check = partial(_check_finite, group, diverged)
    for number, batch in enumerate(_batches(group, per_epoch)):
        if should_stop():
            raise Stopped
        is_last = number == per_epoch - 1
        watch = group.watch(len(batch)) if is_last else None
        steps.append(group.step(batch, per_epoch, watch, check))
    losses = torch.stack([step.losses for step in steps])
    first = losses[0].tolist()
    assert watch is not None
    health = [{f"health_{k}": value for k, value in each.items()} for each in watch.measures()]
    return _Trained(
        losses=losses.mean(dim=0).tolist(),
        norms=torch.stack([step.norms for step in steps]).mean(dim=0).tolist(),
        rates=group.rates(),
        measured=[each | {"health_first_loss": first[k]} for k, each in enumerate(health)],
    )


def _batches(group: Group, per_epoch: int) -> Iterator[Batch]:
    """Batches of all members, each with its items in the order that it has alone."""
    train = group.members[0].lesson.train
    orders = torch.stack(
        [torch.randperm(len(train), generator=each.standing.shuffle) for each in group.members]
    )
    for places in orders.tensor_split(per_epoch, dim=1):
        with group.clock.part("load"):
            (batch,) = train.take(places.flatten()).in_order(places.numel())
        yield batch


def _check_finite(group: Group, diverged: Reasons, step: Step, batch: Batch) -> None:
    """Name the members whose loss or gradient is not finite; the others are not concerned."""
    if math.isfinite((step.losses.sum() + step.norms.sum()).item()):
        return
    found = enumerate(zip(group.members, step.losses.tolist(), step.norms.tolist(), strict=True))
    bad = [
        (place, member, "gradient norm" if math.isfinite(loss) else "training loss")
        for place, (member, loss, norm) in found
        if member.number not in diverged and not (math.isfinite(loss) and math.isfinite(norm))
    ]
    if bad:
        group.give_back_weights()
    for place, member, what in bad:
        own = part_of(batch, place, len(group.members))
        diverged[member.number] = divergence(
            what,
            member.epoch,
            _origin_of_step(member, own),
            is_untrained=not member.standing.steps,
        )


def _origin_of_step(member: Member, batch: Batch) -> str | None:
    """Where a member's step began to be not finite, taken again with other draws."""
    model = member.standing.model.train()
    (phase,) = (phase for phase in member.lesson.phases if isinstance(phase, Phase))
    return origin_of_step(model, lambda: phase.loss(model, batch)) or bad_weight(model)


def _why_bad(member: Member, metrics: dict[str, float]) -> str:
    """What is not finite after the epoch, of the weights or the metrics; "" where all is."""
    lesson, model = member.lesson, member.standing.model.eval()
    if (place := bad_weight(model)) is not None:
        return divergence("a weight", member.epoch, place)
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    if not bad:
        return ""
    with torch.inference_mode():
        place = origin_of_score(model, lambda: lesson.score(model, lesson.valid))
    return divergence(f"validation {bad[0]}", member.epoch, place)


def _row(
    member: Member,
    place: int,
    metrics: dict[str, float],
    trained: _Trained,
    seconds: float,
    parts: dict[str, float],
) -> Epoch:
    return Epoch(
        epoch=member.epoch,
        seconds=seconds,
        finished=datetime.now(UTC).isoformat(),
        train_loss=trained.losses[place],
        valid_loss=metrics.get("loss", math.nan),
        learning_rate=trained.rates[place],
        grad_norm=trained.norms[place],
        metrics={name: value for name, value in metrics.items() if name != "loss"},
        measured=trained.measured[place],
        parts=parts,
        precision=member.lesson.compute.precision,
    )


def _keep(member: Member, metrics: dict[str, float], row: Epoch) -> None:
    objective, standing = member.lesson.objective, member.standing
    if is_best(objective, standing, metrics):
        standing.keep_best(row.epoch, metrics[objective.metric])
    standing.rows.append(row)
