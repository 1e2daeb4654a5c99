"""Figures of hyperparameters: bars of importance over a noise floor, and curves of effects."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from torchstudy.domains import ChoiceDomain, Domain, RangeDomain
from torchstudy.report.axes import Scale, label, line_axis, log_ticks, row_label
from torchstudy.report.figures import blank, rows_axis
from torchstudy.report.formats import quantity, setting
from torchstudy.report.looks import Look

ROW = 38  # pixels per bar with its label
GOLDEN = 0.618034  # spreads the marks of a category evenly, whatever their number
CATEGORY = 14  # letters of a category under its mark


def bars(table: pd.DataFrame, look: Look) -> go.Figure:
    """A bar and a whisker per hyperparameter, the floor as a line, hatched below it.

    `table` as `importance` returns it, judged rows only, the most important first. Bars above the
    floor and below it are two traces: plotly.js takes no list of colours beside patterns.
    """
    rows = table.to_dict("records")
    figure = blank(ROW * len(rows) + 92)
    floor = float(table["floor"].iloc[0])
    for is_above in (True, False):
        own = [(-place, row) for place, row in enumerate(rows) if row["is_above"] == is_above]
        if own:
            figure.add_trace(_bars(own, look, is_above=is_above))
    for place, row in enumerate(rows):
        text = f"<b>{label(row['hyperparameter'], 24)}</b>  {row['importance']:.0%}"
        figure.add_annotation(**row_label(text, -place))
    figure.update_layout(showlegend=False, barmode="overlay")
    end = min(1.0, 1.08 * max(floor, float(table["high"].max())))
    _draw_floor(figure, floor, len(rows), end)
    figure.update_xaxes(**line_axis("Share of trials' differences"), tickformat=".0%")
    figure.update_xaxes(range=[0, end], nticks=6)
    figure.update_yaxes(**rows_axis(len(rows)))
    return figure


def curve(
    lines: pd.DataFrame, points: pd.DataFrame, domain: Domain, scale: Scale, look: Look
) -> go.Figure:
    """The expected score over the values of one hyperparameter, its band, and the trials.

    `lines` and `points` as `effects` and `tried` return them, of one hyperparameter.
    """
    figure = blank(250)
    levels = list(lines["value"]) if isinstance(domain, ChoiceDomain) else []
    for is_raised, symbol in ((False, look.symbol), (True, f"{look.symbol}-open")):
        own = points[points["is_raised"] == is_raised]
        if len(own):
            figure.add_trace(_marks(own, levels, symbol, scale, look))
    figure.add_traces(_means(lines, scale, look) if levels else _line(lines, scale, look))
    figure.update_layout(showlegend=False)
    figure.update_xaxes(**_value_axis(lines, domain, levels))
    drawn = pd.concat([points["score"], lines["low"], lines["high"]]).astype("float64")
    figure.update_yaxes(**scale.axis(scale.metric.axis("validation"), drawn))
    return figure


def _bars(own: list[tuple[int, dict[Any, Any]]], look: Look, *, is_above: bool) -> go.Bar:
    rows = [row for _, row in own]
    hatch = {"shape": "/", "fillmode": "overlay", "fgcolor": look.color, "size": 6, "solidity": 0.2}
    return go.Bar(
        orientation="h",
        y=[place for place, _ in own],
        x=[float(row["importance"]) for row in rows],
        width=0.34,
        marker={
            "color": look.color if is_above else look.soft,
            "line": {"color": look.color, "width": 1},
            **({} if is_above else {"pattern": hatch}),
        },
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [float(row["high"] - row["importance"]) for row in rows],
            "arrayminus": [float(row["importance"] - row["low"]) for row in rows],
            "color": "var(--text)",
            "thickness": 1.5,
            "width": 4,
        },
        hoverinfo="text",
        hovertext=[_bar_text(row) for row in rows],
    )


def _bar_text(row: dict[Any, Any]) -> str:
    return (
        f"{label(row['hyperparameter'])}<br>{row['importance']:.1%}, 95% interval "
        f"{row['low']:.1%} to {row['high']:.1%}<br>noise floor {row['floor']:.1%}<br>"
        f"{row['n']:,} trials"
    )


def _draw_floor(figure: go.Figure, floor: float, rows: int, end: float) -> None:
    """A shaded field up to the floor, its end marked beside every bar; labels stay readable."""
    ends = {"y0": -rows + 0.55, "y1": 0.65}
    field = {"fillcolor": "var(--grid)", "line": {"width": 0}, "layer": "below"}
    figure.add_shape(type="rect", x0=0, x1=floor, **ends, **field)
    line = {"color": "var(--text)", "width": 2, "dash": "2px,2px"}
    for row in range(rows):
        figure.add_shape(type="line", x0=floor, x1=floor, y0=-row - 0.26, y1=-row + 0.26, line=line)
    figure.add_annotation(
        text=f"noise floor {floor:.0%}",
        x=floor,
        y=1,
        yref="paper",
        xanchor="left" if floor < 0.6 * end else "right",
        yanchor="bottom",
        showarrow=False,
        font={"size": 12, "color": "var(--muted)"},
    )
    figure.update_layout(margin_t=28)


def _marks(
    points: pd.DataFrame, levels: list[Any], symbol: str, scale: Scale, look: Look
) -> go.Scatter:
    rows = points.to_dict("records")
    return go.Scatter(
        x=[_place(row, levels) for row in rows],
        y=[scale.place(row["score"]) for row in rows],
        mode="markers",
        marker={"symbol": symbol, "color": look.color, "size": 6, "opacity": 0.45},
        hoverinfo="text",
        hovertext=[
            f"trial {row['trial']}<br>{label(setting(row['value']))}<br>"
            f"{scale.metric.score(row['score'], 2)}{' at full length' if row['is_raised'] else ''}"
            for row in rows
        ],
    )


def _place(row: dict[Any, Any], levels: list[Any]) -> float:
    """Where a trial is drawn: at its value, or about its category."""
    if not levels:
        return float(row["value"])
    return levels.index(row["value"]) + 0.5 * ((int(row["trial"]) * GOLDEN) % 1 - 0.5)


def _line(lines: pd.DataFrame, scale: Scale, look: Look) -> list[go.Scatter]:
    x = [float(value) for value in lines["value"]]
    edge = {"x": x, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    low = go.Scatter(**edge, y=[scale.place(value) for value in lines["low"]])
    high = go.Scatter(
        **edge,
        y=[scale.place(value) for value in lines["high"]],
        fill="tonexty",
        fillcolor=look.soft,
    )
    middle = go.Scatter(
        x=x,
        y=[scale.place(value) for value in lines["expected"]],
        mode="lines",
        line={"color": look.color, "width": 2.5},
        hoverinfo="text",
        hovertext=_line_texts(lines, scale),
    )
    return [low, high, middle]


def _means(lines: pd.DataFrame, scale: Scale, look: Look) -> list[go.Scatter]:
    middle = [scale.place(value) for value in lines["expected"]]
    ends = [
        sorted((scale.place(row["low"]), scale.place(row["high"])), key=_number)
        for row in lines.to_dict("records")
    ]
    bar = {
        "type": "data",
        "symmetric": False,
        "array": [_number(high) - _number(at) for (_, high), at in zip(ends, middle, strict=True)],
        "arrayminus": [
            _number(at) - _number(low) for (low, _), at in zip(ends, middle, strict=True)
        ],
        "color": look.color,
        "thickness": 2.5,
        "width": 9,
    }
    return [
        go.Scatter(
            x=list(range(len(lines))),
            y=middle,
            mode="markers",
            error_y=bar,
            marker={"symbol": look.symbol, "size": 12, "color": look.color},
            hoverinfo="text",
            hovertext=_line_texts(lines, scale),
        )
    ]


def _number(place: float | None) -> float:
    return float("nan") if place is None else place


def _line_texts(lines: pd.DataFrame, scale: Scale) -> list[str]:
    return [
        f"{label(setting(row['value']))}<br>{scale.metric.score(row['expected'], 2)}, 95% interval "
        f"{scale.metric.span(row['low'], row['high'])}"
        for row in lines.to_dict("records")
    ]


def _value_axis(lines: pd.DataFrame, domain: Domain, levels: list[Any]) -> dict[str, Any]:
    axis = line_axis("")
    if levels:
        texts = [label(setting(level), CATEGORY) for level in levels]
        ends = [-0.6, len(levels) - 0.4]
        return {**axis, "tickvals": list(range(len(levels))), "ticktext": texts, "range": ends}
    assert isinstance(domain, RangeDomain)
    if not domain.log:
        return {**axis, "nticks": 6}
    values = [float(value) for value in lines["value"]]
    ticks = log_ticks(min(values), max(values))
    ticks = ticks[:: -(-len(ticks) // 6)]
    return {**axis, "type": "log", "tickvals": ticks, "ticktext": [quantity(t) for t in ticks]}
