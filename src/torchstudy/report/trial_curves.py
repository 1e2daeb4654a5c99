"""The learning curve of every trial, small enough to lie in the page until one is asked for."""

from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from torchstudy.report.axes import FEW_EPOCHS, line_axis, scale_of
from torchstudy.report.figures import blank
from torchstudy.report.formats import metric_of
from torchstudy.report.story import Story

MOST_POINTS = 100  # of one curve: what a drawer of 500 px has room for
FEWEST_POINTS = 12
MOST_VALUES = 300_000  # of all curves: about a megabyte of the page
HEIGHT = 240


def trial_curves(story: Story) -> dict[str, Any]:
    """Per row of the table of trials its epochs (None: 1, 2, ...) and values, None without any.

    Curves of many epochs are thinned evenly; first, last and best epoch stay. `best` has the row of
    each family's best trial, `error` the smallest error that is drawn, None where none is; up to
    `few` epochs each is marked.
    """
    table, metric = story.curves, metric_of(story.learned)
    numbers = zip(story.trials["family"], story.trials["trial"], strict=True)
    rows = {key: row for row, key in enumerate(numbers)}
    found: list[dict[str, Any] | None] = [None] * len(rows)
    trainings = table.groupby(["family", "trial"], sort=False).ngroup().to_numpy()
    starts = np.flatnonzero(np.diff(trainings, prepend=-1))
    ends = np.append(starts[1:], len(table))[: len(starts)]
    epochs = table["epoch"].to_numpy(dtype=np.int64)
    values = _rounded(table["value"].to_numpy(dtype=np.float64), is_share=metric.is_share)
    most = max(FEWEST_POINTS, min(MOST_POINTS, MOST_VALUES // max(1, len(starts))))
    families, trials = table["family"].tolist(), table["trial"].tolist()
    for start, end in zip(starts, ends, strict=True):
        kept = start + _thinned(story.learned.sign * values[start:end], most)
        own = epochs[kept]
        is_whole = np.array_equal(own, np.arange(1, len(own) + 1))
        row = rows[families[start], trials[start]]
        found[row] = {
            "epochs": None if is_whole else own.tolist(),
            "values": values[kept].tolist(),
        }
    best = {
        story.results.families.index(each["family"]): rows[each["family"], each["trial"]]
        for each in story.best.to_dict("records")
    }
    floor = scale_of(metric, story.split_size("valid")).floor
    return {
        "rows": found,
        "best": best,
        "error": floor if metric.is_share else None,
        "few": FEW_EPOCHS,
    }


def curve_figure(story: Story) -> go.Figure:
    """The axes of a drawer's curve, the same for all trials; the page adds the lines."""
    metric = metric_of(story.learned)
    scale = scale_of(metric, story.split_size("valid"))
    figure = blank(HEIGHT)
    figure.update_xaxes(**line_axis("Epoch"), rangemode="tozero")
    figure.update_yaxes(**scale.axis(metric.axis("validation"), story.curves["value"]))
    return figure


def _thinned(scores: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.int64]:
    """At most `most` places in a curve, evenly: the first, the last and the best among them."""
    if len(scores) <= most:
        return np.arange(len(scores))
    even = np.linspace(0, len(scores) - 1, most - 1).round().astype(np.int64)
    return np.unique(np.append(even, int(scores.argmax())))


def _rounded(values: npt.NDArray[np.float64], *, is_share: bool) -> npt.NDArray[np.float64]:
    """What can be told apart in a small figure: five decimals of a share, else five digits."""
    if is_share:
        return values.round(5)
    size = np.floor(np.log10(np.abs(np.where(values == 0, 1.0, values))))
    scaled = 10.0 ** (4 - size)
    return np.array(np.round(values * scaled) / scaled)
