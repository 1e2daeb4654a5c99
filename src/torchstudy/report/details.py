"""What each section shows: every trial, what failed, and how it was all done."""

import math
from typing import Any

import pandas as pd

from torchstudy.analysis.failures import failure_reasons, outcome_counts
from torchstudy.analysis.tables import CONFIG, plain
from torchstudy.records import Status
from torchstudy.report import figures, sentences
from torchstudy.report.axes import scale_of
from torchstudy.report.formats import called, counted, setting, shortened
from torchstudy.report.looks import status_words
from torchstudy.report.sections import Content, Table
from torchstudy.report.story import Story

TEXT_LIMIT = 400  # characters of one cell or reason on the page; the tables hold all


def trials(story: Story) -> Content:
    """The table of all trials with its filters, and value against training time."""
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
        "metric": story.metric.words,
    }
    drawn = {} if drawable.empty else {"cost": figures.cost(drawable, scale, story.looks)}
    return Content(context=context, figures=drawn, data={"trials": _trial_data(story)})


def failures(story: Story) -> Content:
    """How trials ended, and the reasons of those that failed."""
    reasons = [
        {
            "family": called(row["family"]),
            "look": story.looks[row["family"]],
            "status": status_words(row["status"]),
            "n": counted(int(row["n"]), "trial"),
            "tried": int(row["tried"]),
            "reason": shortened(row["reason"], TEXT_LIMIT) or "no reason was recorded",
            "trials": shortened(", ".join(str(number) for number in row["trials"]), 80),
            "region": sentences.region(row),
        }
        for row in failure_reasons(story.trials).to_dict("records")
    ]
    counts = outcome_counts(story.trials)
    tried = [name for name in story.results.families if name in set(counts["family"])]
    drawn = {"outcomes": figures.outcomes(counts, tried)} if tried else {}
    table = Table(
        head=("Family", "Outcome", "Trials"),
        rows=[
            (called(row["family"]), status_words(row["status"]), str(row["n"]))
            for row in counts.to_dict("records")
        ],
    )
    said = [sentences.failed(story), sentences.failed_fresh(story)]
    context = {"sentences": [one for one in said if one], "reasons": reasons, "table": table}
    return Content(context=context, figures=drawn)


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
            "table": _space_table(given.get("space") or {}),
        }
        for name, given in families.items()
    ]
    facts = [
        ("Data", _data_facts(summary.get("data") or {})),
        ("Procedure", _procedure_facts(story)),
        ("Versions", [(str(name), str(v)) for name, v in (summary.get("versions") or {}).items()]),
        ("Machine", _machine_facts(summary.get("machine") or {})),
    ]
    notes = list((summary.get("data") or {}).get("notes") or [])
    return Content(context={"facts": facts, "spaces": spaces, "notes": notes})


def _trial_data(story: Story) -> dict[str, Any]:
    table = story.trials.assign(value=story.results.values)
    columns = [
        ("trial", "Trial", "number"),
        ("family", "Family", "family"),
        (
            "value",
            f"Best {story.metric.words}",
            "percent" if story.metric.is_accuracy else "number",
        ),
        ("status", "Status", "status"),
        ("epochs", "Epochs", "number"),
        ("seconds", "Time", "seconds"),
        ("parameters", "Parameters", "integer"),
        ("origin", "Origin", "text"),
    ]
    for name in (str(column) for column in table.columns if str(column).startswith(CONFIG)):
        is_number = pd.api.types.is_numeric_dtype(table[name]) and table[name].dtype != "boolean"
        columns.append((name, name.removeprefix(CONFIG), "number" if is_number else "text"))
    columns.append(("reason", "Reason", "text"))
    names = story.results.families
    table["family"] = table["family"].map(names.index)
    return {
        "study": str(story.results.summary["study"]),
        "columns": [{"key": key, "label": label, "kind": kind} for key, label, kind in columns],
        "rows": [[_cell(row[key]) for key, _, _ in columns] for row in table.to_dict("records")],
        "families": [
            {"name": name, "symbol": story.looks[name].symbol, "color": story.looks[name].index}
            for name in names
        ],
        "words": {str(status): status_words(status) for status in Status},
        "maximize": story.objective.direction == "maximize",
    }


def _cell(value: Any) -> Any:
    value = plain(value)
    if pd.isna(value) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value[:TEXT_LIMIT] if isinstance(value, str) else value


def _space_table(space: dict[str, Any]) -> Table:
    rows = []
    for name, given in space.items():
        if given["type"] == "choice":
            span = ", ".join(setting(value) for value in given["values"])
        else:
            span = f"{setting(given['low'])} to {setting(given['high'])}"
        when = given.get("when") or {}
        condition = ", ".join(f"{parent} = {setting(value)}" for parent, value in when.items())
        scale = given.get("scale", "")
        rows.append(
            tuple(
                shortened(text, TEXT_LIMIT)
                for text in (name, given["type"], span, scale, setting(given["default"]), condition)
            )
        )
    return Table(head=("Hyperparameter", "Type", "Range", "Scale", "Recipe", "Only if"), rows=rows)


def _data_facts(data: dict[str, Any]) -> list[tuple[str, str]]:
    classes = [str(name) for name in data.get("classes") or []]
    size = f"{data.get('channels')} x {data.get('height')} x {data.get('width')}"
    splits = [f"{name} {n:,}" for name, n in (data.get("splits") or {}).items()]
    return [
        ("source", str(data.get("source", "unknown"))),
        ("image (channels x height x width)", size),
        ("classes", shortened(f"{len(classes)}: {', '.join(classes)}", TEXT_LIMIT)),
        ("images per split", ", ".join(splits)),
        ("fingerprint", str(data.get("fingerprint", "unknown"))),
    ]


def _procedure_facts(story: Story) -> list[tuple[str, str]]:
    summary = story.results.summary
    budget = summary.get("budget") or {}
    minutes = budget.get("minutes")
    return [
        ("objective", f"{summary['objective']['direction']} {story.metric.words}"),
        (
            "search",
            f"{budget.get('trials')} trials per family, up to {budget.get('epochs')} epochs",
        ),
        ("time limit", f"{minutes} minutes" if minutes else "none"),
        ("confirmation", sentences.confirmation(story)),
        ("study seed", str(summary.get("seed", "unknown"))),
        ("state", str(summary.get("state", "finished"))),
    ]


def _machine_facts(machine: dict[str, Any]) -> list[tuple[str, str]]:
    names = {"memory_gib": "memory (GiB)"}
    return [(names.get(key, key.replace("_", " ")), str(value)) for key, value in machine.items()]
