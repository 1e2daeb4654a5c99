"""Which trainings may go together, and when that is quicker than one after the other."""

import math
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from torchstudy.data.spec import DataSpec
from torchstudy.families.base import Family
from torchstudy.families.phases import Phase
from torchstudy.records import COSTS
from torchstudy.seeds import derive
from torchstudy.training.batches import Batch
from torchstudy.training.clock import Clock
from torchstudy.training.lesson import Lesson
from torchstudy.training.together.group import Group, Member, Outputs, begun, joined
from torchstudy.training.together.stacking import signature, unknown_layers

# Of one member's forward pass on a batch; above either, less is saved than lost, as what all
# members need at once leaves the cache: benchmarks/vectorised.json
MOST_VALUES = 2e5  # that linear and convolutional layers give
MOST_WORK = 7e7  # floating-point operations in matrix products
TRIED = 32  # items of each member on which the stacked network must give what the member gives
CLOSE = 1e-3  # largest difference then, relative: single precision summed in another order


def together_key(family: Family, data: DataSpec, lesson: Lesson) -> Hashable | None:
    """What lessons that may be trained together have in common; None for one that trains alone.

    Alone: whatever is not steps on the plain prediction loss, augments, is scored in another way,
    has layers that cannot be stacked, or so much to do in a step that nothing would be saved. That
    is counted, not timed, so that the same study is always trained in the same way.
    """
    if not (_is_plain(type(family)) and _is_simple(lesson)):
        return None
    with torch.random.fork_rng(devices=[]):
        network = lesson.build()
    is_trained = all(parameter.requires_grad for parameter in network.parameters())
    is_stackable = is_trained and not unknown_layers(network)
    if not is_stackable:
        return None
    values, work = step_size(family, network, lesson)
    if values > MOST_VALUES or work > MOST_WORK:
        return None
    config = lesson.config
    return (
        type(family),
        signature(network),
        (config.optimizer, config.batch_size, config.class_weights, config.regression_loss),
        (len(lesson.train), len(lesson.valid), lesson.train.preprocessing),
    )


def step_size(family: Family, network: nn.Module, lesson: Lesson) -> tuple[float, float]:
    """What a step is to one member: values that its layers give, and operations to get them.

    Both of the forward pass on a batch: outputs of linear and convolutional layers, and
    floating-point operations in matrix products.
    """
    values = 0

    def count(layer: nn.Module, inputs: object, output: Tensor) -> None:
        nonlocal values
        values += output.numel()

    layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        family.outputs(network.eval(), lesson.train.spread(1))
    for hook in hooks:
        hook.remove()
    items = min(lesson.config.batch_size, len(lesson.train))
    return float(values * items), float(counter.get_total_flops() * items)


def agrees(lessons: Sequence[Lesson], data: DataSpec, outputs: Outputs) -> bool:
    """Whether the stacked network has the losses and scores of its members, tried on a few items.

    It does not where a module mixes the items of a batch or does something to its weights that
    stacked ones do not bear, or where a loss or score is other than the plain one. The lessons
    must have one key.
    """
    with torch.random.fork_rng(devices=[]):
        members = [begun(number, lesson) for number, lesson in enumerate(lessons)]
        batches = [_few_items(lesson, number) for number, lesson in enumerate(lessons)]
        try:
            group = Group(members, data, outputs, Clock())
            group.begin()
            with torch.no_grad():
                found = group.losses(joined(batches)).tolist()
                scores = group.scores(lessons[0].valid)
        except Exception:  # a family's code may raise anything when its weights are stacked
            return False
        return all(
            _is_as_alone(*each) for each in zip(members, batches, found, scores, strict=True)
        )


def _is_plain(family: type[Family]) -> bool:
    """Whether the family trains and scores as `Family` does, in its one phase."""
    names = ("phases", "prediction_loss", "score")
    is_own = any(getattr(family, name) is not getattr(Family, name) for name in names)
    return family.trains and not family.averaged and not is_own


def _is_simple(lesson: Lesson) -> bool:
    """Whether nothing is asked for that only `train` does."""
    return (
        all(isinstance(phase, Phase) for phase in lesson.phases)
        and len(lesson.phases) == 1
        and lesson.train.augment is None
        and lesson.objective.metric not in COSTS
        and lesson.compute.device == "cpu"
        and not lesson.compute.is_bf16
    )


def _few_items(lesson: Lesson, number: int) -> Batch:
    """Other training items for each member, so that mixing them would show."""
    count = min(TRIED, len(lesson.train))
    places = (torch.arange(count) + number * count) % len(lesson.train)
    (batch,) = lesson.train.take(places).in_order(count)
    return batch


def _is_as_alone(member: Member, batch: Batch, loss: float, metrics: dict[str, float]) -> bool:
    """Whether a member's own network has this loss on the batch, and then these metrics."""
    lesson, model = member.lesson, member.standing.model
    (phase,) = (phase for phase in lesson.phases if isinstance(phase, Phase))
    torch.default_generator.manual_seed(derive(lesson.seed, "train"))
    with torch.no_grad():
        own = float(phase.loss(model.train(), batch))
        scores = lesson.score(model.eval(), lesson.valid)
    return (
        math.isclose(own, loss, rel_tol=CLOSE)
        and scores.keys() == metrics.keys()
        and all(
            abs(metrics[k] - value) <= CLOSE * max(1, abs(value)) for k, value in scores.items()
        )
    )
