"""Several trainings at once: what `trainer.train` does, for a group of alike lessons."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from torchstudy.data.spec import DataSpec
from torchstudy.failpoints import failpoint
from torchstudy.records import Epoch, Outcome, Status
from torchstudy.training.checkpoint import save
from torchstudy.training.clock import Clock
from torchstudy.training.gallery import is_due
from torchstudy.training.lesson import Lesson, Stopped
from torchstudy.training.together.epoch import Reasons, one_epoch
from torchstudy.training.together.group import Group, Member, Outputs, begun
from torchstudy.training.trainer import is_finished, outcome_of, take_pictures

MOST_ITEMS = 1024  # of all members in a step; more leave the cache: benchmarks/vectorised.json


def train_together(
    lessons: Sequence[Lesson],
    *,
    data: DataSpec,
    outputs: Outputs,
    checkpoints: Sequence[Path | None] = (),
    on_epoch: Callable[[int, Epoch], None] = lambda number, row: None,
    on_pictures: Callable[[int, int, dict[str, Tensor]], None] = lambda number, epoch, images: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[tuple[Outcome, nn.Module]]:
    """The same as `train` of each lesson, with the networks stacked; in single precision.

    The lessons must be alike (`grouping.together_key`, `grouping.agrees`). `outputs(model, batch)`
    is what the network answers, `data` says what is predicted; `checkpoints` has a path for each
    lesson. Where there are more than fit into the cache, some wait until others have ended.
    `on_epoch` and `on_pictures` get the lesson's place first. Each member has the draws, order of
    items, rates and end that it has alone, and a checkpoint that `train` can go on from; numbers
    differ by the order in which single precision is summed: by about 1e-6, relative, and by more
    where Adam makes steps of rounding noise (a bias before batch normalisation). Seconds of a row
    are the group's, divided by its members.
    """
    paths = checkpoints or [None] * len(lessons)
    with torch.random.fork_rng(devices=[]):
        members = [begun(*each) for each in zip(range(len(lessons)), lessons, paths, strict=True)]
        for member in members:
            if not member.standing.rows:
                take_pictures(member.lesson, member.standing)
            for row in member.standing.rows:
                on_epoch(member.number, row)
            for epoch, pictures in member.standing.pictures.items():
                on_pictures(member.number, epoch, pictures)

        def report(member: Member) -> None:
            row = member.standing.rows[-1]
            on_epoch(member.number, row)
            if row.epoch in member.standing.pictures:
                on_pictures(member.number, row.epoch, member.standing.pictures[row.epoch])

        diverged: Reasons = {}
        clock = Clock()
        try:
            while going := [each for each in members if _goes_on(each, diverged)]:
                group = Group(going[: at_once(lessons[0])], data, outputs, clock)
                _until_one_ends(group, diverged, report, should_stop)
        except Stopped:
            return [_paused(member, diverged) for member in members]
        return [_ended(member, diverged) for member in members]


def at_once(lesson: Lesson) -> int:
    """How many trainings like this one are stacked at a time."""
    return max(1, MOST_ITEMS // lesson.config.batch_size)


def _goes_on(member: Member, diverged: Reasons) -> bool:
    return member.number not in diverged and not is_finished(member.lesson, member.standing)


def _ended(member: Member, diverged: Reasons) -> tuple[Outcome, nn.Module]:
    lesson, standing = member.lesson, member.standing
    if member.number in diverged:
        reason = diverged[member.number]
        return outcome_of(lesson, standing, Status.DIVERGED, reason), standing.model
    standing.model.load_state_dict(standing.best_weights)
    return outcome_of(lesson, standing, Status.COMPLETED), standing.model.eval()


def _paused(member: Member, diverged: Reasons) -> tuple[Outcome, nn.Module]:
    if not _goes_on(member, diverged):
        return _ended(member, diverged)
    return outcome_of(member.lesson, member.standing, Status.PAUSED), member.standing.model


def _until_one_ends(
    group: Group,
    diverged: Reasons,
    report: Callable[[Member], None],
    should_stop: Callable[[], bool],
) -> None:
    """Epochs of a whole group; afterwards its members are as if each had trained alone."""
    has_checkpoints = any(member.checkpoint for member in group.members)
    is_whole = True
    while is_whole:
        finished = one_epoch(group, diverged, should_stop)
        is_whole = all(_goes_on(member, diverged) for member in group.members)
        if has_checkpoints or not is_whole:
            group.give_back_optimizers()
        for member in finished:
            if is_due(len(member.standing.rows), member.lesson.num_epochs):
                take_pictures(member.lesson, member.standing)
            if member.checkpoint is not None:
                with group.clock.part("checkpoint"):
                    torch.set_rng_state(member.draws.get_state())  # `save` keeps the global one
                    save(member.standing, member.checkpoint)
            report(member)
            failpoint("after-epoch")
