"""Classes whose fields are hyperparameters: how `width: int = Int(8, 64)` becomes a typed field."""

import dataclasses
import inspect
from typing import ClassVar, TypeVar, dataclass_transform, get_origin

from torchstudy.domains import Choice, ChoiceDomain, Domain, Float, Int, kind_of
from torchstudy.errors import SpaceError
from torchstudy.values import is_value

Declared = TypeVar("Declared")


@dataclass_transform(
    kw_only_default=True, frozen_default=True, field_specifiers=(Float, Int, Choice)
)
def hyperparameters(cls: type[Declared]) -> type[Declared]:
    """Make a frozen, keyword-only dataclass of a class whose fields are hyperparameters.

    A field is given a domain (`Int(8, 64, default=16)`) or a plain value, which is fixed unless a
    study puts something else in its place. Returns the same class, so that `super()` works.
    Raises SpaceError for fields without a value or a type and for domains that cannot be.
    """
    domains, problems = {}, _untyped(cls)
    for name, annotation in inspect.get_annotations(cls).items():
        if _is_class_variable(annotation):
            continue
        domain = _declared_domain(cls.__dict__.get(name))
        if isinstance(domain, str):
            problems.append(f"{cls.__name__}.{name} {domain}")
            continue
        problems += [f"{cls.__name__}.{name} {problem}" for problem in domain.problems()]
        domains[name] = domain
    if problems:
        raise SpaceError(problems)
    for name, domain in domains.items():
        default = domain.with_default().default
        setattr(cls, name, dataclasses.field(default=default, metadata={"domain": domain}))
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


def domains_of(cls: type) -> dict[str, Domain]:
    """The domains of a class made by `hyperparameters`, in the order of its fields."""
    return {field.name: field.metadata["domain"] for field in dataclasses.fields(cls)}


def _untyped(cls: type) -> list[str]:
    annotations = inspect.get_annotations(cls)
    return [
        f"{cls.__name__}.{name} has no type: write `{name}: {kind_of(value)} = ...`"
        for name, value in vars(cls).items()
        if isinstance(value, Domain) and name not in annotations
    ]


def _declared_domain(value: object) -> Domain | str:
    if isinstance(value, Domain):
        return value
    if value is None:
        return "needs a value: a default, Float, Int or Choice"
    if not is_value(value):
        return f"cannot be {value!r}: a hyperparameter is a number, a text or a boolean"
    return ChoiceDomain(values=(value,), default=value, is_open=True)


def _is_class_variable(annotation: object) -> bool:
    if isinstance(annotation, str):
        return annotation.split("[")[0].rpartition(".")[2] == "ClassVar"
    return annotation is ClassVar or get_origin(annotation) is ClassVar
