"""What the section on hyperparameters shows: importance over its floor, effects, what to change."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from torchstudy.analysis.boundaries import boundary_flags, dead, literal, pasted
from torchstudy.analysis.effects import effects, shown, tried
from torchstudy.analysis.importance import Weighed, weighed
from torchstudy.analysis.terms import FEWEST, domains_of
from torchstudy.report.axes import scale_of
from torchstudy.report.effect_figures import bars, curve
from torchstudy.report.formats import ABSENT, called, counted, joined, setting, shortened
from torchstudy.report.sections import Content, Table
from torchstudy.report.settings import space_of
from torchstudy.report.story import Story

ROWS = 15  # bars in a figure; the table has all
PLOTS = 12  # of effects on the page
POINTS = 200  # trials drawn beside one curve
NAMED = 6  # hyperparameters in one sentence
NAME_LIMIT = 60


def mattered(story: Story) -> Content:
    """Importance of every family, the largest effects, and changes of the spaces."""
    families = list(dict.fromkeys([*story.selected["family"], *story.results.families]))
    every = [weighed(story.results, str(family)) for family in families]
    judged = [found for found in every if not found.reason]
    drawn: dict[str, go.Figure] = {}
    context: dict[str, Any] = {
        "said": [_said(found) for found in every],
        "panels": [_panel(story, found, drawn) for found in judged],
        "advice": [advice for found in judged for advice in _advice(story, found)],
        **_effects(story, judged, drawn),
    }
    return Content(context=context, figures=drawn)


def percent_of(share: float) -> str:
    """`12%`, `0.4%`, or a dash for what is missing."""
    if share != share:
        return ABSENT
    return f"{share:.1%}" if 0 < share < 0.0095 else f"{share:.0%}"


def _said(found: Weighed) -> str:
    """`CNN: learning_rate (51%) stands above the noise floor of 6%, of 12 hyperparameters ...`."""
    name = called(found.family)
    if found.reason:
        return f"{name}: nothing can be said of its hyperparameters: {found.reason}."
    table = found.table[found.table["importance"].notna()]
    above = table[table["is_above"]]
    among = f"{counted(len(table), 'hyperparameter')}, {counted(len(found.trials), 'trial')}"
    floor = f"the noise floor of {percent_of(_floor(found))}"
    if above.empty:
        return f"{name}: nothing stands above {floor} ({among})."
    words = [
        f"{called(row['hyperparameter'])} ({percent_of(row['importance'])})"
        for row in above.head(NAMED).to_dict("records")
    ]
    words += [f"{len(above) - NAMED} more"] if len(above) > NAMED else []
    verb = "stands" if len(above) == 1 else "stand"
    return f"{name}: {joined(words)} {verb} above {floor} ({among})."


def _floor(found: Weighed) -> float:
    return float(found.table["floor"].iloc[0])


def _panel(story: Story, found: Weighed, drawn: dict[str, go.Figure]) -> dict[str, Any]:
    name = f"importance-{story.results.families.index(found.family)}"
    judged = found.table[found.table["importance"].notna()]
    drawn[name] = bars(judged.head(ROWS), story.looks[found.family])
    return {
        "name": name,
        "family": called(found.family),
        "look": story.looks[found.family],
        "about": list(_about(found)),
        "table": _numbers(found),
    }


def _about(found: Weighed) -> Iterator[str]:
    judged = found.table["importance"].notna()
    raised = int(found.trials["is_raised"].sum())
    yield (
        f"{counted(len(found.trials), 'trial')}"
        + (f", {raised:,} of them stopped early" if raised else "")
        + f"; noise floor {percent_of(_floor(found))}."
    )
    left = found.table[~judged]
    if len(left):
        words = [
            f"{called(row['hyperparameter'])} ({counted(row['n'], 'trial')})"
            for row in left.head(NAMED).to_dict("records")
        ]
        words += [f"{len(left) - NAMED} more"] if len(left) > NAMED else []
        needed = f"it takes two values in {FEWEST} trials, more for many categories"
        yield f"Not judged: {joined(words)}: {needed}."
    if judged.sum() > ROWS:
        yield f"The {ROWS} most important of {judged.sum()} are drawn."


def _numbers(found: Weighed) -> Table:
    rows: list[tuple[str, ...]] = []
    for row in found.table.to_dict("records"):
        known = row["importance"] == row["importance"]
        interval = f"{percent_of(row['low'])} to {percent_of(row['high'])}" if known else ABSENT
        verdict = ("above" if row["is_above"] else "below") if known else "not judged"
        rows.append(
            (
                shortened(row["hyperparameter"], NAME_LIMIT),
                percent_of(row["importance"]),
                interval,
                percent_of(row["floor"]),
                verdict,
                f"{row['n']:,}",
            )
        )
    head = ("Hyperparameter", "Importance", "95% interval", "Noise floor", "Stands", "Trials")
    return Table(head=head, rows=rows)


def _effects(story: Story, judged: list[Weighed], drawn: dict[str, go.Figure]) -> dict[str, Any]:
    scale = scale_of(story.metric, story.split_size("valid"))
    chosen = [(found, name) for found in judged for name in shown(found)]
    by_family = {
        found.family: (effects(story.results, found.family, found), tried(found))
        for found in judged
    }
    entries, rows = [], []
    for number, (found, name) in enumerate(chosen[:PLOTS]):
        lines, points = (
            table[table["hyperparameter"] == name] for table in by_family[found.family]
        )
        key, look = f"effect-{number}", story.looks[found.family]
        few = points.iloc[:: -(-len(points) // POINTS)]
        term = next(term for term in found.terms if term.name == name)
        drawn[key] = curve(lines, few, term.domain, scale, look)
        entries.append(
            {
                "name": key,
                "family": called(found.family),
                "look": look,
                "hyperparameter": shortened(name, NAME_LIMIT),
                "about": _effect_about(found, name, len(few), len(points)),
            }
        )
        rows.append(_line_row(story, found.family, name, lines))
    left = len(chosen) - len(entries)
    return {
        "effects": entries,
        "curves": Table(head=("Line", "Best at", "Score", "Worst at", "Score"), rows=rows),
        "is_log_error": scale.metric.is_share,
        "undrawn": [f"The first {PLOTS} of {len(chosen)} are drawn."] if left else [],
    }


def _effect_about(found: Weighed, name: str, few: int, points: int) -> str:
    row = found.table[found.table["hyperparameter"] == name].iloc[0]
    where = "above" if row["is_above"] else "not above"
    drawn = (
        f"{few} of {points:,} trials are drawn"
        if few < points
        else f"{counted(points, 'trial')} drawn"
    )
    return (
        f"Importance {percent_of(row['importance'])}, {where} the floor of "
        f"{percent_of(row['floor'])}; {drawn}."
    )


def _line_row(story: Story, family: str, name: str, lines: pd.DataFrame) -> tuple[str, ...]:
    order = (story.objective.sign * lines["expected"]).sort_values(kind="stable").index
    worst, best = lines.loc[order[0]], lines.loc[order[-1]]
    cells = [
        cell
        for end in (best, worst)
        for cell in (
            shortened(setting(end["value"]), NAME_LIMIT),
            _with_span(story, end),
        )
    ]
    return (f"{called(family)}: {shortened(name, NAME_LIMIT)}", *cells)


def _with_span(story: Story, end: "pd.Series[Any]") -> str:
    return f"{story.metric.score(end['expected'])} ({story.metric.span(end['low'], end['high'])})"


def _advice(story: Story, found: Weighed) -> Iterator[dict[str, Any]]:
    """Ranges to widen and hyperparameters to fix; what has no effect is not worth widening."""
    shared = {"family": called(found.family), "look": story.looks[found.family]}
    domains = domains_of(space_of(story, found.family))
    fixed = dead(found)
    flags = boundary_flags(found.trials, domains)
    flags = flags[flags["is_flagged"] & ~flags["hyperparameter"].isin(fixed["hyperparameter"])]
    for row in flags.to_dict("records"):
        bound = getattr(domains[row["hyperparameter"]], row["side"])
        yield {
            **shared,
            "title": f"the best {called(row['hyperparameter'])} lies at its bound",
            "sentence": (
                f"{row['near']} of the best {row['n']} of {len(found.trials):,} trials have it "
                f"within 5% of its {_side(row['side'])} bound, {setting(bound)}; by chance it "
                f"would be {row['n'] * row['chance']:.2g}. A wider range:"
            ),
            "paste": pasted(found.family, {row["hyperparameter"]: row["suggestion"]}),
        }
    if len(fixed):
        yield {**shared, **_fixing(found, fixed)}


def _side(side: str) -> str:
    return {"low": "lower", "high": "upper"}[side]


def _fixing(found: Weighed, fixed: pd.DataFrame) -> dict[str, str]:
    names = [called(name) for name in fixed["hyperparameter"].head(NAMED)]
    names += [f"{len(fixed) - NAMED} more"] if len(fixed) > NAMED else []
    values = zip(fixed["hyperparameter"], fixed["value"], strict=True)
    each = "this one" if len(fixed) == 1 else "each"
    return {
        "title": f"no effect of {joined(names)} was seen",
        "sentence": (
            f"In {counted(len(found.trials), 'trial')} the whole interval of {each} lies below the "
            f"noise floor of {percent_of(_floor(found))}: a larger effect would probably have been "
            "seen, a smaller one may be there. Fixed to the best trial's value, trials are left to "
            "the others:"
        ),
        "paste": pasted(found.family, {str(name): literal(value) for name, value in values}),
    }
