"""What a configuration stands for, and whether families, objective and data go together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torchstudy.data.spec import DataSpec
from torchstudy.declaring import domains_of
from torchstudy.errors import SpaceError, did_you_mean
from torchstudy.families.base import Family
from torchstudy.records import COSTS
from torchstudy.training.augmentation import Augmentation
from torchstudy.training.optim import TrainingConfig
from torchstudy.values import Value

TASKS = ("classification", "regression")
GOALS = {
    "prediction": "an error of predictions",
    "reconstruction": "a reconstruction error",
    "restoration": "an error of restored images",
    "generation": "a distance between generated and real images",
}


class Configured(NamedTuple):
    """What a configuration stands for."""

    family: Family
    training: TrainingConfig
    augmentation: Augmentation


def instantiate(family: type[Family], config: Mapping[str, Value]) -> Configured:
    """The family, training and augmentation that a configuration stands for.

    Raises SpaceError with everything that a class refuses.
    """
    parts: list[Any] = []
    problems: list[str] = []
    for cls in (family, TrainingConfig, Augmentation):
        make: Callable[..., Any] = cls
        try:
            parts.append(make(**{name: config[name] for name in domains_of(cls) if name in config}))
        except SpaceError as error:
            problems += error.problems
    if problems:
        raise SpaceError(problems)
    return Configured(*parts)


def incomparable(families: Sequence[type[Family]], metric: str) -> Iterator[str]:
    """Why the families cannot be ranked by `metric`, one sentence each; without looking at data."""
    if metric in COSTS:
        return
    for family in families:
        if metric not in family.metrics:
            yield (
                f"objective: {family.__name__} does not report {metric!r}"
                f"{did_you_mean(metric, family.metrics)}; it reports {', '.join(family.metrics)}"
                f"{_why_not(family, families, metric)}"
            )
    goals: dict[str, list[str]] = {}
    for family in families:
        goals.setdefault(family.goal, []).append(family.__name__)
    if metric == "loss" and len(goals) > 1:
        meanings = ", ".join(f"{GOALS[goal]} for {' and '.join(goals[goal])}" for goal in goals)
        yield (
            f"objective: loss does not compare between these families: it is {meanings}; compare "
            "families with one goal, in a study of their own"
        )


def misfits(family: type[Family], metric: str, data: DataSpec) -> Iterator[str]:
    """Why no configuration of `family` can be tuned for `metric` on these data."""
    if family.needs_images and not data.has_images:
        yield "needs images, but the data have none; MLP takes a table alone"
    if family.goal == "prediction" and data.task not in family.tasks:
        yield f"is for {' and '.join(family.tasks)}, but {data.target!r} is a {_kind(data)}"
    elif metric not in COSTS and metric not in (reported := family.reports(data.task)):
        yield (
            f"does not report {metric!r} where {data.target!r} is a {_kind(data)}; it reports "
            f"{', '.join(reported)}"
        )


def config_problems(configured: Configured, data: DataSpec) -> Iterator[str]:
    """Why one configuration cannot work on these data."""
    family, _, augmentation = configured
    found = family.problems(data)
    yield from found
    if augmentation.is_on and not found:
        if not family.uses_images(data):
            yield "augmentation changes images, but it looks at none of these data"
        elif family.encoder(data) is not None:
            yield (
                "augmentation has no effect on the features of a frozen network, which are "
                "computed once; open it for the other families only (as in 'CNN.crop')"
            )


def _kind(data: DataSpec) -> str:
    return "class" if data.task == "classification" else "number"


def _why_not(family: type[Family], families: Sequence[type[Family]], metric: str) -> str:
    """What the metric is for, where other families of the study have it."""
    others = [other.__name__ for other in families if metric in other.metrics]
    if not others or all(other.goal == family.goal for other in families):
        return ""
    return (
        f". {family.__name__} is for {family.goal}: it cannot be ranked with {', '.join(others)}; "
        "give it a study of its own"
    )
