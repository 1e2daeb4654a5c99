"""Several objectives: which trials no other beats in all of them, and what each gives up."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from torchstudy.analysis.front import column, completed_values, front
from torchstudy.records import Objective
from torchstudy.report.axes import Scale, label, scale_of
from torchstudy.report.figures import blank
from torchstudy.report.formats import called, counted, joined, metric_of
from torchstudy.report.looks import Look
from torchstudy.report.sections import Content, Table
from torchstudy.report.story import Story


def is_traded_off(story: Story) -> bool:
    """Whether the study has more than one objective."""
    return len(story.results.objectives) > 1


def tradeoffs(story: Story) -> Content:
    """The Pareto front as a table, and a figure of each other objective against the first."""
    best, trials = front(story.results), _completed(story)
    if best.empty:
        return Content(context={"said": [], "table": None, "figures": []})
    first, *others = story.results.objectives
    drawn = {
        f"tradeoff-{place}": against(trials, best, (first, other), _scales(story), story.looks)
        for place, other in enumerate(others)
    }
    context = {
        "said": list(_said(story, trials, best)),
        "table": _numbers(story, best),
        "figures": [
            (name, f"{metric_of(first).title('validation')} against {metric_of(other).words}")
            for name, other in zip(drawn, others, strict=True)
        ],
    }
    return Content(context=context, figures=drawn)


def against(
    trials: pd.DataFrame,
    best: pd.DataFrame,
    pair: tuple[Objective, Objective],
    scales: Mapping[str, Scale],
    looks: Mapping[str, Look],
) -> go.Figure:
    """The first objective of `pair` (up) against the other (across), a mark per trial.

    `trials` has family, trial and a column per objective; `best` is the front, whose marks are
    filled, and joined by a line where there are only two objectives.
    """
    up, across = (scales[objective.metric] for objective in pair)
    tall, wide = map(column, pair)
    figure = blank(420)
    if len(scales) == 2:
        along = best.sort_values(wide, kind="stable")
        figure.add_trace(
            go.Scatter(
                x=[across.place(value) for value in along[wide]],
                y=[up.place(value) for value in along[tall]],
                mode="lines",
                line={
                    "color": "var(--muted)",
                    "width": 1.5,
                    "dash": "dot",
                    "shape": "vh" if pair[1].sign > 0 else "hv",  # what is to be had, mark by mark
                },
                hoverinfo="skip",
                showlegend=False,
            )
        )
    keys = set(zip(best["family"], best["trial"], strict=True))
    for family, look in looks.items():
        own = trials[trials["family"] == family]
        if own.empty:
            continue
        is_best = [(family, number) in keys for number in own["trial"]]
        figure.add_trace(
            go.Scatter(
                name=label(family),
                x=[across.place(value) for value in own[wide]],
                y=[up.place(value) for value in own[tall]],
                mode="markers",
                marker={
                    "symbol": look.symbol,
                    "color": look.color,
                    "size": [12 if each else 7 for each in is_best],
                    "opacity": [1.0 if each else 0.4 for each in is_best],
                },
                hoverinfo="text",
                hovertext=[_mark(row, scales) for row in own.to_dict("records")],
            )
        )
    figure.update_xaxes(**across.axis(across.metric.axis("validation"), trials[wide]))
    figure.update_yaxes(**up.axis(up.metric.axis("validation"), trials[tall]))
    return figure


def _mark(row: Mapping[Any, Any], scales: Mapping[str, Scale]) -> str:
    lines = [f"{label(str(row['family']))}, trial {row['trial']}"]
    for scale in scales.values():
        name = scale.metric.name if scale.metric.is_cost else f"valid_{scale.metric.name}"
        lines.append(f"{scale.metric.on('validation')} {scale.metric.score(row[name], 2)}")
    return "<br>".join(lines)


def _completed(story: Story) -> pd.DataFrame:
    """Family and trial of the completed trials that have every objective, with their values."""
    values = completed_values(story.trials, story.results.objectives)
    return pd.concat([story.trials.loc[values.index, ["family", "trial"]], values], axis=1)


def _scales(story: Story) -> dict[str, Scale]:
    items = story.split_size("valid")
    return {each.metric: scale_of(metric_of(each), items) for each in story.results.objectives}


def _said(story: Story, trials: pd.DataFrame, best: pd.DataFrame) -> Iterator[str]:
    objectives = story.results.objectives
    names = joined([metric_of(objective).words for objective in objectives])
    verb = "is" if len(best) == 1 else "are"
    yield (
        f"Of {counted(len(trials), 'completed trial')}, {len(best)} {verb} not beaten by another "
        f"that is as good in {names} and better in one of them."
    )
    for objective in objectives:
        values = best[column(objective)]
        row = best.iloc[int((objective.sign * values).argmax())]
        shown = [
            f"{metric_of(each).words} {metric_of(each).score(float(row[column(each)]), 2)}"
            for each in objectives
        ]
        place = f"{called(str(row['family']))}, trial {row['trial']}"
        yield f"Best in {metric_of(objective).words}: {place} ({joined(shown)})."


def _numbers(story: Story, best: pd.DataFrame) -> Table:
    objectives = story.results.objectives
    return Table(
        head=("Family", "Trial", *(metric_of(each).title("validation") for each in objectives)),
        rows=[
            (
                called(str(row["family"])),
                str(row["trial"]),
                *(metric_of(each).score(float(row[column(each)]), 2) for each in objectives),
            )
            for row in best.to_dict("records")
        ],
    )
