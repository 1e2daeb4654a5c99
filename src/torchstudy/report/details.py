"""What each section shows: every trial, and how it was all done."""

import math
from typing import Any

import pandas as pd

from torchstudy.analysis.tables import CONFIG
from torchstudy.records import COUNTS, Status
from torchstudy.report import figures, sentences
from torchstudy.report.axes import scale_of
from torchstudy.report.bounds import bound_words, limit_words
from torchstudy.report.examples import shown_examples
from torchstudy.report.formats import called, capital, metric_of, shortened
from torchstudy.report.looks import status_words
from torchstudy.report.parallel import example, parallel_plots
from torchstudy.report.provenance import environment_sentences, has_several
from torchstudy.report.readings import readings
from torchstudy.report.searching import ORIGINS
from torchstudy.report.sections import Content, Table
from torchstudy.report.settings import fixed, shown_columns, space_rows
from torchstudy.report.story import Story
from torchstudy.report.trial_curves import curve_figure, trial_curves
from torchstudy.values import plain

TEXT_LIMIT = 400  # characters of one cell on the page; the tables hold all
SPACE_HEAD = ("Hyperparameter", "Type", "Range", "Scale", "Recipe", "Only if")


def trials(story: Story) -> Content:
    """All trials: filters, value against training time, parallel coordinates, table and drawer."""
    table = story.trials
    if table.empty:
        return Content(context={"n": 0})
    points = pd.DataFrame(
        {
            "family": table["family"],
            "trial": table["trial"],
            "status": table["status"].astype(str),
            "seconds": table["seconds"],
            "value": story.results.values,
            "row": range(len(table)),
        }
    )
    drawable = points[points["value"].notna() & (points["seconds"] > 0)]
    scale = scale_of(story.metric, story.split_size("valid"))
    known = [status for status in Status if status in story.status_counts]
    context = {
        "n": len(table),
        "num_drawn": len(drawable),
        "families": [
            {"name": name, "look": story.looks[name], "place": place}
            for place, name in enumerate(story.results.families)
        ],
        "statuses": [{"key": str(status), "name": status_words(status)} for status in known],
        "metric": capital(story.metric.on("validation")),
    }
    drawn = {} if drawable.empty else {"cost": figures.cost(drawable, scale, story.looks)}
    data = _trial_data(story)
    context["parallel"] = [
        {
            "place": plot["family"],
            "family": called(story.results.families[plot["family"]]),
            "look": story.looks[story.results.families[plot["family"]]],
        }
        for plot in data["parallel"]
    ]
    context["example"] = example(data["parallel"], [column["key"] for column in data["columns"]])
    return Content(
        context=context,
        figures={**drawn, "trial-curve": curve_figure(story)},
        data={"trials": data, "curves": {**trial_curves(story), "examples": shown_examples(story)}},
    )


def method(story: Story) -> Content:
    """Data, splits, seeds, budget, spaces, versions and machine."""
    summary = story.results.summary
    families: dict[str, Any] = summary["families"]
    spaces = [
        {
            "family": called(name),
            "look": story.looks[name],
            "notes": given.get("notes") or [],
            "is_exhausted": bool(given.get("exhausted")),
            "table": Table(head=SPACE_HEAD, rows=space_rows(story, name)),
            "fixed": fixed(story, name),
        }
        for name, given in families.items()
    ]
    facts = [
        ("Data", _data_facts(summary.get("data") or {}, story.noun)),
        ("Procedure", _procedure_facts(story)),
        ("Versions", [(str(name), str(v)) for name, v in (summary.get("versions") or {}).items()]),
        ("Machine", _machine_facts(summary.get("machine") or {})),
    ]
    notes = list((summary.get("data") or {}).get("notes") or [])
    notes += environment_sentences(story)
    context = {
        "facts": facts,
        "spaces": spaces,
        "notes": notes,
        "is_counted": story.metric.name in COUNTS,
        "has_items": bool(story.scores["items"].gt(0).any()),
        "noun": story.noun,
    }
    return Content(context=context)


def _trial_data(story: Story) -> dict[str, Any]:
    table = story.trials.assign(value=story.results.values)
    columns = [
        ("trial", "Trial", "number"),
        ("family", "Family", "family"),
        ("value", story.metric.title("best"), _kind_of(story)),
        ("status", "Status", "status"),
        ("epochs", "Epochs", "number"),
        ("seconds", "Time", "seconds"),
        ("parameters", "Parameters", "integer"),
        ("origin", "Origin", "origin"),
    ]
    for name in shown_columns(story):
        is_number = pd.api.types.is_numeric_dtype(table[name]) and table[name].dtype != "boolean"
        columns.append((name, name.removeprefix(CONFIG), "number" if is_number else "text"))
    if has_several(story):
        columns.append(("environment", "Environment", "text"))
    columns.append(("reason", "Reason", "text"))
    if "diagnosis" in table:
        columns.append(("diagnosis", "Diagnosis", "text"))
    names = story.results.families
    table["family"] = table["family"].map(names.index)
    table = table[[key for key, _, _ in columns]]
    return {
        "study": str(story.results.summary["study"]),
        "columns": [{"key": key, "label": label, "kind": kind} for key, label, kind in columns],
        "rows": list(map(list, zip(*(_cells(table[key]) for key, _, _ in columns), strict=True))),
        "families": [
            {"name": name, "symbol": story.looks[name].symbol, "color": story.looks[name].index}
            for name in names
        ],
        "parallel": parallel_plots(story, [key for key, _, _ in columns]),
        "metric": story.metric.words,
        "curve_words": capital(metric_of(story.learned).on("validation")),
        "words": {str(status): status_words(status) for status in Status},
        "origins": ORIGINS,
        "maximize": story.objective.direction == "maximize",
    }


def _kind_of(story: Story) -> str:
    """How the objective is written in the table."""
    if story.metric.is_accuracy:
        return "percent"
    return "integer" if story.metric.name == "parameters" else "number"


def _cells(column: "pd.Series[Any]") -> list[Any]:
    """A column as JSON has it: null for what is missing or not finite, long text cut."""
    pairs = zip(column.tolist(), column.isna().tolist(), strict=True)
    return [None if is_missing else _cell(plain(value)) for value, is_missing in pairs]


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return value[:TEXT_LIMIT]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _data_facts(data: dict[str, Any], noun: str) -> list[tuple[str, str]]:
    classes = [str(name) for name in data.get("classes") or []]
    columns = [str(name) for name in data.get("columns") or []]
    views = f"{data['views']} per item, " if data.get("views", 1) > 1 else ""
    size = f"{views}{data.get('channels')} x {data.get('height')} x {data.get('width')}"
    splits = [f"{name} {n:,}" for name, n in (data.get("splits") or {}).items()]
    facts = {
        "source": str(data.get("source", "unknown")),
        "image (channels x height x width)": size if data.get("channels", 1) else "",
        "columns": f"{len(columns)}: {', '.join(columns)}" if columns else "",
        "classes": f"{len(classes)}: {', '.join(classes)}" if classes else "",
        "predicted number": "" if classes else str(data.get("target", "")),
        f"{noun}s per split": ", ".join(splits),
        "fingerprint": str(data.get("fingerprint", "unknown")),
    }
    return [(key, shortened(text, TEXT_LIMIT)) for key, text in facts.items() if text]


def _procedure_facts(story: Story) -> list[tuple[str, str]]:
    summary = story.results.summary
    budget = summary.get("budget") or {}
    minutes = budget.get("minutes")
    return [
        *(
            ("objective", f"{each.direction} {metric_of(each).words}")
            for each in story.results.objectives
        ),
        *(("bound", bound_words(bound)) for bound in story.results.bounds),
        *(("limit", limit_words(*limit)) for limit in (summary.get("limits") or {}).items()),
        (
            "search",
            f"{budget.get('trials')} trials per family, up to {budget.get('epochs')} epochs",
        ),
        ("time limit", f"{minutes} minutes" if minutes else "none"),
        ("confirmation", sentences.confirmation(story)),
        *(("test split read", text) for text in readings(story)),
        ("study seed", str(summary.get("seed", "unknown"))),
        ("state", str(summary.get("state", "finished"))),
    ]


def _machine_facts(machine: dict[str, Any]) -> list[tuple[str, str]]:
    names = {"memory_gib": "memory (GiB)"}
    return [(names.get(key, key.replace("_", " ")), str(value)) for key, value in machine.items()]
