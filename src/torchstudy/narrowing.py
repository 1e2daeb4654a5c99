"""How a study changes a domain: narrowed, fixed, or given as a native Ax parameter config."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torchstudy.domains import (
    MISSING,
    ChoiceDomain,
    Domain,
    FloatDomain,
    IntDomain,
    RangeDomain,
    kind_of,
    spelled,
)
from torchstudy.errors import did_you_mean
from torchstudy.values import Value, is_value

if TYPE_CHECKING:
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig


def as_domain(value: object) -> Domain | str:
    """The domain that a domain, an Ax parameter config or a value stands for, or the problem."""
    if isinstance(value, Domain):
        return value
    if _is_ax_config(value):
        return domain_from_ax(value)  # type: ignore[arg-type]  # told by name: ax is not imported
    if not is_value(value):
        return f"cannot be {value!r}; give a value, Float, Int or Choice"
    return ChoiceDomain.fixed(value)


def changed(old: Domain, change: object) -> tuple[Domain, str | None] | str:
    """What a change makes of `old`, with a note if default or prior went; or the problem."""
    new = as_domain(change)
    if isinstance(new, str):
        return new
    if problems := new.problems():
        return "; ".join(problems)
    expected = kind_of(old)
    if expected == "float" and kind_of(new) == "int" and isinstance(new, ChoiceDomain):
        new = _as_floats(new)
    if expected != kind_of(new):
        return f"takes {expected} values, but {spelled(new)} was given"
    if isinstance(old, ChoiceDomain) and not old.is_open:
        if not isinstance(new, ChoiceDomain):
            return f"is a choice; give one or more of {spelled(old)}"
        for value in new.values:
            if problem := old.problem(value):
                return f"cannot be {value!r}: {problem}{did_you_mean(value, map(str, old.values))}"
    new, prior_note = _keeping_prior(old, new)
    new, default_note = _keeping_default(old, new)
    return new, "; ".join(note for note in (default_note, prior_note) if note) or None


def domain_from_ax(config: "RangeParameterConfig | ChoiceParameterConfig") -> Domain:
    """The domain of one native Ax parameter config; only the whole space knows its condition."""
    if hasattr(config, "values"):
        domain = ChoiceDomain(values=tuple(config.values))
        return _as_floats(domain) if config.parameter_type == "float" else domain
    low, high = config.bounds
    is_log = config.scaling == "log"
    if config.step_size is not None:
        steps = round((high - low) / config.step_size)
        values = tuple(low + config.step_size * step for step in range(steps + 1))
        is_whole = config.parameter_type == "int"
        return ChoiceDomain(values=tuple(int(value) for value in values) if is_whole else values)
    if config.parameter_type == "int":
        return IntDomain(low=int(low), high=int(high), log=is_log)
    return FloatDomain(low=float(low), high=float(high), log=is_log)


def conditions_from_ax(given: Mapping[str, object]) -> dict[str, tuple[tuple[str, Value], ...]]:
    """The (parent, value) pairs of every name that an Ax choice in `given` lists as dependent."""
    found: dict[str, tuple[tuple[str, Value], ...]] = {}
    for parent, config in given.items():
        if _is_ax_config(config):
            dependents = getattr(config, "dependent_parameters", None) or {}
            for value, children in dependents.items():
                for child in children:
                    found[child] = (*found.get(child, ()), (parent, value))
    return found


def _is_ax_config(value: object) -> bool:
    names = {"RangeParameterConfig", "ChoiceParameterConfig"}
    return type(value).__module__.startswith("ax.") and type(value).__name__ in names


def _as_floats(domain: ChoiceDomain) -> ChoiceDomain:
    default: Any = domain.default if domain.default is MISSING else float(domain.default)
    return replace(domain, values=tuple(float(value) for value in domain.values), default=default)


def _keeping_prior(old: Domain, new: Domain) -> tuple[Domain, str | None]:
    """`new` with the old prior unless it brings one, where that still means the same."""
    if not isinstance(old, RangeDomain) or old.prior is None or new.size == 1:
        return new, None
    if isinstance(new, RangeDomain):
        if new.prior is not None:
            return new, None
        if new.log == old.log and new.low <= old.prior[0] <= new.high:
            return replace(new, prior=old.prior), None
    return new, f"prior {old.prior!r} does not fit and is dropped"


def _keeping_default(old: Domain, new: Domain) -> tuple[Domain, str | None]:
    """`new` with the old condition unless it brings one, and the old default, clipped."""
    new = new if new.when else replace(new, when=old.when)
    if isinstance(old, ChoiceDomain) and isinstance(new, ChoiceDomain):
        new = replace(new, is_open=old.is_open)
    if new.default is not MISSING or old.default is MISSING:
        return new, None
    default = new.nearest(old.default)
    if default == old.default:
        return replace(new, default=default), None
    return replace(new, default=default), f"recipe {old.default!r} is outside, {default!r} is used"
