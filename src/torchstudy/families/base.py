"""What a family is: hyperparameters, a network, the phases that train it, and how it is scored."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal, TypeAlias, TypeVar, dataclass_transform

from torch import Tensor, nn

from torchstudy.conditions import condition_problems
from torchstudy.data.spec import DataSpec, Task
from torchstudy.declaring import domains_of, hyperparameters
from torchstudy.domains import Choice, Domain, Float, Int
from torchstudy.errors import SpaceError, StudyError
from torchstudy.families.phases import Fit, FrozenEncoder, Loss, Phase
from torchstudy.narrowing import changed
from torchstudy.training.augmentation import Augmentation
from torchstudy.training.batches import Batch, Preprocessing
from torchstudy.training.losses import prediction_loss
from torchstudy.training.metrics import (
    CLASSIFICATION_METRICS,
    REGRESSION_METRICS,
    in_target_unit,
    prediction_metrics,
    two_sided,
)
from torchstudy.training.optim import TrainingConfig
from torchstudy.values import Value

Goal: TypeAlias = Literal["prediction", "reconstruction", "restoration", "generation"]


class Family(ABC):
    """A kind of model. Subclass it, decorate with `family`, and declare hyperparameters as fields.

    Only `build` must be given; what is left out is that of a network that predicts a class or a
    number.
    """

    metrics: ClassVar[tuple[str, ...]] = (*CLASSIFICATION_METRICS, *REGRESSION_METRICS[:-1])
    """Everything `score` may report; what it does report depends on the task (`reports`)."""

    goal: ClassVar[Goal] = "prediction"
    """What the network is for. Losses of different goals measure different things."""

    tasks: ClassVar[tuple[Task, ...]] = ("classification", "regression")
    """The tasks of data sets that the family can be used on."""

    needs_images: ClassVar[bool] = True
    """Whether it is of no use for a table without images."""

    trains: ClassVar[bool] = True
    """Whether it takes gradient steps; training hyperparameters exist only where it does."""

    training_when: ClassVar[Mapping[str, Value]] = {}
    """The condition (`{field: value}`) under which training hyperparameters exist at all."""

    training_space: ClassVar[Mapping[str, object]] = {}
    """What the family changes of the shared hyperparameters, written as in a study's `space`."""

    averaged: ClassVar[Mapping[str, tuple[str, int]]] = {}
    """Metrics that are means over epochs: `{name: (metric that score reports, last n epochs)}`."""

    @classmethod
    def adopted(cls, name: str, change: object) -> object:
        """What a study's entry for hyperparameter `name` stands for; by default itself.

        A family that takes things without a name (a function) gives them one here.
        """
        return change

    @classmethod
    def reports(cls, task: Task) -> tuple[str, ...]:
        """The metrics that `score` gives for data with this task, and those averaged from them."""
        own = CLASSIFICATION_METRICS if task == "classification" else REGRESSION_METRICS
        other = {*CLASSIFICATION_METRICS, *REGRESSION_METRICS}.difference(own)
        return tuple(name for name in cls.metrics if name not in other)

    @abstractmethod
    def build(self, data: DataSpec) -> nn.Module:
        """The untrained network: preprocessed inputs -> outputs of shape (batch, num_outputs).

        Inputs are images of `data.shape`, or vectors of `data.num_features` with an `encoder`.
        Outputs are logits, one for two classes, or standardised values (batch, 1). A network for
        two classes may also give two logits.
        """

    def problems(self, data: DataSpec) -> Sequence[str]:
        """Why this configuration cannot work on these data, one sentence each; none if it can."""
        return ()

    def uses_images(self, data: DataSpec) -> bool:
        """Whether the network looks at the images of these data, if they have any."""
        return data.has_images

    def preprocessing(self, data: DataSpec) -> Preprocessing:
        """What is done to pixels first; by default the training split's mean and spread."""
        return Preprocessing(mean=data.mean, std=data.std)

    def encoder(self, data: DataSpec) -> FrozenEncoder | None:
        """The frozen network whose features `build`'s network takes instead of images, if any."""
        return None

    def phases(self, data: DataSpec, training: TrainingConfig) -> tuple[Phase | Fit, ...]:
        """What happens in an epoch; by default steps on the loss that the task asks for."""
        return (Phase(name="train", loss=self.prediction_loss(data, training)),)

    def prediction_loss(self, data: DataSpec, training: TrainingConfig) -> Loss:
        """The loss of predictions as `training` has it, of (model, batch)."""
        measure = prediction_loss(data, training)

        def loss(model: nn.Module, batch: Batch) -> Tensor:
            return measure(self.outputs(model, batch), batch)

        return loss

    def fresh(self, model: nn.Module) -> Sequence[nn.Module]:
        """The parts whose weights `TrainingConfig.init` sets: those that are not pretrained."""
        return (model,)

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """What the network answers to a batch; by default to its `inputs`."""
        outputs: Tensor = model(batch.inputs)
        return outputs

    def deployed(self, data: DataSpec) -> nn.Module:
        """The whole network from images on, without weights: what saved weights fit into."""
        return self.build(data)

    def score(self, model: nn.Module, data: DataSpec, batches: Iterable[Batch]) -> dict[str, float]:
        """The metrics for a model in eval mode and the batches of one split."""
        return prediction_metrics(data, lambda batch: self.outputs(model, batch), batches)

    def predict(self, model: nn.Module, data: DataSpec, batch: Batch) -> Tensor | None:
        """Class probabilities (batch, num_classes) or values (batch,) in the target's own unit.

        None for a family that predicts nothing.
        """
        outputs = self.outputs(model, batch)
        if data.task == "regression":
            return in_target_unit(data, outputs)
        return two_sided(outputs.float()).softmax(dim=1)

    def pictures(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Images in [0, 1] (items, channels, height, width) to watch over the epochs, by caption.

        Called in eval mode with a few validation items, the same ones every time.
        """
        return {}

    def codes(self, model: nn.Module, batch: Batch) -> Tensor | None:
        """What the network makes of each item as a few numbers (batch, code), if that is its point.

        They become a table, and a map where there are two.
        """
        return None


FamilyClass = TypeVar("FamilyClass", bound=Family)


@dataclass_transform(
    kw_only_default=True, frozen_default=True, field_specifiers=(Float, Int, Choice)
)
def family(cls: type[FamilyClass]) -> type[FamilyClass]:
    """Turn a Family subclass into a frozen dataclass of hyperparameters; returns the same class.

    Raises StudyError for a class that is no Family, for a hyperparameter that all families share
    already (`learning_rate`) and for a condition that cannot be.
    """
    if not (isinstance(cls, type) and issubclass(cls, Family)):
        raise StudyError(f"{cls!r} must be a subclass of Family to be decorated with @family")
    declared = hyperparameters(cls)
    own = domains_of(declared).keys()
    for owner, shared in (("training", TrainingConfig), ("augmentation", Augmentation)):
        if taken := sorted(own & domains_of(shared).keys()):
            names = ", ".join(f"{cls.__name__}.{name}" for name in taken)
            raise StudyError(
                f"{names}: that name belongs to the {owner} hyperparameters; rename it"
            )
    domains = domains_with_training(declared)
    problems = [
        f"{cls.__name__}.{problem}"
        for name, domain in domains.items()
        for problem in condition_problems(name, domain, domains)
    ]
    if problems:
        raise SpaceError(problems)
    return declared


def is_declared(candidate: object) -> bool:
    """Whether `candidate` is a Family subclass that was decorated with `family`."""
    return (
        isinstance(candidate, type)
        and issubclass(candidate, Family)
        and "__dataclass_fields__" in candidate.__dict__
    )


def domains_with_training(cls: type[Family]) -> dict[str, Domain]:
    """All hyperparameters of a family: its own, then those of training and of augmentation."""
    if not cls.trains:
        return domains_of(cls)
    shared = domains_of(TrainingConfig)
    for name, change in cls.training_space.items():
        found = changed(shared[name], change)
        if isinstance(found, str):
            raise SpaceError(f"{cls.__name__}.training_space: {name} {found}")
        shared[name] = found[0]
    shared = {name: domain for name, domain in shared.items() if _can_exist(domain, shared)}
    shared |= domains_of(Augmentation)
    condition = tuple(cls.training_when.items())
    if condition:
        shared = {
            name: domain if domain.when else replace(domain, when=condition)
            for name, domain in shared.items()
        }
    return {**domains_of(cls), **shared}


def _can_exist(domain: Domain, others: Mapping[str, Domain]) -> bool:
    """Whether the parents of a condition may still take the values that it asks for."""
    return all(others[parent].problem(value) is None for parent, value in domain.when)
