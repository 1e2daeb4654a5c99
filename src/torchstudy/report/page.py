"""The report as one HTML file; a section that cannot be drawn spares the others."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from torchstudy.analysis.tables import Results, read_results
from torchstudy.files import write_text
from torchstudy.repeats import repeat_title
from torchstudy.report import (
    budget,
    details,
    exhibits,
    mattered,
    searching,
    sections,
    time,
    tradeoffs,
    trouble,
)
from torchstudy.report.figures import drawable
from torchstudy.report.packing import (
    json_object,
    json_text,
    packed,
    packed_plotly,
    plotly_script,
    policy,
)
from torchstudy.report.sections import Content
from torchstudy.report.story import Story
from torchstudy.visible import visible

HERE = Path(__file__).parent
ASSETS = HERE / "assets"
SCRIPTS = ("filtering.js", "parallel.js", "drawer.js", "script.js")
LIVE = "live.js"  # only where there may be a newer page


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section: its anchor (also the name of its template), its words, and what fills it."""

    anchor: str
    nav: str
    title: str
    content: Callable[[Story], Content]
    concerns: Callable[[Story], bool] = lambda story: True  # whether the study has anything for it


SECTIONS = (
    Section(anchor="verdict", nav="Verdict", title="Verdict", content=sections.verdict),
    Section(
        anchor="families",
        nav="Which family",
        title="Which family wins, and is it real?",
        content=sections.families,
    ),
    Section(
        anchor="configurations",
        nav="Best configurations",
        title="Which configuration is best?",
        content=sections.configurations,
    ),
    Section(
        anchor="tradeoffs",
        nav="Trade-offs",
        title="What is given up for what?",
        content=tradeoffs.tradeoffs,
        concerns=tradeoffs.is_traded_off,
    ),
    Section(
        anchor="curves",
        nav="Learning curves",
        title="Would more budget help?",
        content=budget.curves,
    ),
    Section(
        anchor="mattered",
        nav="What mattered",
        title="What mattered?",
        content=mattered.mattered,
    ),
    Section(
        anchor="exhibits",
        nav="What they do",
        title="What do the models do?",
        content=exhibits.exhibits,
    ),
    Section(anchor="trials", nav="Every trial", title="Every trial", content=details.trials),
    Section(
        anchor="failures",
        nav="What went wrong",
        title="What went wrong, and why?",
        content=trouble.failures,
    ),
    Section(
        anchor="time",
        nav="Where time went",
        title="Where did the time go?",
        content=time.times,
    ),
    Section(
        anchor="search",
        nav="How it was searched",
        title="How was it searched?",
        content=searching.searching,
    ),
    Section(anchor="method", nav="Method", title="Method and provenance", content=details.method),
)


def render(results: Results) -> str:
    """The report as HTML; the same results give the same bytes."""
    story, is_live = Story(results), results.summary.get("state") == "running"
    figures: dict[str, str] = {}
    data: dict[str, str] = {}
    shown = [section for section in SECTIONS if section.concerns(story)]
    bodies = [_body(section, story, figures, data) for section in shown]
    script, plotly = page_script(is_live=is_live), plotly_script()
    curves = data.pop("curves", "null")  # unpacked when the first drawer opens, not before
    return (
        _templates()
        .get_template("page.html")
        .render(
            study=repeat_title(str(results.summary["study"]), results.summary.get("repeat", 1)),
            sections=list(zip(shown, bodies, strict=True)),
            policy=policy([script, plotly], asks_its_server=is_live),
            is_live=is_live,
            style=Markup((ASSETS / "style.css").read_text(encoding="utf-8")),
            script=Markup(script),
            packed_plotly=packed_plotly(),
            packed_figures=packed(json_object(figures)),
            packed_data=packed(json_object(data)),
            packed_curves=packed(curves),
            version=str((results.summary.get("versions") or {}).get("torchstudy", "")),
        )
    )


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Draw the report of a folder of results; where it was written (`folder/report.html`)."""
    path = out or folder / "report.html"
    write_text(path, render(read_results(folder)))
    return path


@functools.cache
def page_script(*, is_live: bool = False) -> str:
    """The page's own script: what it is made of, then what starts it."""
    names = (*SCRIPTS, LIVE) if is_live else SCRIPTS
    return "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in names)


def _body(section: Section, story: Story, figures: dict[str, str], data: dict[str, str]) -> Markup:
    """A section, or why there is none; what it draws and its data are added as JSON."""
    template: Any = _templates().get_template(f"{section.anchor}.html").module
    try:
        content = section.content(story)
        body = template.section(content.context, section.title)
        drawn = {name: json_text(drawable(each)) for name, each in content.figures.items()}
        written = {name: json_text(value) for name, value in content.data.items()}
    except Exception as error:  # shown in the section's place
        parts: Any = _templates().get_template("parts.html").module
        return Markup(parts.broken(section, f"{type(error).__name__}: {error}"))
    figures.update(drawn)
    data.update(written)
    return Markup(body)


def _harmless(value: Any) -> Any:
    """What a template writes: text with its hidden characters as escapes, all else as it is."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        finalize=_harmless,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
