"""Figures of what the models answer: confusions, predicted numbers, codes, a GAN's balance."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from torchstudy.report.axes import epoch_axis, label, line_axis, log_ticks
from torchstudy.report.figures import blank, line_of_equality
from torchstudy.report.formats import quantity, shortened
from torchstudy.report.looks import HEAT, Look, class_look
from torchstudy.report.predicted import Quantity

CELL = 32  # pixels of a cell's side, where there is room
WRITTEN_IN = 12  # classes up to which each cell holds its number
FARTHEST = 600.0  # a logarithm: the exponential of 710 is infinite
SIDES = ("discriminator", "generator")


def confused(counts: pd.DataFrame) -> go.Figure:
    """True classes in rows, predicted ones in columns, coloured by the share of the row.

    `counts` as `confusion` returns it. Small shares are told apart: the colours are not linear.
    """
    figure = blank(min(max(CELL * len(counts), 180), 520) + 90)
    totals = counts.sum(axis=1).to_numpy()[:, None]
    shares = counts.to_numpy() / np.maximum(totals, 1)
    names = [label(str(name), 16) for name in counts.index]
    places = list(range(len(names)))
    figure.add_trace(
        go.Heatmap(
            x=places,
            y=places,
            z=shares.tolist(),
            zmin=0,
            zmax=1,
            colorscale=[[place, color] for place, color in HEAT],
            showscale=False,
            xgap=1,
            ygap=1,
            text=[[_percent(share) for share in row] for row in shares],
            texttemplate="%{text}" if len(names) <= WRITTEN_IN else "",
            textfont={"size": 11},
            hoverinfo="text",
            hovertext=_answered(counts),
        )
    )
    ticks = {"tickvals": places, "ticktext": names, "showgrid": False, "fixedrange": True}
    figure.update_xaxes(**line_axis("Predicted"), **ticks)
    figure.update_yaxes(**line_axis("True"), **ticks, autorange="reversed")
    return figure


def predicted(table: pd.DataFrame, asked: Quantity, look: Look) -> go.Figure:
    """Predicted against true numbers, with the line on which they are equal.

    `table` has target_value, predicted_value and name. Where logarithms are predicted, the axes are
    logarithmic and marked in the quantity itself.
    """
    figure = blank(380)
    values = table[["target_value", "predicted_value"]].to_numpy(dtype=np.float64)
    if asked.is_log:
        values = values.clip(-FARTHEST, FARTHEST)
    pad = 0.04 * float(np.ptp(values)) or 1.0
    ends = np.array([values.min() - pad, values.max() + pad])
    true, found = asked.meant(values).T.tolist()
    axis = {"range": ends.tolist(), "nticks": 7}
    if asked.is_log:
        ticks = log_ticks(*asked.meant(ends).tolist())
        texts = [quantity(tick) for tick in ticks]
        axis = {"type": "log", "range": (ends / np.log(10)).tolist()}
        axis |= {"tickvals": ticks, "ticktext": texts}
    figure.add_trace(line_of_equality(asked.meant(ends).tolist()))
    figure.add_trace(
        go.Scatter(
            x=true,
            y=found,
            mode="markers",
            marker={"symbol": look.symbol, "color": look.color, "size": 6, "opacity": 0.55},
            hoverinfo="text",
            hovertext=[
                f"{label(str(name))}<br>true {quantity(x)}, predicted {quantity(y)}"
                for name, x, y in zip(table["name"], true, found, strict=True)
            ],
        )
    )
    name = shortened(asked.name, 28)
    figure.update_xaxes(**line_axis(f"True {name}"), **axis)
    figure.update_yaxes(**line_axis(f"Predicted {name}"), **axis)
    figure.update_layout(showlegend=False)
    return figure


def code_map(table: pd.DataFrame, classes: Sequence[str]) -> go.Figure:
    """The items at their two code numbers; by class, or coloured by the number to predict.

    `table` has code_1, code_2, name and target.
    """
    figure = blank(520)
    if pd.api.types.is_float_dtype(table["target"]):
        figure.add_trace(_points(table, "items", _shaded(table)))
        figure.update_layout(showlegend=False)
    else:
        own = table["target"].astype(str)
        order = [*(name for name in classes if (own == name).any())]
        order += sorted(set(own) - set(order))
        for place, name in enumerate(order):
            look = class_look(place)
            marker = {"symbol": look.symbol, "color": look.color, "size": 6, "opacity": 0.8}
            figure.add_trace(_points(table[own == name], label(name, 20), marker))
        figure.update_layout(legend_itemsizing="constant")
    figure.update_xaxes(**line_axis("First code number"), nticks=7)
    figure.update_yaxes(**line_axis("Second code number"), nticks=7)
    return figure


def losses(table: pd.DataFrame, looks: Sequence[Look]) -> go.Figure:
    """The training losses of discriminator and generator over the epochs of one training."""
    columns = {side: f"train_loss_{side}" for side in SIDES}
    figure = _over_epochs(table, columns, looks)
    figure.update_yaxes(**line_axis("Training loss"), rangemode="tozero")
    return figure


def scores(table: pd.DataFrame, looks: Sequence[Look]) -> go.Figure:
    """What the discriminator gives real and generated images, with 0.5 as the line of doubt."""
    columns = {"real images": "valid_real_score", "generated images": "valid_fake_score"}
    figure = _over_epochs(table, columns, looks)
    figure.add_hline(y=0.5, line={"color": "var(--muted)", "dash": "dot", "width": 1})
    title = "Mean probability of being real"
    figure.update_yaxes(**line_axis(title), range=[-0.02, 1.02])
    return figure


def _answered(counts: pd.DataFrame) -> list[list[str]]:
    """What each cell of a confusion matrix stands for."""
    names = [label(str(name)) for name in counts.index]
    texts = []
    for true, row in zip(names, counts.to_numpy(dtype=np.int64), strict=True):
        total = int(row.sum())
        texts.append(
            [
                f"true {true}, predicted {predicted}<br>{int(n):,} of {total:,}"
                + (f" ({100 * n / total:.1f}%)" if total else "")
                for predicted, n in zip(names, row, strict=True)
            ]
        )
    return texts


def _over_epochs(table: pd.DataFrame, columns: dict[str, str], looks: Sequence[Look]) -> go.Figure:
    figure = blank(300)
    for (name, column), look in zip(columns.items(), looks, strict=True):
        own = table[table[column].notna()]
        epochs = [int(epoch) for epoch in own["epoch"]]
        figure.add_trace(
            go.Scatter(
                name=name,
                x=epochs,
                y=list(own[column]),
                mode="lines+markers",
                line={"color": look.color, "dash": look.dash, "width": 2},
                marker={"symbol": look.symbol, "color": look.color, "size": 6},
                hoverinfo="text",
                hovertext=[
                    f"{name}, epoch {epoch}<br>{quantity(value)}"
                    for epoch, value in zip(epochs, own[column], strict=True)
                ],
            )
        )
    figure.update_xaxes(**epoch_axis(int(table["epoch"].max())))
    return figure


def _points(table: pd.DataFrame, name: str, marker: dict[str, Any]) -> go.Scatter:
    return go.Scatter(
        name=name,
        x=list(table["code_1"]),
        y=list(table["code_2"]),
        mode="markers",
        marker=marker,
        hoverinfo="text",
        hovertext=[
            f"{_said(row['target'])}<br>{label(str(row['name']))}"
            for row in table.to_dict("records")
        ],
    )


def _shaded(table: pd.DataFrame) -> dict[str, Any]:
    scale = [[0, "var(--family-4)"], [1, "var(--family-0)"]]
    bar = {"title": {"text": "target"}, "thickness": 12, "outlinewidth": 0}
    colors = list(table["target"])
    return {"color": colors, "colorscale": scale, "showscale": True, "colorbar": bar, "size": 6}


def _said(target: object) -> str:
    return quantity(target) if isinstance(target, float) else label(str(target), 20)


def _percent(share: float) -> str:
    if share <= 0:
        return ""
    return "<1" if share < 0.005 else f"{100 * share:.0f}"
