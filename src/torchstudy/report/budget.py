"""Would more budget help? Learning curves, and what fewer and more trials would bring."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from torchstudy.analysis.optimism import expected_best
from torchstudy.analysis.progress import learning_curves
from torchstudy.analysis.searching import outlook
from torchstudy.records import COUNTS
from torchstudy.report import figures, sentences
from torchstudy.report.axes import Scale, label, line_axis, scale_of
from torchstudy.report.figures import blank, family_group
from torchstudy.report.formats import called, counted, metric_of
from torchstudy.report.looks import Look
from torchstudy.report.sections import Content, Table
from torchstudy.report.story import Story

NO_LESS = 1e-6  # of a value: a difference that comes of rounding


def curves(story: Story) -> Content:
    """Learning curves of the search, and what fewer and more trials would bring."""
    metric, rows = metric_of(story.learned), story.curves
    bands = learning_curves(rows)
    if bands.empty or metric.name in COUNTS:
        nothing: dict[str, Any] = {
            "table": None,
            "metric": metric.on("validation"),
            "is_counted": metric.name in COUNTS,
        }
        return Content(context=nothing)
    keys = story.selected[["family", "trial"]]
    best = rows.merge(keys.astype({"trial": "Int64"}), on=["family", "trial"])
    scale = scale_of(metric, story.split_size("valid"))
    ends = pd.concat([part.tail(1) for _, part in _by_family(story, bands)])
    table = Table(
        head=("Family", "Last epoch", "Median", "10% to 90%", "Trainings"),
        rows=[
            (
                called(row["family"]),
                str(row["epoch"]),
                metric.score(row["median"], 2),
                f"{metric.score(row['low'], 2)} to {metric.score(row['high'], 2)}",
                str(row["n"]),
            )
            for row in ends.to_dict("records")
        ],
    )
    trials = rows.groupby("family")["trial"].nunique()
    fewer, figure = _fewer(story)
    context = {
        "fewer": fewer,
        "rooms": _rooms(story, best),
        "outlook": _outlook(story),
        "table": table,
        "trials": counted(int(trials.sum()), "training"),
        "metric": metric.on("validation"),
        "is_log_error": metric.is_share,
    }
    drawn = {"curves": figures.curves(bands, best, scale, story.looks), **figure}
    return Content(context=context, figures=drawn)


def any_order(table: pd.DataFrame, scale: Scale, looks: Mapping[str, Look]) -> go.Figure:
    """The expected best value against the number of trials; `table` as `expected_best` has it."""
    figure = blank(340)
    for family, look in looks.items():
        own = table[table["family"] == family]
        if own.empty:
            continue
        figure.add_trace(
            go.Scatter(
                name=label(family),
                legendgroup=family_group(look),
                x=[int(k) for k in own["trials"]],
                y=[scale.place(value) for value in own["best"]],
                mode="lines",
                line={"color": look.color, "dash": look.dash, "width": 2.5},
                hoverinfo="text",
                hovertext=[
                    f"{label(family)}, {counted(int(row['trials']), 'trial')}<br>"
                    f"{scale.metric.score(row['best'], 2)} on average"
                    for row in own.to_dict("records")
                ],
            )
        )
    figure.update_xaxes(**line_axis("Trials, drawn at random"))
    figure.update_yaxes(**scale.axis(scale.metric.axis("expected best validation"), table["best"]))
    return figure


def _fewer(story: Story) -> tuple[dict[str, object] | None, dict[str, go.Figure]]:
    """What the template shows of the expected best, and its figure; nothing for few trials.

    Where there are bounds the best value is not all that counts.
    """
    table = expected_best(story.results)
    if table.empty or story.results.bounds:
        return None, {}
    scale = scale_of(story.metric, story.split_size("valid"))
    context = {"said": list(_said(story, table)), "table": _numbers(story, table)}
    return context, {"fewer": any_order(table, scale, story.looks)}


def _said(story: Story, table: pd.DataFrame) -> Iterator[str]:
    """`Half of CNN's 20 trials, drawn at random, would have brought 97.1% on average ...`."""
    metric = story.metric
    for family in story.results.families:
        own = table[table["family"] == family]
        if own.empty:
            continue
        total, best = int(own["trials"].iloc[-1]), float(own["best"].iloc[-1])
        half = own[own["trials"] <= max(1, total // 2)].iloc[-1]
        less = story.objective.sign * (best - float(half["best"]))
        is_less = less > NO_LESS * abs(best)
        yield (
            f"{called(family)}: {int(half['trials'])} of its {total} trials, drawn at random, "
            f"would have brought {metric.score(float(half['best']), 2)} on average, "
            f"{f'{metric.difference(less)} worse than' if is_less else 'as good as'} all of them."
        )


def _numbers(story: Story, table: pd.DataFrame) -> Table:
    return Table(
        head=("Family", "Trials", "Expected best"),
        rows=[
            (called(row["family"]), str(row["trials"]), story.metric.score(row["best"], 2))
            for row in table.to_dict("records")
        ],
    )


def _by_family(story: Story, table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    parts = [(family, table[table["family"] == family]) for family in story.results.families]
    return [(family, part) for family, part in parts if len(part)]


def _outlook(story: Story) -> list[str]:
    several = len(story.results.objectives) > 1
    if several or story.results.bounds:  # proposals were not made for the first objective alone
        return []
    return [
        f"{called(row['family'])}: another {row['trials']} trials would probably bring less than "
        f"{story.metric.difference(row['gain'])}."
        for row in outlook(story.results).to_dict("records")
    ]


def _rooms(story: Story, best: pd.DataFrame) -> list[str]:
    if story.objective.metric in COUNTS:  # the same after every epoch
        return []
    recorded = story.trials.set_index(["family", "trial"])["best_epoch"].dropna()
    said = []
    for family, own in _by_family(story, best):
        trial, values = int(own["trial"].iloc[0]), [float(value) for value in own["value"]]
        epoch = recorded.get((family, trial))
        said.append(
            sentences.room(family, trial, values, epoch, story.metric, story.objective.sign)
        )
    return said
