"""What may vary: named domains with conditions, the unit cube, and Ax parameter configs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from torchstudy.conditions import (
    ancestry,
    condition_problems,
    count_configs,
    is_active,
    parents_first,
    possible,
    simplified,
)
from torchstudy.domains import ChoiceDomain, Domain, FloatDomain, IntDomain, kind_of
from torchstudy.errors import SpaceError, did_you_mean
from torchstudy.narrowing import as_domain, changed, conditions_from_ax
from torchstudy.quiet import quiet_ax
from torchstudy.records import Bound, Objective
from torchstudy.values import Value, is_number

if TYPE_CHECKING:
    import numpy as np
    from ax.api.client import Client
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

Config: TypeAlias = dict[str, Value]
"""One configuration: hyperparameter name -> value, active hyperparameters only, in space order."""


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """The configurations a search may try.

    Made from a mapping of hyperparameter names to domains (`Float`, `Int`, `Choice`), native Ax
    parameter configs, or fixed values; configurations list their values in that order. Raises
    SpaceError with every problem.
    """

    domains: Mapping[str, Domain]
    declared: Mapping[str, Domain] = field(repr=False, compare=False)
    """The domains with every condition as written: `domains` leaves out those that always hold."""

    def __init__(self, domains: Mapping[str, object]) -> None:
        given = {name: as_domain(domain) for name, domain in domains.items()}
        problems = [f"{name} {domain}" for name, domain in given.items() if isinstance(domain, str)]
        known = {name: domain for name, domain in given.items() if isinstance(domain, Domain)}
        problems += _conditioned(known, domains)
        for name, domain in known.items():
            problems += [f"{name} {problem}" for problem in domain.problems()]
            problems += condition_problems(name, domain, known)
        if problems:
            raise SpaceError(problems)
        object.__setattr__(self, "declared", possible(known))
        object.__setattr__(self, "domains", simplified(self.declared))

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The hyperparameters that vary, in order: the axes of the unit cube."""
        return tuple(name for name, domain in self.domains.items() if domain.size > 1)

    @property
    def recipe(self) -> Config:
        """The configuration in which every hyperparameter has its default."""
        return self._active(self._defaults())

    @property
    def size(self) -> float:
        """How many different configurations there are; `inf` with a real range in it."""
        return count_configs(self.domains)

    def validate(self, config: Mapping[str, object]) -> Config:
        """The configuration in space order, integers made floats where floats belong.

        Raises SpaceError listing every unknown, missing, inactive or impossible value.
        """
        problems = [
            f"{name!r} is not a hyperparameter here{did_you_mean(name, self.domains)}"
            for name in config
            if name not in self.domains
        ]
        checked: Config = {}
        for name in parents_first(self.domains):
            domain = self.domains[name]
            if not is_active(domain, checked):
                if name in config:
                    parent, value = domain.when[0]
                    problems.append(f"{name} exists only when {parent}={value!r}")
            elif name not in config:
                problems.append(f"{name} is missing")
            elif problem := domain.problem(config[name]):
                problems.append(f"{name}: {problem}")
            else:
                given: Any = config[name]
                checked[name] = float(given) if kind_of(domain) == "float" else given
        if problems:
            raise SpaceError(problems)
        return self._ordered(checked)

    def sample(self, generator: "np.random.Generator") -> Config:
        """A configuration drawn uniformly, each hyperparameter on its own scale."""
        return self.from_unit([float(place) for place in generator.random(len(self.dimensions))])

    def to_unit(self, config: Mapping[str, Value]) -> tuple[float, ...]:
        """The configuration's point in [0, 1]^d (d = len(dimensions)); inactive axes are at 0.5."""
        return tuple(
            self.domains[name].to_unit(config[name]) if name in config else 0.5
            for name in self.dimensions
        )

    def from_unit(self, point: Sequence[float]) -> Config:
        """The configuration at a point of the unit cube; raises SpaceError for a wrong length."""
        if len(point) != len(self.dimensions):
            raise SpaceError(
                f"a point needs {len(self.dimensions)} coordinates, one for each of "
                f"{', '.join(self.dimensions)}; {len(point)} given"
            )
        values = self._defaults()
        for name, place in zip(self.dimensions, point, strict=True):
            values[name] = self.domains[name].from_unit(min(max(float(place), 0.0), 1.0))
        return self._active(values)

    def completed(self, values: Mapping[str, Value]) -> Config:
        """The configuration that `values` of the varying hyperparameters stand for.

        What is missing takes its default; what is inactive is left out. Raises SpaceError for
        unknown names and impossible values.
        """
        unknown = {name: value for name, value in values.items() if name not in self.domains}
        return self.validate(self._active(self._defaults() | dict(values)) | unknown)

    def narrowed(self, changes: Mapping[str, object]) -> tuple["SearchSpace", tuple[str, ...]]:
        """The space with some hyperparameters narrowed or fixed, and notes on clipped defaults.

        A change is a domain (`Float`, `Int`, `Choice`), a native Ax parameter config, or a value.
        Raises SpaceError listing every change that does not fit.
        """
        domains, notes, problems = dict(self.declared), [], []
        for name, change in changes.items():
            if name not in self.domains:
                known = did_you_mean(name, self.domains)
                problems.append(f"{name!r} is not a hyperparameter here{known}")
                continue
            result = changed(self.declared[name], change)
            if isinstance(result, str):
                problems.append(f"{name} {result}")
                continue
            domains[name], note = result
            notes += [f"{name}: {note}"] if note else []
        problems += _conditioned(domains, changes)
        wide = {name: replace(self.declared[name], when=domains[name].when) for name in domains}
        for name, domain in wide.items():
            problems += condition_problems(name, domain, wide)
        if problems:
            raise SpaceError(problems)
        return SearchSpace(possible(domains)), tuple(notes)

    def corners(self) -> Iterator[Config]:
        """The recipe, then for each bound and each choice the recipe with that one value changed.

        Ancestors in a condition are set so that the value is active.
        """
        yield self.recipe
        for name in self.dimensions:
            for value in self.domains[name].extremes:
                values = self._defaults() | {name: value} | dict(ancestry(name, self.domains))
                yield self._active(values)

    def configs(self) -> Iterator[Config]:
        """Every configuration, each once; there must be finitely many."""
        yield from self._completions({}, list(parents_first(self.domains)))

    def describe(self) -> dict[str, dict[str, object]]:
        """Every domain as JSON values: for tables, reports and for noticing a change."""
        return {name: domain.describe() for name, domain in self.domains.items()}

    def to_ax(self) -> "list[RangeParameterConfig | ChoiceParameterConfig]":
        """The varying hyperparameters as Ax parameter configs, conditions included."""
        from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

        configs: list[RangeParameterConfig | ChoiceParameterConfig] = []
        for name in self.dimensions:
            domain = self.domains[name]
            kind: Any = kind_of(domain)
            if isinstance(domain, ChoiceDomain):
                values: Any = list(domain.values)
                ordered = all(is_number(value) for value in values)
                children = self._children_by_value(name) or None
                configs.append(ChoiceParameterConfig(name, values, kind, ordered, children))
            else:
                assert isinstance(domain, FloatDomain | IntDomain)
                bounds = (domain.low, domain.high)
                scaling: Any = "log" if domain.log else "linear"
                configs.append(RangeParameterConfig(name, bounds, kind, scaling=scaling))
        return configs

    def ax_client(
        self,
        name: str,
        objectives: Sequence[Objective],
        bounds: Sequence[Bound] = (),
        *,
        seed: int | None = None,
    ) -> "Client":
        """An Ax client, in memory, whose experiment has this space, objectives and constraints."""
        goals = [f"{'' if each.sign > 0 else '-'}{each.metric}" for each in objectives]
        sides = {"maximize": ">=", "minimize": "<="}
        constraints = [f"{each.metric} {sides[each.direction]} {each.value!r}" for each in bounds]
        with quiet_ax():
            from ax.api.client import Client

            client = Client(random_seed=seed)
            client.configure_experiment(self.to_ax(), name=name)
            client.configure_optimization(", ".join(goals), constraints)
        return client

    @classmethod
    def from_ax(
        cls, configs: "Iterable[RangeParameterConfig | ChoiceParameterConfig]"
    ) -> "SearchSpace":
        """The space that native Ax parameter configs declare."""
        return cls({config.name: config for config in configs})

    def _completions(self, chosen: Config, names: list[str]) -> Iterator[Config]:
        """The configurations that begin so; the domains of `names` are still to be decided."""
        if not names:
            yield self._ordered(chosen)
            return
        name, *rest = names
        domain = self.domains[name]
        if not is_active(domain, chosen):
            yield from self._completions(chosen, rest)
            return
        for value in _all_values(domain):
            yield from self._completions(chosen | {name: value}, rest)

    def _defaults(self) -> dict[str, Any]:
        return {name: domain.default for name, domain in self.domains.items()}

    def _active(self, values: Mapping[str, Any]) -> Config:
        config: Config = {}
        for name in parents_first(self.domains):
            if is_active(self.domains[name], config):
                config[name] = values[name]
        return self._ordered(config)

    def _ordered(self, config: Config) -> Config:
        return {name: config[name] for name in self.domains if name in config}

    def _children_by_value(self, parent: str) -> dict[Value, list[str]]:
        children: dict[Value, list[str]] = {}
        for name in self.dimensions:
            for other, value in self.domains[name].when:
                if other == parent:
                    children.setdefault(value, []).append(name)
        return children


def _conditioned(domains: dict[str, Domain], given: Mapping[str, object]) -> Iterator[str]:
    """Put the conditions that Ax configs in `given` state into `domains`; yield what cannot be."""
    for name, when in conditions_from_ax(given).items():
        if name in domains:
            domains[name] = replace(domains[name], when=when)
        else:
            hint = did_you_mean(name, domains)
            yield f"{when[0][0]} has dependent {name!r}, which is not a hyperparameter here{hint}"


def _all_values(domain: Domain) -> "Iterable[Value]":
    """The values of a finite domain, in order."""
    if isinstance(domain, ChoiceDomain):
        return domain.values
    assert isinstance(domain, IntDomain)
    return range(domain.low, domain.high + 1)
