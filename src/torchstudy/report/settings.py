"""Which hyperparameters are worth showing: those that vary; the fixed ones in one line."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from torchstudy.analysis.tables import CONFIG, config_of
from torchstudy.report.formats import ABSENT, setting, shortened
from torchstudy.report.story import Story
from torchstudy.values import plain

NAME_LIMIT = 60  # characters of a name or value in a card
ROUNDED = 1e-9  # by less than this share, numbers differ by rounding alone
TEXT_LIMIT = 400  # of a cell in the table of a space

Domain = Mapping[str, Any]
"""A domain as `study.json` describes it."""


def space_of(story: Story, family: str) -> dict[str, Domain]:
    """The declared space of a family; empty where it is unknown."""
    return (story.results.summary["families"].get(family) or {}).get("space") or {}


def varying(story: Story, family: str) -> list[str]:
    """The hyperparameters that vary in the family's space, or whose tried values left its recipe.

    They are in the order of the space, then of the table of trials.
    """
    space, tried = space_of(story, family), story.tried[family]
    names = dict.fromkeys([*space, *(name for name, values in tried.items() if len(values))])
    return [
        name
        for name in names
        if _is_open(space.get(name)) or _has_left(tried.get(name), space.get(name))
    ]


def shown_columns(story: Story) -> list[str]:
    """The columns of hyperparameters in the table of trials: those that vary in any family."""
    shown = {f"{CONFIG}{name}" for name in story.results.families for name in varying(story, name)}
    return [str(name) for name in story.trials if str(name) in shown]


def same_setting(value: object, recipe: object) -> bool:
    """Whether they are one setting: a number that went through a scale comes back rounded."""
    if isinstance(value, float) and isinstance(recipe, float):
        return math.isclose(value, recipe, rel_tol=ROUNDED)
    return value == recipe


def settings(story: Story, family: str, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A configuration's varying hyperparameters beside those of the family's own recipe."""
    recipe = _recipe(story.trials[story.trials["family"] == family])
    known = dict.fromkeys([*config, *recipe])
    shown = set(varying(story, family))
    return [
        {
            "name": shortened(name, NAME_LIMIT),
            "value": shortened(setting(config[name]), NAME_LIMIT) if name in config else ABSENT,
            "recipe": shortened(setting(recipe[name]), NAME_LIMIT) if name in recipe else ABSENT,
            "is_changed": bool(recipe) and not same_setting(config.get(name), recipe.get(name)),
        }
        for name in known
        if name in shown
    ]


def fixed(story: Story, family: str) -> str:
    """The other hyperparameters with their values: `patience 10, beta1 0.9`; empty for none."""
    shown = set(varying(story, family))
    space = space_of(story, family)
    values = [
        f"{name} {setting(domain['default'])}"
        for name, domain in space.items()
        if name not in shown
    ]
    return ", ".join(shortened(value, NAME_LIMIT) for value in values)


def space_rows(story: Story, family: str) -> list[tuple[str, ...]]:
    """Name, type, range, scale, recipe and condition of what varies in a family's space."""
    space, shown = space_of(story, family), set(varying(story, family))
    return [_space_row(name, domain) for name, domain in space.items() if name in shown]


def _space_row(name: str, domain: Domain) -> tuple[str, ...]:
    if domain["type"] == "choice":
        span = ", ".join(setting(value) for value in domain["values"])
    else:
        span = f"{setting(domain['low'])} to {setting(domain['high'])}"
    when = domain.get("when") or {}
    condition = ", ".join(f"{parent} = {setting(value)}" for parent, value in when.items())
    cells = (name, domain["type"], span, domain.get("scale", ""), setting(domain["default"]))
    return tuple(shortened(text, TEXT_LIMIT) for text in (*cells, condition))


def _recipe(own: pd.DataFrame) -> dict[str, Any]:
    rows = own[own["origin"] == "recipe"]
    return config_of(rows.iloc[0]) if len(rows) else {}


def _is_open(domain: Domain | None) -> bool:
    if domain is None:
        return False
    if "values" in domain:
        return len(domain["values"]) > 1
    return bool(domain["low"] != domain["high"])


def _has_left(tried: "pd.Series[Any] | None", domain: Domain | None) -> bool:
    values = set() if tried is None else {plain(value) for value in tried.unique()}
    return len(values | ({domain["default"]} if domain else set())) > 1
