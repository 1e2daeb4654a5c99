"""The members that train at the moment as one network: a step of all, and the answers of all."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from torchstudy.data.spec import DataSpec
from torchstudy.seeds import derive
from torchstudy.training.batches import SCORING_BATCH, Batch, Split
from torchstudy.training.checkpoint import Standing, restore
from torchstudy.training.clock import Clock
from torchstudy.training.lesson import Lesson
from torchstudy.training.metrics import prediction_metrics
from torchstudy.training.optim import learning_rate_at, set_learning_rate
from torchstudy.training.together.layers import by_member
from torchstudy.training.together.losses import member_losses
from torchstudy.training.together.stacking import give_back, stacked
from torchstudy.training.together.updates import StackedOptimizer, clip, gradient_norms, whole_norms
from torchstudy.training.together.watching import Watch
from torchstudy.training.trainer import beginning

SCORED = 2048  # items of all members together in one pass where nothing is learned

Outputs = Callable[[nn.Module, Batch], Tensor]


@dataclass(slots=True, kw_only=True)
class Member:
    """One of the trainings of a group; `draws` stands for torch's global generator in `train`."""

    number: int
    lesson: Lesson
    standing: Standing
    draws: torch.Generator
    checkpoint: Path | None = None

    @property
    def phase(self) -> str:
        """The name of its only phase."""
        return self.lesson.phases[0].name

    @property
    def epoch(self) -> int:
        """The number of the epoch that it is in."""
        return len(self.standing.rows) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step of all members left: loss and gradient norm before clipping (members,)."""

    losses: Tensor
    norms: Tensor


def begun(number: int, lesson: Lesson, checkpoint: Path | None = None) -> Member:
    """A member as `train` begins it, from its checkpoint if there is one.

    Leaves torch's global generator in another state. (`torch.manual_seed` would keep a traceback
    for GPUs each time.)
    """
    torch.default_generator.manual_seed(derive(lesson.seed, "init"))
    standing = beginning(lesson)
    torch.default_generator.manual_seed(derive(lesson.seed, "train"))
    if checkpoint is not None:
        restore(standing, checkpoint)
    draws = torch.Generator()
    draws.set_state(torch.get_rng_state())
    return Member(
        number=number, lesson=lesson, standing=standing, draws=draws, checkpoint=checkpoint
    )


class Group:
    """A stacked network with its optimizers; the members' own are as they were until given back."""

    def __init__(
        self, members: Sequence[Member], data: DataSpec, outputs: Outputs, clock: Clock
    ) -> None:
        self.members, self.clock = members, clock
        self._data, self._outputs = data, outputs
        models = [member.standing.model for member in members]
        self._configs = [member.lesson.config for member in members]
        self._optimizers = [each.standing.optimizers[each.phase] for each in members]
        self._network = stacked(models, [member.draws for member in members])
        self._weights = dict(self._network.named_parameters())
        self._optimizer = StackedOptimizer(self._weights, models, self._optimizers)
        self._losses = member_losses(data, self._configs)

    def begin(self) -> None:
        """Go into training mode."""
        self._network.train()

    def watch(self, num_items: int) -> Watch:
        """What watches a step over so many items of all members."""
        return Watch(self._network, len(self.members), num_items)

    def losses(self, batch: Batch) -> Tensor:
        """The loss of every member on its own items (members,)."""
        return self._losses(self._outputs(self._network, batch), batch)

    def step(
        self,
        batch: Batch,
        per_epoch: int,
        watch: Watch | None = None,
        check: Callable[[Step, Batch], None] = lambda step, batch: None,
    ) -> Step:
        """One step of every member on its own items; `per_epoch` of them are an epoch.

        `check` is given what the step has found before any weight moves.
        """
        weights = list(self._weights.values())
        with self.clock.part("forward"):
            losses = self._forward(batch, watch)
        with self.clock.part("backward"):
            # No member's loss depends on another's weights: the gradient of the sum is each one's.
            found = torch.autograd.grad(losses.sum(), weights)
            gradients = [gradient.contiguous() for gradient in found]
        with self.clock.part("step"):
            each = gradient_norms(gradients)
            step = Step(losses=losses.detach(), norms=whole_norms(each))
            check(step, batch)
            clip(gradients, self._configs)
            self._set_rates(per_epoch)
            self._optimizer.step(gradients)
            if watch is not None:
                watch.after(dict(zip(weights, each, strict=True)))
        for member in self.members:
            steps = member.standing.steps
            steps[member.phase] = steps.get(member.phase, 0) + 1
        return step

    def rates(self) -> list[float]:
        """The learning rate of each member's last step."""
        return [optimizer.param_groups[0]["lr"] for optimizer in self._optimizers]

    def scores(self, split: Split) -> list[dict[str, float]]:
        """Each member's metrics on a split, in eval mode."""
        self._network.eval()
        num_members = len(self.members)
        parts = [
            by_member(self._outputs(self._network, joined([batch] * num_members)), num_members)
            for batch in split.in_order(max(1, SCORED // num_members))
        ]
        return [_metrics(self._data, answers, split.targets) for answers in torch.cat(parts, dim=1)]

    def give_back_weights(self) -> None:
        """Let each member's own network be as it has become."""
        give_back(self._network, [member.standing.model for member in self.members])

    def give_back_optimizers(self) -> None:
        """Let each member's own optimizer remember what has been learned."""
        self._optimizer.give_back()

    def _forward(self, batch: Batch, watch: Watch | None) -> Tensor:
        with watch or nullcontext():
            return self.losses(batch)

    def _set_rates(self, per_epoch: int) -> None:
        for member, optimizer in zip(self.members, self._optimizers, strict=True):
            taken = member.standing.steps.get(member.phase, 0)
            total = member.lesson.num_epochs * per_epoch
            set_learning_rate(optimizer, learning_rate_at(member.lesson.config, taken, total))


def _metrics(data: DataSpec, answers: Tensor, targets: Tensor) -> dict[str, float]:
    """The metrics of one member's answers (items, outputs), in batches as `score` has them."""
    parts = iter(torch.split(answers, SCORING_BATCH))
    nothing = targets.new_empty(0)
    batches = (Batch(nothing, chosen) for chosen in torch.split(targets, SCORING_BATCH))
    return prediction_metrics(data, lambda batch: next(parts), batches)


def joined(batches: Sequence[Batch]) -> Batch:
    """The items of several batches, one batch after the other."""
    first = batches[0]
    return Batch(
        torch.cat([batch.inputs for batch in batches]),
        torch.cat([batch.targets for batch in batches]),
        None if first.numbers is None else torch.cat([_there(b.numbers) for b in batches]),
        None if first.categories is None else torch.cat([_there(b.categories) for b in batches]),
    )


def part_of(batch: Batch, place: int, num_members: int) -> Batch:
    """The items of one of the batches that were `joined`, all of one length."""
    size = len(batch) // num_members
    own = slice(place * size, (place + 1) * size)
    return Batch(
        batch.inputs[own],
        batch.targets[own],
        None if batch.numbers is None else batch.numbers[own],
        None if batch.categories is None else batch.categories[own],
    )


def _there(values: Tensor | None) -> Tensor:
    assert values is not None
    return values
