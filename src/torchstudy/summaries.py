"""The end of a run in a few lines."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torchstudy.records import COUNTS

if TYPE_CHECKING:
    from torchstudy.analysis.tables import Results
    from torchstudy.report.formats import Metric


def summary_lines(results: "Results") -> list[str]:
    """The end of a run in a few lines: verdict, families, and where the report lies."""
    from torchstudy.report.bounds import within
    from torchstudy.report.caveats import headline
    from torchstudy.report.formats import counted
    from torchstudy.report.readings import repeated_readings
    from torchstudy.report.story import Story

    story = Story(results)
    said = headline(story)
    lines = ["", said.title, *said.sentences, *within(story), *repeated_readings(story), ""]
    repeated = story.searches.to_dict("records")
    for row in repeated or story.scores.to_dict("records"):
        of = f"{row['searches']} searches" if repeated else f"trial {row['trial']}"
        lines.append(
            f"  {row['family']:<20} {_with_interval(row, story.metric)}  "
            f"{of}, {counted(row['seeds'], 'seed')}"
        )
    if len(results.objectives) > 1:
        lines += ["", *_traded_off(results)]
    folder = results.folder
    lines = lines if lines[-1] else lines[:-1]  # where no family has been tested
    models = [f"models: {folder / 'best'}"] if (folder / "best").is_dir() else []
    return [*lines, "", f"report: {folder / 'report.html'}", *models]


def _with_interval(row: Mapping[Any, Any], metric: "Metric") -> str:
    """A score on test, or what a network costs."""
    if metric.name in COUNTS:
        return f"{metric.words} {row['mean']:,.0f}"
    ends = [metric.precise(row[end]).removesuffix(f" {metric.unit}") for end in ("low", "high")]
    interval = f" [{', '.join(ends)}]" if row["low"] == row["low"] else ""
    return f"{metric.measured('test', row['mean'])}{interval}"


def _traded_off(results: "Results") -> Iterator[str]:
    """How many trials no other beats in every objective, and where they are listed."""
    from torchstudy.analysis.front import front
    from torchstudy.report.formats import metric_of

    goals = [f"{each.direction} {metric_of(each).words}" for each in results.objectives]
    names = " and ".join(goals)
    count, study = len(front(results)), results.summary["study"]
    are = "trial is" if count == 1 else "trials are"
    yield f"{count} {are} beaten by no other ({names}): optimize table {study} --what front"
