"""How the search went: where configurations came from, and what it expected of them."""

from collections.abc import Iterator, Mapping

import pandas as pd
import plotly.graph_objects as go

from torchstudy.analysis.searching import by_origin, epochs_spent, expectations, inside
from torchstudy.report.axes import Scale, label, scale_of
from torchstudy.report.figures import blank, line_of_equality
from torchstudy.report.formats import ABSENT, called, counted, joined
from torchstudy.report.looks import Look
from torchstudy.report.sections import Content, Table
from torchstudy.report.story import Story

ORIGINS = {
    "recipe": "the family's own recipe",
    "good": "named as good by the study",
    "warm": "best in an earlier study",
    "sobol": "spread evenly (Sobol)",
    "near": "around the recipe",
    "model": "proposed by the model",
    "random": "at random",
    "replicate": "once more, with a new seed",
    "promotion": "gone on with",
}
FEWEST = 5  # trials before their number within a range says something
UNRECORDED = "These results were written by a version that did not record its decisions."


def searching(story: Story) -> Content:
    """Decisions by their origin, the epochs they saved, and expectations against results."""
    table = by_origin(story.results)
    if table.empty:
        return Content(context={"table": None, "unrecorded": UNRECORDED})
    expected = expectations(story.results)
    context = {
        "said": [*_decided(table), *_spent(story)],
        "table": _numbers(story, table),
        "expected": None if expected.empty else list(_came_true(expected)),
        "metric": story.metric.on("validation"),
    }
    if expected.empty:
        return Content(context=context)
    scale = scale_of(story.metric, story.split_size("valid"))
    return Content(context=context, figures={"expected": foreseen(expected, scale, story.looks)})


def foreseen(expected: pd.DataFrame, scale: Scale, looks: Mapping[str, Look]) -> go.Figure:
    """What trials reached against what was expected, with the line on which the two are equal.

    `expected` as `expectations` returns it.
    """
    figure = blank(380)
    values = [*expected["expected"], *expected["at_the_end"]]
    places = [place for value in values if (place := scale.place(value)) is not None]
    figure.add_trace(line_of_equality([min(places), max(places)]))
    for family, look in looks.items():
        own = expected[expected["family"] == family]
        if own.empty:
            continue
        figure.add_trace(
            go.Scatter(
                name=label(family),
                x=[scale.place(value) for value in own["expected"]],
                y=[scale.place(value) for value in own["at_the_end"]],
                mode="markers",
                marker={"symbol": look.symbol, "color": look.color, "size": 9},
                hoverinfo="text",
                hovertext=[
                    f"{label(family)}, trial {row['trial']}<br>expected "
                    f"{scale.metric.score(row['expected'], 2)} (give or take "
                    f"{scale.metric.difference(row['spread'])})<br>reached "
                    f"{scale.metric.score(row['at_the_end'], 2)}"
                    for row in own.to_dict("records")
                ],
            )
        )
    figure.update_xaxes(**scale.axis(scale.metric.axis("expected validation"), values))
    figure.update_yaxes(**scale.axis(scale.metric.axis("validation"), values))
    return figure


def _decided(table: pd.DataFrame) -> Iterator[str]:
    """`CNN: 20 new configurations, of which ..., and 8 promotions.`, for each family."""
    for family, own in table.groupby("family", sort=False):
        is_new = own["origin"] != "promotion"
        words = [
            f"{row['decisions']} {ORIGINS.get(row['origin'], row['origin'])}"
            for row in own[is_new].to_dict("records")
        ]
        configurations = counted(int(own.loc[is_new, "decisions"].sum()), "new configuration")
        promotions = counted(int(own.loc[~is_new, "decisions"].sum()), "promotion")
        yield f"{called(str(family))}: {configurations} ({joined(words)}); {promotions}."


def _spent(story: Story) -> Iterator[str]:
    epochs, full = epochs_spent(story.results)
    if 0 < epochs < full:
        yield (
            f"All trials together were trained for {counted(epochs, 'epoch')}; to train every one "
            f"to its end takes {full}."
        )


def _came_true(expected: pd.DataFrame) -> Iterator[str]:
    found, total = inside(expected), len(expected)
    few = "they are too few to judge by"
    right = f"{total / 2:.3g} and {0.9 * total:.3g} would be right"
    yield (
        f"Of {counted(total, 'trial')} of which a value was expected and that came to an end, "
        f"{found[0.5]} ended within the range that was given even odds, and {found[0.9]} within "
        f"the one given 9 in 10: {few if total < FEWEST else right}."
    )


def _numbers(story: Story, table: pd.DataFrame) -> Table:
    return Table(
        head=("Family", "Origin", "Decisions", "Best so far"),
        rows=[
            (
                called(row["family"]),
                ORIGINS.get(row["origin"], row["origin"]),
                str(row["decisions"]),
                story.metric.score(row["best"], 2) if row["best"] == row["best"] else ABSENT,
            )
            for row in table.to_dict("records")
        ],
    )
