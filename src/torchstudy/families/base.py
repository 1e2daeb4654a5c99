"""What a family is: hyperparameters, a network, the phases that train it, and how it is scored."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar, dataclass_transform

from torch import Tensor, nn

from torchstudy.conditions import condition_problems
from torchstudy.data.spec import DataSpec
from torchstudy.declaring import domains_of, hyperparameters
from torchstudy.domains import Choice, Domain, Float, Int
from torchstudy.errors import SpaceError, StudyError
from torchstudy.training.batches import Batch, Preprocessing, Split
from torchstudy.training.metrics import classification_metrics
from torchstudy.training.optim import TrainingConfig
from torchstudy.values import Value

Loss = Callable[[nn.Module, Batch], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Gradient steps on one loss, over some of the network's parameters.

    `loss(model, batch)` is a scalar, the mean over the batch. `span` is the part of the epochs in
    which the phase runs: phases with the same span alternate batch by batch, phases with spans
    one after the other follow each other. The learning-rate schedule covers the span.
    """

    name: str
    loss: Loss
    parameters: Callable[[nn.Module], Iterable[nn.Parameter]] = nn.Module.parameters
    span: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A part of the network fitted in closed form or by a solver, after the epoch's steps.

    `function(model, train)` writes its result into the model's tensors. A family with nothing but
    fits trains for one epoch.
    """

    name: str
    function: Callable[[nn.Module, Split], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenEncoder:
    """A network that never learns: its output is computed once per image and kept.

    `key` names the network and its weights; `build` makes it, mapping preprocessed images to
    features of shape (batch, features).
    """

    key: str
    build: Callable[[], nn.Module]
    preprocessing: Preprocessing


class Family(ABC):
    """A kind of model. Subclass it, decorate with `family`, and declare hyperparameters as fields.

    Only `build` must be given; what is left out is that of an image classifier.
    """

    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "loss")
    """What `score` reports, `loss` among it."""

    training_when: ClassVar[Mapping[str, Value]] = {}
    """The condition (`{field: value}`) under which training hyperparameters exist at all."""

    @classmethod
    def adopted(cls, name: str, change: object) -> object:
        """What a study's entry for hyperparameter `name` stands for; by default itself.

        A family that takes things without a name (a function) gives them one here.
        """
        return change

    @abstractmethod
    def build(self, data: DataSpec) -> nn.Module:
        """The untrained network: preprocessed inputs -> logits of shape (batch, num_classes).

        Inputs are images of `data.shape`, or vectors of `data.num_features` with an `encoder`.
        """

    def problems(self, data: DataSpec) -> Sequence[str]:
        """Why this configuration cannot work on these data, one sentence each; none if it can."""
        return ()

    def preprocessing(self, data: DataSpec) -> Preprocessing:
        """What is done to pixels first; by default the training split's mean and spread."""
        return Preprocessing(mean=data.mean, std=data.std)

    def encoder(self, data: DataSpec) -> FrozenEncoder | None:
        """The frozen network whose features `build`'s network takes instead of images, if any."""
        return None

    def phases(self, data: DataSpec, training: TrainingConfig) -> tuple[Phase | Fit, ...]:
        """What happens in an epoch; by default steps on the cross-entropy of the logits."""
        return (Phase(name="train", loss=cross_entropy(training.label_smoothing)),)

    def deployed(self, data: DataSpec) -> nn.Module:
        """The whole network from images to logits, without weights: what saved weights fit into."""
        return self.build(data)

    def score(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """Every metric in `metrics`, for a model in eval mode and the batches of one split."""
        return classification_metrics(model, batches)

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Class probabilities of shape (batch, num_classes)."""
        probabilities: Tensor = model(inputs).float().softmax(dim=1)
        return probabilities


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
    shared = sorted(domains_of(declared).keys() & domains_of(TrainingConfig).keys())
    if shared:
        names = ", ".join(f"{cls.__name__}.{name}" for name in shared)
        raise StudyError(f"{names}: that name belongs to the training hyperparameters; rename it")
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
    """All hyperparameters of a family: its own, then those of training."""
    own, shared = domains_of(cls), domains_of(TrainingConfig)
    condition = tuple(cls.training_when.items())
    if condition:
        shared = {
            name: domain if domain.when else replace(domain, when=condition)
            for name, domain in shared.items()
        }
    return {**own, **shared}


def cross_entropy(label_smoothing: float = 0.0) -> Loss:
    """The loss of a classifier: mean cross-entropy in nats, in single precision."""

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        logits = model(batch.inputs).float()
        if logits.ndim != 2 or len(logits) != len(batch.targets):
            expected = f"({len(batch.targets)}, classes)"
            raise ValueError(f"the network returns {tuple(logits.shape)}, expected {expected}")
        return nn.functional.cross_entropy(logits, batch.targets, label_smoothing=label_smoothing)

    return loss
