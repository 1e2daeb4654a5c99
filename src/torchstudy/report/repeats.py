"""What repeated searches say of the families: sentences, tiles, a figure and its numbers."""

from dataclasses import replace
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from torchstudy.analysis.repeats import SEARCHES_ONLY, Contrast, width_factor
from torchstudy.report import sentences
from torchstudy.report.axes import label, line_axis, row_label
from torchstudy.report.figures import ROW, blank, interval_mark, rows_axis, score_label
from torchstudy.report.formats import ABSENT, Metric, called, capital, counted, duration, joined
from torchstudy.report.looks import Look
from torchstudy.report.sentences import Verdict, is_level, lead, scored
from torchstudy.report.story import Story

FEW = 5  # searches of which it is said that they are few


def verdict(story: Story) -> Verdict:
    """What the study found: over its searches where there are several, else in the one."""
    if story.results.summary.get("repeat", 1) > 1:
        return _one_of_several(story)
    if story.searches.empty:
        return _uncompared(story)
    return _contest(story) if story.contrasts else _alone(story)


def tiles(story: Story) -> list[dict[str, str]]:
    """Score, lead, trials and time over all searches; none where there is one."""
    if story.searches.empty:
        return []
    row, metric, table = story.searches.iloc[0], story.metric, story.results.repeats
    searches = _searches(int(row["searches"]))
    lead_tile = {
        "label": "Lead over the next family",
        "value": ABSENT,
        "note": "no other to compare",
    }
    if story.contrasts:
        found = story.contrasts[0]
        interval = f"95% interval {metric.bound(found.low)} to {metric.bound(found.high)}"
        note = f"over {called(found.b)}; {interval}, {_searches(found.searches)}"
        lead_tile |= {"value": metric.difference(found.difference), "note": note}
    in_all = f"in {_searches(int(table['repeat'].nunique()))}"
    return [
        {
            "label": capital(metric.on("test")),
            "value": metric.score(row["mean"]),
            "note": f"95% interval {metric.span(row['low'], row['high'])} over {searches}",
        },
        lead_tile,
        {"label": "Trials", "value": f"{int(table['trials'].sum()):,}", "note": in_all},
        {
            "label": "Training time",
            "value": duration(float(table["seconds"].sum())),
            "note": f"{in_all}, confirmations included",
        },
    ]


def searched(story: Story) -> dict[str, Any] | None:
    """What the card on the searches is given; None where there is one search."""
    if story.searches.empty:
        return None
    pages = "repeats/2/report.html" + (" and on" if _most(story) > 2 else "")
    return {
        "title": f"Score over {_searches(_most(story))}",
        "about": (
            "Each open mark is one whole search: the same data and splits, its own seeds, nothing "
            "known of the others. Filled mark and bar: mean and 95% interval over searches"
            f"{_and_items(story)}.",
            "Everything below and in the other sections is of the first search; the others have "
            f"pages of their own ({pages}).",
        ),
        "head": (
            *("Family", "Searches", "Trials each", "Test mean", "95% interval"),
            *("Single searches", "Behind"),
        ),
        "rows": _rows(story),
    }


def figure(story: Story) -> go.Figure:
    """Per family, best on top: a mark for each search, mean and interval."""
    drawn, metric = blank(ROW * len(story.searches) + 84), story.metric
    for place, row in enumerate(story.searches.to_dict("records")):
        look = story.looks[row["family"]]
        drawn.add_trace(_marks(row, -place, look, metric))
        over = f" over {_searches(row['searches'])}"
        drawn.add_trace(interval_mark(row, -place, look, metric, over))
        drawn.add_annotation(**row_label(score_label(row, metric), -place))
    drawn.update_xaxes(**line_axis(metric.axis("test")), nticks=6)
    if metric.is_accuracy:
        drawn.update_xaxes(tickformat=".1~%")
    drawn.update_yaxes(**rows_axis(len(story.searches)))
    drawn.update_layout(showlegend=False)
    return drawn


def _contest(story: Story) -> Verdict:
    metric, top, found = story.metric, story.searches.iloc[0], story.contrasts
    own = f"{called(top['family'])} has {scored(metric, top['mean'], 'test')}"
    tied = [contrast for contrast in found if not contrast.is_separable]
    if tied:
        names = joined([called(name) for name in (top["family"], *(each.b for each in tied))])
        title = f"{names} are not separable over {_searches(tied[0].searches)}"
        ahead = f"is ahead of {called(tied[0].b)} by {lead(tied[0], metric)}"
        first = f"{own} and {ahead}: another few searches could say otherwise."
        if is_level(tied[0], metric):
            first = f"{own}, and so has {called(tied[0].b)}."
        others = [contrast for contrast in found if contrast.is_separable]
    else:
        over = f"over {_searches(found[0].searches)}"
        title = f"{called(top['family'])} wins {over}: {scored(metric, top['mean'], 'test')}"
        first = f"It beats {called(found[0].b)} by {lead(found[0], metric)} {over}."
        others = found[1:]
    said = [first]
    if others:
        behind = joined([f"{called(each.b)} by {lead(each, metric)}" for each in others])
        said.append(f"Clearly behind: {behind}.")
    return Verdict(title=title, sentences=(*said, _basis(story, found[0]), *_rest(story)))


def _one_of_several(story: Story) -> Verdict:
    """What a further search found, and where all of them are compared."""
    found, number = sentences.verdict(story), story.results.summary["repeat"]
    whole = (
        f"This is search {number} of the study alone; its report (../../report.html) compares all."
    )
    return replace(found, sentences=(whole, *found.sentences))


def _uncompared(story: Story) -> Verdict:
    """What the first search found, and that further ones have no scores to compare."""
    found, count = sentences.verdict(story), story.results.repeats["repeat"].nunique()
    if count < 2:
        return found
    lacking = (
        f"{capital(_searches(count))} have begun; families are compared over searches once two of "
        "them have confirmed scores. What each found is in the table of repeats."
    )
    return replace(found, sentences=(*found.sentences, lacking))


def _alone(story: Story) -> Verdict:
    row, metric = story.searches.iloc[0], story.metric
    over = f"over {_searches(int(row['searches']))}{_and_items(story)}"
    interval = f"95% interval {metric.span(row['low'], row['high'])} {over}."
    title = f"{called(row['family'])}: {scored(metric, row['mean'], 'test')}"
    alone = ["There is no other family to compare."] if len(story.results.families) == 1 else []
    return Verdict(title=title, sentences=(interval, *alone, *_rest(story)))


def _basis(story: Story, contrast: Contrast) -> str:
    """How the differences were measured: searches, seeds, test items, correction."""
    seeds = sum(contrast.seeds)
    text = (
        f"Measured over {_searches(contrast.searches)} of either family, paired, with "
        f"{counted(seeds, 'fresh seed')} in all"
    )
    if contrast.basis != SEARCHES_ONLY:
        text += f", on the same {counted(contrast.items, f'test {story.noun}')}"
    elif not story.metric.is_cost:
        text += f"; the chance in the choice of the test {story.noun}s is left out"
    if contrast.num_compared > 1:
        text += f"; p is Holm-corrected for {contrast.num_compared} pairs of families"
    return f"{text}."


def _rest(story: Story) -> list[str]:
    """How few the searches are, how unequal, and who is left out."""
    said, searches = [], int(story.searches["searches"].min())
    if searches <= FEW:
        said.append(
            f"{capital(_searches(searches))} say little about their own scatter: their interval "
            f"goes {width_factor(searches):.2f} standard errors to either side, where that of many "
            "searches goes 1.96."
        )
    trials = story.results.repeats.groupby("family", observed=True)["trials"]
    unequal = trials.nunique()[lambda count: count > 1].index
    for family in story.searches["family"][story.searches["family"].isin(unequal)]:
        low, high = trials.min()[family], trials.max()[family]
        said.append(
            f"The searches of {called(family)} are not equally long: {low} to {high} trials."
        )
    compared = set(story.searches["family"])
    missing = [called(name) for name in story.results.families if name not in compared]
    if missing:
        have = "has" if len(missing) == 1 else "have"
        said.append(
            f"{joined(missing)} {have} a test score from fewer than two searches, and so no place "
            "in this comparison."
        )
    return said


def _rows(story: Story) -> list[tuple[str, ...]]:
    behind = {found.b: lead(found, story.metric) for found in story.contrasts}
    metric = story.metric
    return [
        (
            called(row["family"]),
            str(row["searches"]),
            _trials(story.results.repeats, row["family"]),
            metric.score(row["mean"], 2),
            metric.span(row["low"], row["high"]),
            ", ".join(metric.score(score, 2) for score in row["scores"]),
            behind.get(row["family"], ABSENT),
        )
        for row in story.searches.to_dict("records")
    ]


def _trials(table: pd.DataFrame, family: str) -> str:
    own = table.loc[table["family"] == family, "trials"].dropna()
    low, high = int(own.min()), int(own.max())
    return str(low) if low == high else f"{low} to {high}"


def _marks(row: Any, y: int, look: Look, metric: Metric) -> go.Scatter:
    return go.Scatter(
        x=list(row["scores"]),
        y=[y] * len(row["scores"]),
        mode="markers",
        marker={"symbol": f"{look.symbol}-open", "size": 11, "color": look.color},
        hoverinfo="text",
        hovertext=[
            f"{label(row['family'])}, search {repeat}<br>{metric.score(score, 2)}"
            for repeat, score in zip(row["repeats"], row["scores"], strict=True)
        ],
    )


def _searches(count: int) -> str:
    return counted(count, "search", "searches")


def _most(story: Story) -> int:
    return int(story.searches["searches"].max())


def _and_items(story: Story) -> str:
    """`and 270 test images` where the interval covers other ones."""
    items = int(story.searches["items"].iloc[0])
    return f" and {counted(items, f'test {story.noun}')}" if items else ""
