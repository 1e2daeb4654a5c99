"""Whether the confidence of a family's model is to be believed: in sentences, and as a figure."""

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from torchstudy.analysis import evidence
from torchstudy.analysis.calibration import (
    FOLDS,
    calibration_of,
    expected_error,
    expected_noise,
    reliability,
)
from torchstudy.report.axes import line_axis
from torchstudy.report.figures import blank, line_of_equality
from torchstudy.report.formats import Metric, counted
from torchstudy.report.looks import Look
from torchstudy.report.story import Story

SMALLEST, LARGEST = 5.0, 20.0  # pixels of a mark, of a bin with hardly any and with all items
SAME = 0.0005  # half a tenth of a point: written as nothing
UNCONFIRMED = (
    f"Nothing was confirmed, so the test split was not read, and the validation split chose this "
    f"trial; select has chosen nothing. The error after is cross-fitted: each of {FOLDS} parts of "
    "select is judged at the temperature of the others."
)
SHARE = Metric(name="accuracy")


def believable(story: Story, family: str) -> tuple[list[str], go.Figure | None] | None:
    """What is said and drawn of the confidence of the family's saved model; None if unknown."""
    found = calibration_of(story.results, family)
    if found is None:
        return _unfitted(story, family)
    calibration, table = found
    before, after = (table[name].to_numpy(dtype=np.float64) for name in ("confidence", "after"))
    is_correct = table["is_correct"].to_numpy(dtype=np.bool_)
    errors = [expected_error(confidence, is_correct) for confidence in (before, after)]
    selected = counted(calibration.items, f"select {story.noun}")
    split = "test" if calibration.test_items else "select"
    about = [
        f"{_leaning(float(before.mean() - is_correct.mean()))}: expected calibration error "
        f"{SHARE.score(errors[0])} before and {SHARE.score(errors[1])} after a temperature of "
        f"{calibration.temperature:.2f} fitted on {selected}.",
        *([] if calibration.test_items else [UNCONFIRMED]),
        f"On {counted(len(table), f'{split} {story.noun}')} that error would be about "
        f"{SHARE.score(expected_noise(after))} by chance if confidence were right. The temperature "
        "changes no answer.",
        "Each mark is a bin of confidence, larger with more in it; on the dashed line, confidence "
        "is right, below it too high.",
    ]
    return about, reliable(before, after, is_correct, story.looks[family])


def reliable(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    is_correct: NDArray[np.bool_],
    look: Look,
) -> go.Figure:
    """Accuracy against confidence in bins, before and after the temperature, and the diagonal."""
    figure = blank(340)
    tables = {name: reliability(given, is_correct) for name, given in _both(before, after)}
    places = pd.concat(tables.values())[["confidence", "accuracy"]].to_numpy(dtype=np.float64)
    low = math.floor(10 * places.min()) / 10
    pad = 0.04 * (1 - low) or 0.04
    ends = [low - pad, 1 + pad]
    figure.add_trace(line_of_equality(ends))
    symbols = {"before": f"{look.symbol}-open", "after": look.symbol}
    colors = {"before": "var(--muted)", "after": look.color}
    for name, table in tables.items():
        shares = table["items"] / table["items"].sum()
        figure.add_trace(
            go.Scatter(
                name=name,
                x=list(table["confidence"]),
                y=list(table["accuracy"]),
                cliponaxis=False,  # most confidence is at the edge
                mode="markers",  # lines would lead the eye through bins of one or two items
                marker={
                    "symbol": symbols[name],
                    "color": colors[name],
                    "opacity": 0.9,
                    "line": {"width": 1.5 if name == "before" else 0},
                    "size": list(SMALLEST + (LARGEST - SMALLEST) * np.sqrt(shares)),
                },
                hoverinfo="text",
                hovertext=[_told(name, row) for row in table.to_dict("records")],
            )
        )
    for update, title in ((figure.update_xaxes, "Confidence"), (figure.update_yaxes, "Accuracy")):
        update(**line_axis(title), range=ends, nticks=7, tickformat=".0%")
    figure.update_layout(legend_itemsizing="constant")
    return figure


def _both(
    before: NDArray[np.float64], after: NDArray[np.float64]
) -> list[tuple[str, NDArray[np.float64]]]:
    return [("before", before), ("after", after)]


def _told(name: str, row: Mapping[Hashable, Any]) -> str:
    span = f"{SHARE.score(row['low'], 0)} to {SHARE.score(row['high'], 0)}"
    return (
        f"{name}, confidence of {span}<br>{counted(int(row['items']), 'item')}: confidence "
        f"{SHARE.score(row['confidence'])}, accuracy {SHARE.score(row['accuracy'])}"
    )


def _leaning(gap: float) -> str:
    """How far the mean confidence lies above the accuracy, in words."""
    if abs(gap) < SAME:
        return "As it comes, its confidence is right on average"
    points = f"{100 * abs(gap):.1f}"
    unit = "point" if points == "1.0" else "points"
    side = "high" if gap > 0 else "low"
    return f"As it comes, its confidence is {points} {unit} too {side} on average"


def _unfitted(story: Story, family: str) -> tuple[list[str], None] | None:
    """That there is no temperature as there is no mistake to learn it from, if that is why."""
    found, table = evidence.classified(story.results, family), story.results.predictions.get(family)
    if found is None or table is None:
        return None
    own = table[(table["split"] == "select").fillna(False).astype(bool)]
    perfect = own.groupby("seed")["is_correct"].all()
    if not perfect.any():
        return None
    items = counted(int(own["item"].nunique()), f"select {story.noun}")
    return [
        f"Its confidence is as the network gives it: of {items} it got none wrong, so there was "
        "nothing to fit a temperature to."
    ], None
