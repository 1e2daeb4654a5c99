"""What a verdict must not be read without: bounds, constant answers, the unit of errors."""

import math
from dataclasses import dataclass, replace

import numpy as np

from torchstudy.analysis.constant import Constant, best_constant, least_lead
from torchstudy.analysis.tables import Results
from torchstudy.report.bounds import unmet
from torchstudy.report.formats import called, counted, metric_of, quantity, signed
from torchstudy.report.predicted import Quantity
from torchstudy.report.repeats import verdict
from torchstudy.report.sentences import Verdict, scored
from torchstudy.report.story import Story

NOTHING_LEARNED = "No family is better than a constant answer"


def headline(story: Story) -> Verdict:
    """What the study found, under what that must not be read without."""
    found = verdict(story)
    unit = Quantity.of(story.results.summary).of_scores
    if unit and not story.best.empty:
        found = replace(found, sentences=(*found.sentences, unit))
    if (best := _best(story)) and (beside := beside_constant(story.results, best, story.noun)):
        if beside.is_better:
            found = replace(found, sentences=(*found.sentences, beside.said))
        else:
            found = _aside(NOTHING_LEARNED, found, beside.said)
    if (wanted := unmet(story)) is None:
        return found
    return _aside(f"No trial has a {wanted}", found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A family's score on a split; `worst` is the worse end of its interval, NaN without one.

    `of_searches` says that it is a mean over several searches.
    """

    family: str
    split: str
    score: float
    worst: float = math.nan
    of_searches: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What is said of a score beside that of the best constant answer."""

    said: str
    is_better: bool


def beside_constant(results: Results, own: Scored, noun: str) -> Beside | None:
    """None where the score is clearly better than a constant answer's, or that is not known.

    Clearly: item by item where all answers are known, else by the score's own interval.
    """
    constant = best_constant(results, own.split)
    if constant is None:
        return None
    sign, metric = results.objective.sign, metric_of(results.objective)
    is_better = constant.is_beaten_by(own.score, sign)
    lead = math.nan
    if not own.of_searches:
        lead = least_lead(results, own.family, own.split, constant, own.score)
    if math.isnan(lead):
        lead = sign * (own.worst - constant.score)
    if is_better and not lead <= 0:
        return None
    words = "validation" if own.split == "valid" else own.split
    said = (
        f"On the {counted(constant.items, f'{words} {noun}')}, always answering "
        f"{_answer(results, constant)}, has {scored(metric, constant.score, words)}; "
        f"{called(own.family)} has {metric.score(own.score)}"
    )
    said += ", which is not clearly better." if is_better else "."
    return Beside(said=said, is_better=is_better)


def _best(story: Story) -> Scored | None:
    """The best family's score: over searches, on test, or in the search."""
    scores = story.scores if story.searches.empty else story.searches
    if not scores.empty:
        row = scores.iloc[0]
        worst = float(row["low" if story.objective.sign > 0 else "high"])
        return Scored(
            family=row["family"],
            split="test",
            score=float(row["mean"]),
            worst=worst,
            of_searches=not story.searches.empty,
        )
    if story.best.empty:
        return None
    row = story.best.iloc[0]
    return Scored(family=row["family"], split="valid", score=float(row["value"]))


def _answer(results: Results, constant: Constant) -> str:
    if isinstance(constant.answer, str):
        return f"the most frequent class, {called(constant.answer)}"
    meant = Quantity.of(results.summary)
    mean = "geometric mean" if meant.is_log else "mean"
    what = "median" if results.objective.metric == "mae" else mean
    shown = quantity(float(meant.meant(np.array(constant.answer))))
    return f"their {what}, {signed(shown)}"


def _aside(title: str, found: Verdict, *first: str) -> Verdict:
    aside = f"Leaving that aside: {found.title}."
    return Verdict(title=title, sentences=(*first, aside, *found.sentences))
