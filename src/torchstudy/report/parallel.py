"""Which axes the parallel coordinates of each family have: what varied, and what came of it."""

import math
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from torchstudy.analysis.tables import CONFIG
from torchstudy.report.axes import log_ticks, scale_of
from torchstudy.report.formats import quantity
from torchstudy.report.settings import Domain, space_of, varying
from torchstudy.report.story import Story
from torchstudy.values import plain

MOST_LINES = 200  # of one plot: more are a solid block; `parallel.js` chooses them
MOST_TICKS = 6
NAMEABLE = re.compile(r"[^\s<>=]{1,40}")  # names that a condition can be about
STEPS = (1, 2, 2.5, 5, 10)

Axis = dict[str, Any]


def parallel_plots(story: Story, columns: Sequence[str]) -> list[dict[str, Any]]:
    """One plot for each family of which trials differ; `columns` are those of the page's table."""
    value = _value_axis(story)
    if value is None:
        return []
    plots = []
    for place, family in enumerate(story.results.families):
        own = story.trials[(story.trials["family"] == family).fillna(False).astype(bool)]
        space = space_of(story, family)
        axes = [
            {**axis, "place": columns.index(f"{CONFIG}{name}")}
            for name in varying(story, family)
            if f"{CONFIG}{name}" in columns
            and (axis := _axis(own[f"{CONFIG}{name}"], space.get(name) or {}))
        ]
        if axes:
            axes.append({**value, "place": columns.index("value")})
            plots.append({"family": place, "axes": axes})
    return plots


def example(plots: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """A condition that a reader could type into the search: half of a range in one of `plots`."""
    for plot in plots:
        for axis in plot["axes"][:-1]:
            name = columns[axis["place"]].removeprefix(CONFIG)
            if "values" in axis or axis["low"] == axis["high"] or not NAMEABLE.fullmatch(name):
                continue
            low, high = axis["low"], axis["high"]
            middle = math.sqrt(low * high) if axis["log"] else (low + high) / 2
            return f"{name}={low:.3g}..{middle:.3g}"
    return "status=completed|stopped"


def _axis(tried: "pd.Series[Any]", domain: Domain) -> Axis | None:
    """The axis of one hyperparameter: its range widened to what was tried; None without values."""
    known = [plain(value) for value in tried.dropna()]
    if not known:
        return None
    if "values" in domain or not pd.api.types.is_numeric_dtype(tried) or tried.dtype == "boolean":
        values = dict.fromkeys([*domain.get("values", []), *_in_order(known)])
        return {"values": list(values)}
    finite = [value for value in known if math.isfinite(value)]
    ends = [value for key in ("low", "high") if (value := domain.get(key)) is not None]
    low, high = min([*finite, *ends]), max([*finite, *ends])
    is_log = domain.get("scale") == "log" and low > 0
    ticks = _few(log_ticks(low, high)) if is_log and low < high else linear_ticks(low, high)
    if all(isinstance(value, int) for value in [low, high]):
        ticks = [tick for tick in ticks if tick == round(tick)]
    return {"low": low, "high": high, "log": is_log, "ticks": [[t, quantity(t)] for t in ticks]}


def _value_axis(story: Story) -> Axis | None:
    """The axis of the objective, drawn as elsewhere on the page: shares by their error."""
    values = [float(value) for value in story.results.values.dropna()]
    if not values:
        return None
    low, high = min(values), max(values)
    scale = scale_of(story.metric, story.split_size("valid"))
    axis = scale.axis("", values)
    if story.metric.is_share and low < high:
        best, worst = max(1 - high, scale.floor), max(1 - low, scale.floor)
        marks = zip(axis["tickvals"], axis["ticktext"], strict=True)
        shown = [[1 - place, text] for place, text in marks if best <= place <= worst]
        ends = {"low": 1 - worst, "high": 1 - best}
        return {**ends, "log": True, "error": scale.floor, "ticks": shown}
    is_log = axis.get("type") == "log" and not story.metric.is_share
    ticks = _few(log_ticks(low, high)) if is_log else linear_ticks(low, high)
    return {
        "low": low,
        "high": high,
        "log": is_log,
        "ticks": [[tick, story.metric.score(tick)] for tick in ticks],
    }


def linear_ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`, at most `MOST_TICKS`; the ends where there is no room."""
    if not low < high:
        return [low]
    unit = 10.0 ** math.floor(math.log10(high - low))
    for step in (unit * part for part in (*(each / 10 for each in STEPS), *STEPS)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if 2 <= last - first + 1 <= MOST_TICKS:
            return [float(f"{number * step:.12g}") for number in range(first, last + 1)]
    return [low, high]


def _few(ticks: list[float]) -> list[float]:
    """Every second or third tick where there are more than there is room for."""
    return ticks[:: math.ceil(len(ticks) / MOST_TICKS)]


def _in_order(values: list[Any]) -> list[Any]:
    """Different values as they sort: numbers by size, anything else as text."""
    different = set(values)
    if all(isinstance(value, int | float) for value in different):
        return sorted(different)
    return sorted(different, key=str)
