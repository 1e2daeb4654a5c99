"""When a hyperparameter exists: conditions of one parent and one value, nested freely."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from torchstudy.domains import ChoiceDomain, Domain
from torchstudy.errors import did_you_mean
from torchstudy.values import Value


def condition_problems(name: str, domain: Domain, domains: Mapping[str, Domain]) -> Iterator[str]:
    """What is wrong with the condition of `name` among `domains`, one sentence each."""
    if len(domain.when) > 1:
        yield f"{name} depends on {len(domain.when)} hyperparameters; a condition names exactly one"
    for parent, value in domain.when[:1]:
        if parent == name:
            yield f"{name} depends on itself"
        elif parent not in domains:
            known = did_you_mean(parent, domains)
            yield f"{name} depends on {parent!r}, which is not a hyperparameter here{known}"
        elif not isinstance(domains[parent], ChoiceDomain):
            yield f"{name} depends on {parent}, which is a range; a condition needs a Choice"
        elif problem := domains[parent].problem(value):
            yield f"{name} exists only when {parent}={value!r}, but {problem}"
        elif name in (other for other, _ in ancestry(parent, domains)):
            yield f"{name} depends on itself through {parent}"


def ancestry(name: str, domains: Mapping[str, Domain]) -> list[tuple[str, Value]]:
    """The (parent, value) pairs that must hold for `name` to exist, nearest first."""
    found: list[tuple[str, Value]] = []
    while name in domains and domains[name].when and len(found) <= len(domains):
        parent, value = domains[name].when[0]
        found.append((parent, value))
        name = parent
    return found


def parents_first(domains: Mapping[str, Domain]) -> list[str]:
    """The names, every parent before its children, otherwise in order."""
    return sorted(domains, key=lambda name: len(ancestry(name, domains)))


def possible(domains: Mapping[str, Domain]) -> dict[str, Domain]:
    """The domains that can exist, with defaults filled in.

    A child whose parent cannot take the value it needs is dropped.
    """
    kept: dict[str, Domain] = {}
    for name in parents_first(domains):
        needs = domains[name].when
        if all(parent in kept and not kept[parent].problem(value) for parent, value in needs):
            kept[name] = domains[name].with_default()
    return {name: kept[name] for name in domains if name in kept}


def simplified(domains: Mapping[str, Domain]) -> dict[str, Domain]:
    """The domains of `possible` without conditions that always hold.

    A child whose parent has one value hangs on the grandparent instead, or on nothing.
    """
    changed: dict[str, Domain] = {}
    for name in parents_first(domains):
        domain = domains[name]
        for parent, _ in domain.when:
            if changed[parent].size == 1:
                domain = replace(domain, when=changed[parent].when)
        changed[name] = domain
    return {name: changed[name] for name in domains}


def is_active(domain: Domain, config: Mapping[str, Value]) -> bool:
    """Whether a hyperparameter with this domain exists in `config`, which holds its parents."""
    return all(parent in config and config[parent] == value for parent, value in domain.when)


def count_configs(domains: Mapping[str, Domain], parent: tuple[str, Value] | None = None) -> float:
    """How many configurations there are of what hangs on `parent` (on nothing: of all)."""
    total = 1.0
    for name, domain in domains.items():
        if (domain.when[0] if domain.when else None) != parent:
            continue
        if isinstance(domain, ChoiceDomain):
            total *= sum(count_configs(domains, (name, value)) for value in domain.values)
        else:
            total *= domain.size
    return total
