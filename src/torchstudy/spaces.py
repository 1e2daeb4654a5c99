"""How a search space is printed: a line per hyperparameter that varies, one for the others."""

from typing import TYPE_CHECKING

from torchstudy.domains import Domain, kind_of, spelled

if TYPE_CHECKING:
    from torchstudy.families.base import Family
    from torchstudy.study import Study


def space_lines(study: "Study", family: "type[Family]") -> list[list[str]]:
    """One line per hyperparameter of a family that varies."""
    lines = []
    for name, domain in study.space_of(family).domains.items():
        if domain.size == 1:
            continue
        described = domain.describe()
        values = spelled(domain)
        if described["type"] != "choice":
            values = f"{_number(described['low'])} to {_number(described['high'])}"
        scale = str(described.get("scale", ""))
        condition = ", ".join(f"{parent} = {value!r}" for parent, value in domain.when)
        lines.append([name, values, scale, _recipe(domain), condition])
    return lines


def fixed_line(study: "Study", family: "type[Family]") -> str:
    """The hyperparameters of a family that do not vary, which a study may open."""
    domains = study.space_of(family).domains
    fixed = [f"{name} {_recipe(d)}" for name, d in domains.items() if d.size == 1]
    return f"fixed: {', '.join(fixed)}" if fixed else "fixed: none"


def _recipe(domain: Domain) -> str:
    return repr(domain.default) if kind_of(domain) == "str" else _number(domain.default)


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
