"""A study: a question about images, declared once, with everything checked at once."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torchstudy.data.images import Images
from torchstudy.data.spec import DataSpec
from torchstudy.declaring import domains_of
from torchstudy.errors import SpaceError, StudyError, did_you_mean
from torchstudy.families.base import Family, domains_with_training, is_declared
from torchstudy.fitting import config_problems, incomparable, instantiate, misfits
from torchstudy.records import COSTS, Objective
from torchstudy.space import SearchSpace
from torchstudy.training.compute import DEVICES, PRECISIONS
from torchstudy.values import is_integer, is_number

LONGEST_NAME = 100  # letters of a family's name

if TYPE_CHECKING:
    from ax.core.experiment import Experiment


@dataclass(frozen=True, kw_only=True)
class Study:
    """Which of these families, tuned how, is best for these images?

    Attributes:
        data: a name (`digits`, `fashion-mnist`), a folder or archive of images, a function, or
            `Images(...)` with sizes and splits.
        families: the kinds of models to compare.
        maximize, minimize: the metric that decides; exactly one of the two.
        space: hyperparameters to narrow (`Float`, `Int`, `Choice`, Ax configs) or to fix (a value),
            by name for all families that have it, or as `"CNN.width"` for one.
        trials: configurations per family, in all.
        epochs: the full length of a training; schedules are defined over it.
        minutes: training time per family, in all, after which nothing new starts; None: no limit.
        limits: the most that a network may cost, `{"parameters": 200_000}`; costs are parameters,
            flops and memory (bytes) for one item, latency_p50 and latency_p95 (milliseconds).
            Configurations above a limit are not trained.
        confirm: (configurations per family, fresh seeds each) trained anew after the search, or
            None.
        precision: "auto" multiplies in bfloat16 where the processor is quicker with it and the
            network is large enough to gain; "fp32" never does.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "mps".
        seed: where every random number of the study comes from.
        name: what tables and folders call it; a study file's own name if left out.

    Raises StudyError with every problem of the declaration.
    """

    data: Any
    families: Sequence[type[Family]]
    maximize: str | None = None
    minimize: str | None = None
    space: Mapping[str, object] = field(default_factory=dict)
    trials: int = 20
    epochs: int = 27
    minutes: float | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    confirm: tuple[int, int] | None = (3, 3)
    precision: str = "auto"
    device: str = "auto"
    seed: int = 0
    name: str = "study"

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise StudyError(list(dict.fromkeys(problems)))

    @property
    def images(self) -> Images:
        """The data, as declared."""
        return Images.of(self.data)

    @property
    def objective(self) -> Objective:
        """The metric that decides, and its direction."""
        if self.maximize is not None:
            return Objective(metric=self.maximize, direction="maximize")
        assert self.minimize is not None
        return Objective(metric=self.minimize, direction="minimize")

    def family(self, name: str) -> type[Family]:
        """The family called `name`; raises StudyError if the study has none of that name."""
        names = [cls.__name__ for cls in self.families]
        if name not in names:
            known = f"; it has {', '.join(names)}"
            hint = did_you_mean(name, names)
            raise StudyError(f"study {self.name!r} has no family {name!r}{hint}{known}")
        return self.families[names.index(name)]

    def space_of(self, family: type[Family]) -> SearchSpace:
        """What may vary for a family: its own and the training hyperparameters, narrowed."""
        return self._narrowed(family)[0]

    def notes_on(self, family: type[Family]) -> tuple[str, ...]:
        """What narrowing did to the family's recipe, one sentence each."""
        return self._narrowed(family)[1]

    def check(self, data: DataSpec) -> None:
        """Raise StudyError with every configuration bound or choice that cannot work on `data`."""
        problems = []
        for family in self.families:
            found = list(misfits(family, self.objective.metric, data))
            if not found:
                for config in self.space_of(family).corners():
                    found += config_problems(instantiate(family, config), data)
            problems += [f"{family.__name__}: {problem}" for problem in found]
        if problems:
            raise StudyError(list(dict.fromkeys(problems)))

    def ax_experiment(self, family: type[Family]) -> "Experiment":
        """The family's space and objective as a real `ax.core.Experiment`, without trials."""
        client = self.space_of(family).ax_client(
            f"{self.name}/{family.__name__}", self.objective, seed=self.seed
        )
        return client._experiment

    def describe(self) -> dict[str, object]:
        """What makes results comparable, as JSON values: a run goes on only if this is unchanged.

        Trials, minutes and confirmation are budgets: they may change.
        """
        return {
            "data": self.images.describe(),
            "objective": {self.objective.direction: self.objective.metric},
            "epochs": self.epochs,
            "seed": self.seed,
            **({"limits": dict(self.limits)} if self.limits else {}),
            **({"precision": self.precision} if self.precision != PRECISIONS[0] else {}),
            "families": {
                family.__name__: self.space_of(family).describe() for family in self.families
            },
        }

    def _narrowed(self, family: type[Family]) -> tuple[SearchSpace, tuple[str, ...]]:
        if family not in self._spaces:
            space = SearchSpace(domains_with_training(family))
            self._spaces[family] = space.narrowed(changes_for(family, self.space))
        return self._spaces[family]

    @cached_property
    def _spaces(self) -> dict[type[Family], tuple[SearchSpace, tuple[str, ...]]]:
        """The spaces asked for so far: narrowing takes 2 ms, and a run asks at every epoch."""
        return {}


def changes_for(family: type[Family], space: Mapping[str, object]) -> dict[str, object]:
    """The entries of a study's `space` that concern one family, by plain name.

    An entry for this family alone (`"CNN.width"`) goes before one for all.
    """
    known = domains_with_training(family)
    own = f"{family.__name__}."
    changes = {name: change for name, change in space.items() if name in known}
    changes |= {
        str(name).removeprefix(own): change
        for name, change in space.items()
        if str(name).startswith(own)
    }
    return {name: family.adopted(name, change) for name, change in changes.items()}


def _problems(study: Study) -> Iterator[str]:
    yield from _data_problems(study.data)
    families = list(_declared_families(study.families))
    yield from _family_problems(study.families)
    yield from _objective_problems(study, families)
    yield from _budget_problems(study)
    yield from _limit_problems(study.limits)
    yield from _choice_problems("precision", study.precision, PRECISIONS)
    yield from _choice_problems("device", study.device, DEVICES)
    yield from _space_problems(study, families)


def _data_problems(data: object) -> Iterator[str]:
    try:
        yield from Images.of(data).problems()
    except StudyError as error:
        yield from error.problems


def _declared_families(families: object) -> Iterator[type[Family]]:
    if isinstance(families, Sequence):
        yield from (family for family in families if _is_complete(family))


def _is_complete(family: object) -> bool:
    return is_declared(family) and not inspect.isabstract(family)


def _family_problems(families: object) -> Iterator[str]:
    if not isinstance(families, Sequence) or isinstance(families, str) or not families:
        yield f"families: give a list of one or more, such as [CNN, Transfer]; got {families!r}"
        return
    names = [getattr(family, "__name__", repr(family)) for family in families]
    for name, family in zip(names, families, strict=True):
        if not is_declared(family):
            yield f"families: {name} is not a Family class decorated with @family"
        elif not name.isidentifier() or len(name) > LONGEST_NAME:  # it names files
            yield (
                f"families: {name!r} cannot name a family; use letters, digits and '_', "
                f"up to {LONGEST_NAME}"
            )
        elif inspect.isabstract(family):
            missing = ", ".join(sorted(family.__abstractmethods__))
            yield f"families: {name} does not define {missing}"
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"families: {name} is listed twice"


def _objective_problems(study: Study, families: Sequence[type[Family]]) -> Iterator[str]:
    given = [name for name in (study.maximize, study.minimize) if name is not None]
    if len(given) != 1:
        yield 'objective: give one of maximize= and minimize=, such as maximize="accuracy"'
        return
    yield from incomparable(families, given[0])


def _budget_problems(study: Study) -> Iterator[str]:
    for name, least in (("trials", 1), ("epochs", 1), ("seed", 0)):
        value = getattr(study, name)
        if not is_integer(value) or value < least:
            yield f"{name}: must be a whole number of at least {least}; got {value!r}"
    if study.minutes is not None and not (is_number(study.minutes) and study.minutes > 0):
        yield f"minutes: must be a number above 0 or None; got {study.minutes!r}"
    if study.confirm is not None and not _is_pair_of_counts(study.confirm):
        yield "confirm: must be (configurations, seeds), both at least 1, or None; got " + repr(
            study.confirm
        )
    if not isinstance(study.name, str) or not _is_file_name(study.name):
        yield f"name: {study.name!r} cannot name a folder; use letters, digits, '-', '_' and '.'"


def _is_pair_of_counts(value: object) -> bool:
    if not isinstance(value, tuple | list) or len(value) != 2:
        return False
    return all(is_integer(count) and count >= 1 for count in value)


def _limit_problems(limits: object) -> Iterator[str]:
    if not isinstance(limits, Mapping):
        example = '{"parameters": 200_000}'
        yield f"limits: a mapping of costs to their most, such as {example}; got {limits!r}"
        return
    for name, value in limits.items():
        if name not in COSTS:
            hint = did_you_mean(str(name), COSTS)
            yield f"limits: {name!r} is no cost{hint}; there are {', '.join(COSTS)}"
        elif not is_number(value) or not 0 < value < float("inf"):
            yield f"limits: {name} must be a number above 0; got {value!r}"


def _choice_problems(name: str, value: object, known: Sequence[str]) -> Iterator[str]:
    if value not in known:
        hint = did_you_mean(str(value), known)
        yield f"{name}: {value!r} is not one of {', '.join(known)}{hint}"


def _is_file_name(name: str) -> bool:
    allowed = all(letter.isalnum() or letter in "-_." for letter in name)
    return allowed and name != "" and name[0] != "."


def _space_problems(study: Study, families: Sequence[type[Family]]) -> Iterator[str]:
    if not isinstance(study.space, Mapping):
        yield f"space: must be a mapping of names to ranges or values; got {study.space!r}"
        return
    yield from _unknown_names(study.space, families)
    for family in families:
        yield from (_placed(problem, family) for problem in _misfits(family, study.space))


def _misfits(family: type[Family], space: Mapping[str, object]) -> Iterator[str]:
    whole = SearchSpace(domains_with_training(family))
    fitting = {}
    for name, change in changes_for(family, space).items():
        try:
            whole.narrowed({name: change})
            fitting[name] = change
        except SpaceError as error:
            yield from error.problems if name in whole.domains else ()
    try:
        narrowed, _ = whole.narrowed(fitting)
    except SpaceError as error:
        yield from error.problems
    else:
        yield from _refusals(family, narrowed)


def _refusals(family: type[Family], space: SearchSpace) -> Iterator[str]:
    for config in space.corners():
        try:
            instantiate(family, config)
        except SpaceError as error:
            yield from error.problems


def _placed(problem: str, family: type[Family]) -> str:
    name = problem.split(" ")[0]
    is_own = name in domains_of(family)
    return f"space.{family.__name__}.{problem}" if is_own else f"space.{problem}"


def _unknown_names(space: Mapping[str, object], families: Sequence[type[Family]]) -> Iterator[str]:
    by_family = {family.__name__: set(domains_with_training(family)) for family in families}
    everything = sorted(set().union(*by_family.values())) if by_family else []
    for name in space:
        if not isinstance(name, str):
            yield f"space: names are text, such as 'learning_rate' or 'CNN.width'; got {name!r}"
            continue
        family, dot, own = name.partition(".")
        if not dot:
            if families and name not in everything:
                hint = did_you_mean(name, everything)
                yield f"space.{name} is not a hyperparameter of {', '.join(by_family)}{hint}"
        elif family not in by_family:
            hint = did_you_mean(family, by_family)
            yield f"space.{name}: the study has no family {family!r}{hint}"
        elif own not in by_family[family]:
            hint = did_you_mean(own, by_family[family])
            yield f"space.{name}: {own!r} is not a hyperparameter of {family}{hint}"
