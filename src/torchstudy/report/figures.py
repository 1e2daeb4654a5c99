"""From a table to a figure: one function per picture, colours left to the page."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from torchstudy.analysis.progress import steps
from torchstudy.records import Status
from torchstudy.report.axes import (
    Scale,
    epoch_axis,
    label,
    line_axis,
    row_label,
    time_axis,
    unit_of,
)
from torchstudy.report.formats import Metric, duration
from torchstudy.report.looks import Look, pattern, status_color, status_words

CONFIG = {
    "displaylogo": False,
    "showSendToCloud": False,
    "responsive": True,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
}
TICKS = 8  # at most, on an axis that counts trials
MOST_STEPS = 200  # of a line: more are less than three pixels apart, and each is an element to draw
ROW = 64  # pixels per family where families are rows


def forest(scores: pd.DataFrame, metric: Metric, looks: Mapping[str, Look]) -> go.Figure:
    """Mean and interval per family, best on top, with a tick per seed and the search's promise.

    `scores` as `family_scores` returns it, with `promised`: the best validation value.
    """
    figure = blank(ROW * len(scores) + 84)
    for place, row in enumerate(scores.to_dict("records")):
        look, y = looks[row["family"]], -place
        figure.add_trace(_seeds(row, y, look, metric))
        figure.add_trace(_promise(row, y, look, metric))
        figure.add_trace(interval_mark(row, y, look, metric))
        figure.add_annotation(**row_label(score_label(row, metric), y))
    figure.update_xaxes(**line_axis(metric.axis("test")), nticks=6)
    if metric.is_accuracy:
        figure.update_xaxes(tickformat=".1~%")
    figure.update_yaxes(**rows_axis(len(scores)))
    figure.update_layout(showlegend=False)
    return figure


def spent(progress: pd.DataFrame, scale: Scale, looks: Mapping[str, Look]) -> go.Figure:
    """The best value so far against the seconds that a family's trials have taken."""
    figure = blank(320)
    unit, length = unit_of(float(progress["seconds"].max()))
    for family, look in looks.items():
        own = progress[(progress["family"] == family) & progress["best"].notna()]
        if own.empty:
            continue
        own = steps(own, MOST_STEPS)
        figure.add_trace(
            go.Scatter(
                name=label(family),
                x=[value / length for value in own["seconds"]],
                y=[scale.place(value) for value in own["best"]],
                mode="lines+markers",
                line={"color": look.color, "dash": look.dash, "width": 2.5, "shape": "hv"},
                marker=_last_only(look, len(own)),
                hoverinfo="text",
                hovertext=[
                    f"{label(family)}<br>{scale.metric.score(row['best'], 2)} after "
                    f"{duration(row['seconds'])}<br>trial {row['trial']}"
                    for row in own.to_dict("records")
                ],
            )
        )
    figure.update_xaxes(**line_axis(f"Training time of the family's trials so far ({unit})"))
    figure.update_xaxes(rangemode="tozero")
    title = scale.metric.axis("best validation")
    figure.update_yaxes(**scale.axis(title, progress["best"]))
    return figure


def curves(
    bands: pd.DataFrame, best: pd.DataFrame, scale: Scale, looks: Mapping[str, Look]
) -> go.Figure:
    """Median with 10-90% band per family over epochs, and the curve of its best trial.

    `bands` as `learning_curves` returns it; `best` has family, epoch, value.
    """
    figure = blank(420)
    for family, look in looks.items():
        own = bands[bands["family"] == family]
        if own.empty:
            continue
        figure.add_traces(_band(family, own, scale, look))
        figure.add_trace(_best_curve(family, best[best["family"] == family], scale, look))
    drawn = pd.concat([bands["low"], bands["high"], best["value"]]).astype("float64")
    last = pd.concat([bands["epoch"], best["epoch"]]).max()
    figure.update_xaxes(**epoch_axis(int(last)))
    figure.update_yaxes(**scale.axis(scale.metric.axis("validation"), drawn))
    return figure


def cost(points: pd.DataFrame, scale: Scale, looks: Mapping[str, Look]) -> go.Figure:
    """Value against seconds, a filled mark for a completed trial, an open one for any other.

    `points` has family, trial, status, seconds, value, row (the trial's place in the table). There
    is one trace per family and kind of mark.
    """
    figure = blank(400)
    for family, look in looks.items():
        own = points[points["family"] == family]
        completed = own["status"] == Status.COMPLETED.value
        is_named = False
        for group, symbol in ((own[completed], ""), (own[~completed], "-open")):
            if group.empty:
                continue
            figure.add_trace(_points(family, group, scale, look, symbol, is_named=is_named))
            is_named = True
    figure.update_xaxes(**time_axis("Training time of the trial", points["seconds"]))
    title = scale.metric.axis("best validation")
    figure.update_yaxes(**scale.axis(title, points["value"]))
    return figure


def outcomes(counts: pd.DataFrame, families: list[str]) -> go.Figure:
    """Stacked bars: how the trials of each family ended."""
    figure = blank(ROW * len(families) + 110)
    rows = {family: -place for place, family in enumerate(families)}
    for status in [known for known in Status if known.value in set(counts["status"])]:
        own = counts[counts["status"] == status.value]
        hatch = {"shape": pattern(status), "fillmode": "overlay", "size": 7, "solidity": 0.25}
        figure.add_trace(
            go.Bar(
                name=status_words(status),
                orientation="h",
                y=[rows[family] for family in own["family"]],
                x=[int(n) for n in own["n"]],
                text=[str(n) for n in own["n"]],
                textposition="inside",
                insidetextanchor="middle",
                textangle=0,
                textfont={"color": "var(--on-status)"},
                width=0.42,
                marker={"color": status_color(status), "pattern": hatch},
                hoverinfo="text",
                hovertext=[
                    f"{label(row['family'])}: {row['n']} {status_words(status)}"
                    for row in own.to_dict("records")
                ],
            )
        )
    for family, row in rows.items():
        figure.add_annotation(**row_label(f"<b>{label(family)}</b>", row))
    figure.update_layout(barmode="stack", legend_traceorder="normal")
    few = counts.groupby("family")["n"].sum().max() <= TICKS
    figure.update_xaxes(**line_axis("Trials"), tickformat=",d")
    figure.update_xaxes({"dtick": 1} if few else {"nticks": TICKS})
    figure.update_yaxes(**rows_axis(len(families)))
    return figure


def drawable(figure: go.Figure) -> dict[str, Any]:
    """The figure as plotly.js takes it, with the settings of every figure on the page."""
    drawn = figure.to_plotly_json()
    return {"data": drawn["data"], "layout": drawn["layout"], "config": CONFIG}


def line_of_equality(ends: Sequence[float]) -> go.Scatter:
    """The dashed line on which both axes have the same value, from end to end."""
    return go.Scatter(
        x=list(ends),
        y=list(ends),
        mode="lines",
        line={"color": "var(--muted)", "dash": "dash", "width": 1.5},
        hoverinfo="skip",
        showlegend=False,
    )


def blank(height: int) -> go.Figure:
    """An empty figure in the page's colours."""
    return go.Figure(
        layout={
            "template": "none",
            "height": height,
            "margin": {"l": 12, "r": 16, "t": 12, "b": 12},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "system-ui, sans-serif", "size": 13, "color": "var(--text)"},
            "hoverlabel": {
                "bgcolor": "var(--surface)",
                "bordercolor": "var(--line)",
                "font": {"color": "var(--text)", "size": 13},
                "align": "left",
            },
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            "hovermode": "closest",
            "modebar": {"bgcolor": "var(--surface)", "color": "var(--muted)"},
        }
    )


def _seeds(row: Mapping[Hashable, Any], y: int, look: Look, metric: Metric) -> go.Scatter:
    return go.Scatter(
        x=list(row["scores"]),
        y=[y] * len(row["scores"]),
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 17, "color": look.color, "line": {"width": 1.5}},
        hoverinfo="text",
        hovertext=[f"one seed: {metric.score(score, 2)}" for score in row["scores"]],
    )


def _promise(row: Mapping[Hashable, Any], y: int, look: Look, metric: Metric) -> go.Scatter:
    return go.Scatter(
        x=[row["promised"] if row["promised"] == row["promised"] else None],
        y=[y],
        mode="markers",
        marker={"symbol": f"{look.symbol}-open", "size": 11, "color": look.color},
        hoverinfo="text",
        hovertext=[f"best validation value: {metric.score(row['promised'], 2)}"],
    )


def interval_mark(
    row: Mapping[Hashable, Any], y: int, look: Look, metric: Metric, over: str = ""
) -> go.Scatter:
    """Mean, low and high of a family as a mark with its bar; `over` says what the interval is."""
    known = row["high"] == row["high"]
    bars = {
        "type": "data",
        "symmetric": False,
        "array": [row["high"] - row["mean"] if known else 0],
        "arrayminus": [row["mean"] - row["low"] if known else 0],
        "color": look.color,
        "thickness": 2.5,
        "width": 7,
    }
    return go.Scatter(
        x=[row["mean"]],
        y=[y],
        mode="markers",
        error_x=bars,
        marker={"symbol": look.symbol, "size": 13, "color": look.color},
        hoverinfo="text",
        hovertext=[
            f"{label(row['family'])}<br>{metric.score(row['mean'], 2)}, 95% interval "
            f"{metric.span(row['low'], row['high'])}{over}"
        ],
    )


def score_label(row: Mapping[Hashable, Any], metric: Metric) -> str:
    """A family, its mean and, where it is known and no point, the interval."""
    known = row["high"] > row["low"]
    interval = f" ({metric.span(row['low'], row['high'])})" if known else ""
    return f"<b>{label(row['family'], 20)}</b>  {metric.score(row['mean'])}{interval}"


def rows_axis(rows: int) -> dict[str, Any]:
    """A hidden axis with rows at 0, -1, -2 and so on, each under its label."""
    hidden = {"showgrid": False, "zeroline": False, "showticklabels": False, "fixedrange": True}
    return {**hidden, "range": [-rows + 0.55, 0.65]}


def _last_only(look: Look, n: int) -> dict[str, Any]:
    marker = {"symbol": look.symbol, "color": look.color, "opacity": 1, "line": {"width": 0}}
    return {**marker, "size": [0] * (n - 1) + [10]}


def _band(family: str, own: pd.DataFrame, scale: Scale, look: Look) -> list[go.Scatter]:
    epochs = [int(epoch) for epoch in own["epoch"]]
    edge = {"x": epochs, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    shared = {**edge, "showlegend": False, "legendgroup": family_group(look)}
    low = go.Scatter(**shared, y=[scale.place(value) for value in own["low"]])
    high = go.Scatter(
        **shared,
        y=[scale.place(value) for value in own["high"]],
        fill="tonexty",
        fillcolor=look.soft,
    )
    median = go.Scatter(
        name=f"{label(family)}, median",
        legendgroup=family_group(look),
        x=epochs,
        y=[scale.place(value) for value in own["median"]],
        mode="lines",
        line={"color": look.color, "dash": "dot" if look.dash == "solid" else look.dash},
        opacity=0.8,
        hoverinfo="text",
        hovertext=[
            f"{label(family)}, epoch {row['epoch']}<br>median "
            f"{scale.metric.score(row['median'], 2)} of {row['n']}"
            for row in own.to_dict("records")
        ],
        showlegend=False,
    )
    median.line.width = 1.5
    return [low, high, median]


def _best_curve(family: str, own: pd.DataFrame, scale: Scale, look: Look) -> go.Scatter:
    return go.Scatter(
        name=label(family),
        legendgroup=family_group(look),
        x=[int(epoch) for epoch in own["epoch"]],
        y=[scale.place(value) for value in own["value"]],
        mode="lines+markers",
        line={"color": look.color, "dash": look.dash, "width": 3},
        marker=_last_only(look, len(own)),
        hoverinfo="text",
        hovertext=[
            f"{label(family)}, epoch {row['epoch']}<br>{scale.metric.score(row['value'], 2)}"
            for row in own.to_dict("records")
        ],
    )


def _points(
    family: str, group: pd.DataFrame, scale: Scale, look: Look, symbol: str, *, is_named: bool
) -> go.Scatter:
    return go.Scatter(
        name=label(family),
        legendgroup=family_group(look),
        showlegend=not is_named,
        x=list(group["seconds"]),
        y=[scale.place(value) for value in group["value"]],
        customdata=[int(row) for row in group["row"]],
        mode="markers",
        marker={"symbol": f"{look.symbol}{symbol}", "color": look.color, "size": 9, "opacity": 0.9},
        hoverinfo="text",
        hovertext=[
            f"{label(family)}, trial {row['trial']}<br>{scale.metric.score(row['value'], 2)} in "
            f"{duration(row['seconds'])}<br>{status_words(row['status'])}"
            for row in group.to_dict("records")
        ],
    )


def family_group(look: Look) -> str:
    """The legend group of a family."""
    return f"family-{look.index}-{look.symbol}"
