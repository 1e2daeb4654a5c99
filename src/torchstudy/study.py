"""A study: a question about images, declared once, with everything checked at once."""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torchstudy import checking
from torchstudy.checking import changes_for, full_name, metrics_of
from torchstudy.data.images import Images
from torchstudy.data.spec import DataSpec
from torchstudy.errors import StudyError, did_you_mean
from torchstudy.families.base import Family, domains_with_training
from torchstudy.fitting import config_problems, instantiate, misfits
from torchstudy.records import COSTS, METHODS, Bound, Objective
from torchstudy.repeats import repeat_name
from torchstudy.seeds import derive
from torchstudy.space import Config, SearchSpace
from torchstudy.training.compute import DEVICES, PRECISIONS

if TYPE_CHECKING:
    from ax.core.experiment import Experiment


@dataclass(frozen=True, kw_only=True)
class Study:
    """Which of these families, tuned how, is best for these images?

    Attributes:
        data: a name (`digits`, `fashion-mnist`), a folder or archive of images, a function, or
            `Images(...)` with sizes and splits.
        families: the kinds of models to compare.
        maximize, minimize: the metric that decides, one of the two; or several, as lists. Of
            several the search looks for configurations that no other beats in all of them; the
            first that is learned (no cost of the network) decides between epochs and is confirmed.
            What a network costs are the names of `limits`; `latency` stands for latency_p50.
        space: hyperparameters to narrow (`Float`, `Int`, `Choice`, Ax configs) or to fix (a value),
            by name for all families that have it, or as `"CNN.width"` for one.
        trials: configurations per family and repeat, in all.
        epochs: the full length of a training; schedules are defined over it.
        minutes: training time per family and repeat, in all, after which nothing new starts; None:
            no limit. What would probably not get to its first rung in that time does not start
            either. If no trial has come to its end by then, the most promising one is trained to
            it.
        limits: the most that a network may cost, `{"parameters": 200_000}`; costs are parameters,
            flops and memory (bytes) for one item, latency_p50 (latency, for short) and latency_p95
            (milliseconds).
            Configurations above a limit are not trained. A limit on a learned metric,
            `{"mae": 0.1}`, is a bound as in `at_least`.
        at_least: learned metrics that the result has to reach on the valid split, `{"accuracy":
            0.95}`: the search prefers configurations that probably do, and what reaches all bounds
            comes before what does not, whatever the objective.
        confirm: (configurations per family, fresh seeds each) trained anew after the search, or
            None.
        precision: "auto" multiplies in bfloat16 where the processor is quicker with it and the
            network is large enough to gain; "fp32" never does.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "mps".
        method: how configurations are searched. "auto" trains many for a few epochs and the
            promising ones longer, and proposes by a model of their learning curves; "ax" (Ax's own
            default), "sobol", "random" and a GenerationStrategy of Ax train every trial to its end.
        worthwhile: stop trying new configurations of a family once those that the budget still
            allows would probably gain less than this, on the objective's scale; None: never. Needs
            one objective and the method "auto".
        good: configurations known to be good, which are tried first; what one leaves out has its
            default. Names are those of `space`.
        repeats: how often the whole search is done, on the same data and splits, each time with
            seeds of its own and with nothing known of the others. A search is random: that a
            family is better, rather than what one search found of it, shows over several.
        seed: where every random number of the study comes from.
        name: what tables and folders call it; a study file's own name if left out.

    Raises StudyError with every problem of the declaration.
    """

    data: Any
    families: Sequence[type[Family]]
    maximize: str | Sequence[str] | None = None
    minimize: str | Sequence[str] | None = None
    space: Mapping[str, object] = field(default_factory=dict)
    trials: int = 20
    epochs: int = 27
    minutes: float | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    at_least: Mapping[str, float] = field(default_factory=dict)
    confirm: tuple[int, int] | None = (3, 3)
    precision: str = "auto"
    device: str = "auto"
    method: Any = METHODS[0]
    worthwhile: float | None = None
    good: Sequence[Mapping[str, object]] = ()
    repeats: int = 1
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
        """The metric that decides, and its direction; of several the first."""
        return self.objectives[0]

    @property
    def objectives(self) -> list[Objective]:
        """Every objective: first those that are learned, then what the network costs."""
        given = [
            *(Objective(metric=m, direction="maximize") for m in metrics_of(self.maximize)),
            *(Objective(metric=m, direction="minimize") for m in metrics_of(self.minimize)),
        ]
        return sorted(given, key=lambda objective: objective.metric in COSTS)

    @property
    def bounds(self) -> list[Bound]:
        """What learned metrics have to reach, or not to exceed."""
        most = {name: value for name, value in self._limits.items() if name not in COSTS}
        return [
            *(Bound(metric=m, direction="maximize", value=v) for m, v in self.at_least.items()),
            *(Bound(metric=m, direction="minimize", value=v) for m, v in most.items()),
        ]

    @property
    def cost_limits(self) -> dict[str, float]:
        """The most that a network may cost."""
        return {name: value for name, value in self._limits.items() if name in COSTS}

    @property
    def method_name(self) -> str:
        """The method of search, or the name of the strategy that stands for one."""
        return self.method if isinstance(self.method, str) else f"strategy {self.method.name}"

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

    def good_for(self, family: type[Family]) -> list[Config]:
        """The configurations in `good` that concern a family, its recipe left out."""
        space, found = self.space_of(family), list[Config]()
        for given in self.good:
            own: dict[str, Any] = changes_for(family, given)
            if own and (config := space.completed(own)) not in (space.recipe, *found):
                found.append(config)
        return found

    def repeat(self, number: int) -> "Study":
        """The study that stands for this one's search of that number; the first is itself."""
        if number == 1:
            return self
        found = copy(self)  # unchecked: no user may give such a name
        seed = derive(self.seed, "repeat", number)
        vars(found).update(name=repeat_name(self.name, number), seed=seed)
        return found

    def check(self, data: DataSpec) -> None:
        """Raise StudyError with every configuration bound or choice that cannot work on `data`."""
        problems = []
        for family in self.families:
            judged = [each.metric for each in self.objectives]
            judged += [bound.metric for bound in self.bounds]
            found = [problem for metric in judged for problem in misfits(family, metric, data)]
            if not found:
                for config in self.space_of(family).corners():
                    found += config_problems(instantiate(family, config), data)
            problems += [f"{family.__name__}: {problem}" for problem in found]
        if problems:
            raise StudyError(list(dict.fromkeys(problems)))

    def ax_experiment(self, family: type[Family]) -> "Experiment":
        """The family's space and objective as a real `ax.core.Experiment`, without trials."""
        client = self.space_of(family).ax_client(
            f"{self.name}/{family.__name__}", self.objectives, self.bounds, seed=self.seed
        )
        return client._experiment

    def describe(self) -> dict[str, object]:
        """What makes results comparable, as JSON values: a run goes on only if this is unchanged.

        Trials, minutes, confirmation and repeats are budgets: they may change.
        """
        return {
            "data": self.images.describe(),
            "objective": self._describe_objectives(),
            "epochs": self.epochs,
            "seed": self.seed,
            **({"limits": self._limits} if self.limits else {}),
            **({"at_least": dict(self.at_least)} if self.at_least else {}),
            **({"precision": self.precision} if self.precision != PRECISIONS[0] else {}),
            **({"method": self.method_name} if self.method_name != METHODS[0] else {}),
            "families": {
                family.__name__: self.space_of(family).describe() for family in self.families
            },
        }

    @property
    def _limits(self) -> dict[str, float]:
        """The limits, of metrics and costs by their full names."""
        return {full_name(name): value for name, value in self.limits.items()}

    def _describe_objectives(self) -> dict[str, object]:
        if len(self.objectives) == 1:
            return {self.objective.direction: self.objective.metric}
        found: dict[str, list[str]] = {}
        for objective in self.objectives:
            found.setdefault(objective.direction, []).append(objective.metric)
        return dict(found)

    def _narrowed(self, family: type[Family]) -> tuple[SearchSpace, tuple[str, ...]]:
        if family not in self._spaces:
            space = SearchSpace(domains_with_training(family))
            self._spaces[family] = space.narrowed(changes_for(family, self.space))
        return self._spaces[family]

    @cached_property
    def _spaces(self) -> dict[type[Family], tuple[SearchSpace, tuple[str, ...]]]:
        """The spaces asked for so far: narrowing takes 2 ms, and a run asks at every epoch."""
        return {}


def _problems(study: Study) -> Iterator[str]:
    families = list(checking.declared_families(study.families))
    counts = {name: getattr(study, name) for name in ("trials", "epochs", "repeats", "seed")}
    names = [*metrics_of(study.maximize), *metrics_of(study.minimize)]
    yield from checking.data_problems(study.data)
    yield from checking.family_problems(study.families)
    yield from checking.objective_problems(study.maximize, study.minimize, families)
    yield from checking.budget_problems(counts, study.minutes, study.confirm)
    yield from checking.gain_problems(study.worthwhile, len(names), study.at_least, study.method)
    yield from checking.name_problems(study.name)
    yield from checking.limit_problems(study.limits, families)
    yield from checking.bound_problems(study.limits, study.at_least, names, families)
    yield from checking.choice_problems("precision", study.precision, PRECISIONS)
    yield from checking.choice_problems("device", study.device, DEVICES, {"gpu": "cuda"})
    yield from checking.method_problems(study.method, METHODS)
    yield from checking.space_problems(study.space, families)
    if isinstance(study.space, Mapping):
        yield from checking.good_problems(study.good, study.space, families)
