"""Where the time went: the parts of trainings, what would save time, and whether workers waited."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from torchstudy.analysis.profile import TIMES, precisions, time_shares, waiting
from torchstudy.report.axes import label, line_axis, row_label
from torchstudy.report.figures import ROW, blank, rows_axis
from torchstudy.report.formats import ABSENT, called, counted, duration, joined, percent
from torchstudy.report.sections import Content, Table
from torchstudy.report.story import Story

WORDS = {
    "start": "start and end",
    "load": "loading",
    "augment": "augmentation",
    "forward": "forward",
    "backward": "backward",
    "step": "optimizer",
    "evaluate": "scoring",
    "checkpoint": "saving",
    "other": "other",
}
ABOUT = {
    "start": "the process, the data, frozen features and the network's costs before; storing the "
    "model after; epochs that were cut off",
    "load": "taking batches from memory",
    "augment": "changing the batches at random",
    "forward": "from a batch to its loss",
    "backward": "from the loss to its gradients",
    "step": "from gradients to new weights",
    "evaluate": "the metrics on the validation split, after every epoch",
    "checkpoint": "what a training needs to go on after an interruption",
    "other": "all else while training: building the network, fitting without gradients, its health",
}
GROUPS = {
    "in forward and backward passes": ("forward", "backward"),
    "in loading and augmenting batches": ("load", "augment"),
    "in the optimizer's steps": ("step",),
    "in scoring the validation split": ("evaluate",),
    "in starting and ending": ("start",),
    "in saving the state of trainings": ("checkpoint",),
    "in other work": ("other",),
}
LEAST_TEXT = 0.08  # a bar's share from which its number fits into it on a narrow screen
NAMED = 4  # families that one sentence names
UNMEASURED = (
    "Times were not measured: either no epoch has finished yet, or these results were written by a "
    "version that did not measure them."
)
PRECISION_WORDS = {"bf16": "bfloat16", "fp32": "float32"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Parts that should stay below a share of a family's time, and what to do where they do not."""

    parts: tuple[str, ...]
    most: float
    what: str
    remedy: str


ADVICE = (
    Advice(
        parts=("load", "augment"),
        most=0.2,
        what="Loading and augmenting batches took",
        remedy="larger batches and fewer kinds of augmentation leave more time for learning",
    ),
    Advice(
        parts=("evaluate",),
        most=0.3,
        what="Scoring the validation split took",
        remedy="a smaller validation split leaves more time for learning",
    ),
    Advice(
        parts=("start",),
        most=0.15,
        what="Starting and ending trainings took",
        remedy="they are short; fewer and longer ones, or fewer workers, waste less",
    ),
)


def times(story: Story) -> Content:
    """Shares of every family's time, the largest of them in sentences, and how workers waited."""
    table = time_shares(story.results)
    around = [one for one in (_waited(story), _precision(story)) if one]
    if table.empty:
        return Content(context={"table": None, "unmeasured": UNMEASURED, "around": around})
    shown = [part for part in TIMES if table.loc[table["part"] == part, "seconds"].sum() > 0]
    context: dict[str, Any] = {
        "said": [_overall(table), *_advice(table)],
        "families": [_largest(family, own) for family, own in _by_family(table).items()],
        "parts": [{"key": part, "words": WORDS[part], "about": ABOUT[part]} for part in shown],
        "table": _numbers(table, shown),
        "around": around,
    }
    return Content(context=context, figures={"shares": shares(table, shown)})


def shares(table: pd.DataFrame, parts: list[str]) -> go.Figure:
    """Stacked bars: how each family's time is divided. `table` as `time_shares` returns it."""
    families = list(dict.fromkeys(table["family"]))
    figure = blank(ROW * len(families) + 66)
    rows = {family: -place for place, family in enumerate(families)}
    for part in parts:
        own = table[table["part"] == part]
        figure.add_trace(
            go.Bar(
                name=WORDS[part],
                orientation="h",
                y=[rows[family] for family in own["family"]],
                x=[float(share) for share in own["share"]],
                text=[percent(share) if share >= LEAST_TEXT else "" for share in own["share"]],
                textposition="inside",
                insidetextanchor="middle",
                textangle=0,
                textfont={"color": "var(--on-part)"},
                width=0.42,
                marker={
                    "color": f"var(--part-{part})",
                    "line": {"color": "var(--surface)", "width": 1},
                },
                hoverinfo="text",
                hovertext=[
                    f"{label(row['family'])}: {WORDS[part]}<br>{row['share']:.1%}, "
                    f"{duration(row['seconds'])}"
                    for row in own.to_dict("records")
                ],
            )
        )
    for family, own in _by_family(table).items():
        text = f"<b>{label(family)}</b>  {duration(_total(own))}"
        figure.add_annotation(**row_label(text, rows[family]))
    figure.update_layout(barmode="stack", showlegend=False, margin_r=24)  # room for half of 100%
    figure.update_xaxes(**line_axis("Share of the family's time"), tickformat=".0%")
    # Rounding may put the end of an axis before its last mark, which is then left out.
    figure.update_xaxes(range=[0, 1.001], tickvals=[0, 0.25, 0.5, 0.75, 1])
    figure.update_yaxes(**rows_axis(len(families)))
    return figure


def _by_family(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {str(family): own for family, own in table.groupby("family", sort=False)}


def _total(own: pd.DataFrame) -> float:
    return float(own["seconds"].sum())


def _overall(table: pd.DataFrame) -> str:
    trainings = sum(int(own["trainings"].iloc[0]) for own in _by_family(table).values())
    where, share = _largest_group(table)
    return (
        f"{counted(trainings, 'training')} of the search and of confirmation took "
        f"{duration(_total(table))} in all, {percent(share)} of it {where}."
    )


def _largest(family: str, own: pd.DataFrame) -> str:
    """`CNN: 61% of 12 min in forward and backward passes (40 trainings)`."""
    where, share = _largest_group(own)
    trainings = counted(int(own["trainings"].iloc[0]), "training")
    return f"{called(family)}: {percent(share)} of {duration(_total(own))} {where} ({trainings})"


def _largest_group(own: pd.DataFrame) -> tuple[str, float]:
    by_group = {where: _share(own, parts) for where, parts in GROUPS.items()}
    where = max(by_group, key=lambda name: by_group[name])
    return where, by_group[where]


def _share(own: pd.DataFrame, parts: tuple[str, ...]) -> float:
    return float(own.loc[own["part"].isin(parts), "seconds"].sum()) / _total(own)


def _advice(table: pd.DataFrame) -> Iterator[str]:
    """For every part that takes too much, the families where it does and what would help."""
    families = _by_family(table)
    for advice in ADVICE:
        found = {family: _share(own, advice.parts) for family, own in families.items()}
        above = {family: share for family, share in found.items() if share > advice.most}
        if above:
            yield f"{advice.what} {_named(above)}: {advice.remedy}."


def _named(above: Mapping[str, float]) -> str:
    """`34% in CNN and 25% in MLP`, the largest shares first and the others counted."""
    largest = sorted(above, key=lambda family: -above[family])
    words = [f"{percent(above[family])} in {called(family)}" for family in largest[:NAMED]]
    rest = len(largest) - NAMED
    return joined([*words, counted(rest, "more family", "more families")] if rest > 0 else words)


def _waited(story: Story) -> str:
    """How long workers had nothing to do, and why; empty where that was not measured."""
    found = waiting(story.results)
    if found is None:
        return ""
    if not found.waited:
        return f"In the search, no worker waited for a proposal in {duration(found.total)} of work."
    why = ""
    if found.computing and found.results:
        why = (
            f": {duration(found.computing)} while one was computed, {duration(found.results)} "
            "for results that the next one builds on"
        )
    return (
        f"In the search, workers waited {duration(found.waited)} of {duration(found.total)} "
        f"({found.share:.1%}) for proposals{why}."
    )


def _precision(story: Story) -> str:
    """In which precision trials multiplied matrices; empty where that is unknown."""
    counts = precisions(story.results)
    total = sum(counts.values())
    if not total:
        return ""
    if len(counts) == 1:
        name = next(iter(counts))
        which = "The only trial" if total == 1 else f"All {total:,} trials"
        return f"{which} multiplied matrices in {PRECISION_WORDS.get(name, name)}."
    few = counts.get("bf16", 0)
    return (
        f"Multiplied in bfloat16: {few:,} of {counted(total, 'trial')}, those with networks large "
        "enough to gain from it; the others in float32."
    )


def _numbers(table: pd.DataFrame, parts: list[str]) -> Table:
    rows = []
    for family, own in _by_family(table).items():
        by_part = own.set_index("part")
        cells = [_cell(by_part.at[part, "seconds"], by_part.at[part, "share"]) for part in parts]
        trainings = f"{int(own['trainings'].iloc[0]):,}"
        rows.append((called(family), trainings, duration(_total(own)), *cells))
    heads = [WORDS[part].capitalize() for part in parts]
    return Table(head=("Family", "Trainings", "In all", *heads), rows=rows)


def _cell(seconds: Any, share: Any) -> str:
    return f"{duration(seconds)} ({percent(share)})" if seconds else ABSENT
