"""Axes on which small differences stay visible: log error for shares, log for wide losses."""

import html
import math
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torchstudy.report.formats import MINUS, Metric, duration, quantity, shortened
from torchstudy.visible import visible

DIGITS = ((1,), (1, 2, 5), (1, 2, 3, 5, 7), (1, 2, 3, 4, 5, 6, 7, 8, 9))
FEWEST_TICKS = 4
APART = 1.5  # the least ratio of an error to the smallest one for both to be marked
TITLE_WIDTH = 34  # letters in a line of a title: what a plot of 320 px has room for
SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 18000)
FEW_EPOCHS = 5  # of more, plotly itself marks whole ones alone
WIDE = 8.0  # a positive range this many times its start is drawn on a log axis


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Where a metric's values are drawn, and the axis that says so."""

    metric: Metric
    floor: float  # the smallest error that is drawn: of accuracy, half an item

    def place(self, value: float) -> float | None:
        """The coordinate of a value; None for a missing one."""
        return self._place(value) if math.isfinite(value) else None

    def axis(self, title: str, values: Iterable[float]) -> dict[str, Any]:
        """A plotly axis over these values."""
        finite = [value for value in values if math.isfinite(value)]
        axis = line_axis(title)
        if not finite:
            return axis
        low, high = sorted(self._place(end) for end in (min(finite), max(finite)))
        if self.metric.is_share:
            return {**axis, **self._error_axis(low, high)}
        if low > 0 and high / low > WIDE:
            ticks = log_ticks(low, high)
            texts = [quantity(tick) for tick in ticks]
            return {**axis, "type": "log", "tickvals": ticks, "ticktext": texts}
        return axis

    def _place(self, value: float) -> float:
        return max(1.0 - value, self.floor) if self.metric.is_share else value

    def _error_axis(self, low: float, high: float) -> dict[str, Any]:
        pad = max(0.06 * math.log10(high / low), 0.04)
        ends = [math.log10(high) + pad, math.log10(low) - pad]
        most = 0.99 if self.metric.is_accuracy else math.inf
        bottom, top = max(10 ** ends[1], self.floor), min(10 ** ends[0], most)
        apart = APART if low <= self.floor else 1.0  # from 100%, whose mark is at the floor
        ticks = [tick for tick in log_ticks(bottom, top) if tick > apart * self.floor]
        if low <= self.floor:
            ticks = [*ticks, self.floor]
        texts = [self._error_text(tick) for tick in ticks]
        return {"type": "log", "range": ends, "tickvals": ticks, "ticktext": texts}

    def _error_text(self, error: float) -> str:
        value = 1.0 if error <= self.floor else 1 - error
        text = f"{100 * value:.4g}%" if self.metric.is_accuracy else f"{value:.4g}"
        return text.replace("-", MINUS)


def scale_of(metric: Metric, items: int) -> Scale:
    """The scale of a metric that was measured on this many items."""
    return Scale(metric=metric, floor=0.5 / items if items and metric.is_accuracy else 1e-4)


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between two positive ones, a few per decade; the ends where there is none."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for digits in DIGITS:
        every = [float(f"{digit}e{power}") for power in powers for digit in digits]
        ticks = [tick for tick in every if low <= tick <= high]
        if len(ticks) >= FEWEST_TICKS:
            return ticks
    return ticks if len(ticks) > 1 else sorted({low, high})


def time_axis(title: str, seconds: Iterable[float]) -> dict[str, Any]:
    """A logarithmic axis of seconds, marked in the units that people use."""
    given = [float(value) for value in seconds]
    low, high = min(given), max(given)
    pad = max(0.04 * math.log10(high / low), 0.04)
    ends = [math.log10(low) - pad, math.log10(high) + pad]
    ticks = [tick for tick in SECONDS if ends[0] <= math.log10(tick) <= ends[1]]
    ticks = ticks if len(ticks) > 1 else sorted({low, high})
    texts = [duration(tick).replace(".0 ", " ") for tick in ticks]
    return {**line_axis(title), "type": "log", "range": ends, "tickvals": ticks, "ticktext": texts}


def unit_of(seconds: float) -> tuple[str, float]:
    """The unit for a linear axis up to this many seconds, and its length in seconds."""
    if seconds < 180:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)


def line_axis(title: str) -> dict[str, Any]:
    """A plain axis in the page's colours; a long title has several lines, for narrow screens.

    The title is plain text: nothing in it is markup.
    """
    wrapped = textwrap.wrap(visible(title), TITLE_WIDTH, break_long_words=False)
    lines = "<br>".join(map(_plain, wrapped))
    return {
        "title": {"text": lines, "font": {"size": 13}, "standoff": 8},
        "gridcolor": "var(--grid)",
        "linecolor": "var(--line)",
        "zeroline": False,
        "automargin": True,
        "tickfont": {"size": 12},
    }


def epoch_axis(last: int) -> dict[str, Any]:
    """An axis of epochs from 0 up to this one; of few, each whole one is marked and no half."""
    whole = {"dtick": 1} if last <= FEW_EPOCHS else {}
    return {**line_axis("Epoch"), "rangemode": "tozero", **whole}


def label(name: str, length: int = 28) -> str:
    """A name as plotly text: short, and with nothing that plotly would take for markup."""
    return _plain(shortened(name, length))


def _plain(text: str) -> str:
    """Text in which plotly finds neither tags nor, between dollar signs, formulas."""
    return html.escape(text, quote=False).replace("$", "&#36;")


def row_label(text: str, row: int) -> dict[str, Any]:
    """An annotation over the bar or mark of the row that is drawn at `row`."""
    return {
        "text": text,
        "x": 0,
        "xref": "paper",
        "xanchor": "left",
        "y": row + 0.42,
        "yanchor": "middle",
        "showarrow": False,
        "align": "left",
    }
