"""What a verdict must not be read without: bounds, constant answers, the unit of errors."""

from dataclasses import dataclass, replace

import numpy as np

from torchstudy.analysis.constant import Constant, best_constant
from torchstudy.report.bounds import unmet
from torchstudy.report.formats import called, counted, quantity
from torchstudy.report.predicted import Quantity
from torchstudy.report.repeats import verdict
from torchstudy.report.sentences import Verdict, scored
from torchstudy.report.story import Story

NOTHING_LEARNED = "No family is better than a constant answer"


def headline(story: Story) -> Verdict:
    """What the study found, under what that must not be read without."""
    found = verdict(story)
    if unit := Quantity.of(story.results.summary).of_scores:
        found = replace(found, sentences=(*found.sentences, unit))
    if constant := _constant(story):
        found = constant.beside(found)
    if (wanted := unmet(story)) is None:
        return found
    return _aside(f"No trial has a {wanted}", found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparison:
    """The best family beside the best constant answer."""

    said: str
    is_beaten: bool  # whether the family's own score is no better

    def beside(self, found: Verdict) -> Verdict:
        if self.is_beaten:
            return _aside(NOTHING_LEARNED, found, self.said)
        return replace(found, sentences=(*found.sentences, self.said))


def _constant(story: Story) -> _Comparison | None:
    """How the best family compares with it; None where it is clearly better or nothing is known."""
    top = _top(story)
    if top is None:
        return None
    family, split, score, worst = top
    constant = best_constant(story.results, split)
    if constant is None:
        return None
    sign, words = story.objective.sign, "validation" if split == "valid" else split
    is_beaten = sign * score <= sign * constant.score
    if not is_beaten and not sign * worst <= sign * constant.score:
        return None
    said = (
        f"On the {counted(constant.items, f'{words} {story.noun}')}, always answering "
        f"{_answer(story, constant)}, has {scored(story.metric, constant.score, words)}; "
        f"{called(family)} has {story.metric.score(score)}"
    )
    said += "." if is_beaten else ", which is not clearly better."
    return _Comparison(said=said, is_beaten=is_beaten)


def _top(story: Story) -> tuple[str, str, float, float] | None:
    """The best family, the split of its score, the score and the worse end of its interval."""
    scores = story.scores if story.searches.empty else story.searches
    if not scores.empty:
        row = scores.iloc[0]
        worst = row["low" if story.objective.sign > 0 else "high"]
        return str(row["family"]), "test", float(row["mean"]), float(worst)
    if story.best.empty:
        return None
    row = story.best.iloc[0]
    return str(row["family"]), "valid", float(row["value"]), float(row["value"])


def _answer(story: Story, constant: Constant) -> str:
    if isinstance(constant.answer, str):
        return f"the most frequent class, {called(constant.answer)}"
    meant = Quantity.of(story.results.summary)
    mean = "geometric mean" if meant.is_log else "mean"
    what = "median" if story.metric.name == "mae" else mean
    return f"their {what}, {quantity(float(meant.meant(np.array(constant.answer))))}"


def _aside(title: str, found: Verdict, *first: str) -> Verdict:
    aside = f"Leaving that aside: {found.title}."
    return Verdict(title=title, sentences=(*first, aside, *found.sentences))
