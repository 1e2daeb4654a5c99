"""What a study asks of metrics besides its objective, and which trials have it, in sentences."""

from collections.abc import Iterator

import pandas as pd

from torchstudy.analysis.tables import VALID, Results, chosen_trainings, numbers, shortfalls
from torchstudy.records import Bound, Status
from torchstudy.report.formats import Metric, called, counted, joined
from torchstudy.report.story import Story


def bound_words(bound: Bound) -> str:
    """`validation accuracy of at least 95.0%`."""
    metric = Metric(name=bound.metric)
    side = "at least" if bound.direction == "maximize" else "at most"
    decimals = next((n for n in (1, 2, 3) if round(100 * bound.value, n) == 100 * bound.value), 4)
    return f"{metric.on('validation')} of {side} {metric.score(bound.value, decimals)}"


def limit_words(cost: str, most: float) -> str:
    """`median latency of at most 5 ms`."""
    metric = Metric(name=cost)
    return f"{metric.words} of at most {metric.score(most)}"


def unmet(story: Story) -> str | None:
    """What no completed trial of any family has of what the study asks for; else None.

    None, too, where there are several searches: of the trials of the others nothing is known here.
    """
    bounds = story.results.bounds if story.searches.empty else []
    completed = story.trials[story.trials["status"].eq(Status.COMPLETED).fillna(False).astype(bool)]
    if not bounds or completed.empty or bool((shortfalls(completed, bounds) == 0).any()):
        return None
    return joined([bound_words(bound) for bound in bounds])


def within(story: Story) -> Iterator[str]:
    """How many completed trials of each family meet the study's bounds, and what test says."""
    bounds = story.results.bounds
    if not bounds:
        return
    wanted = joined([bound_words(bound) for bound in bounds])
    where = "" if story.searches.empty else " in the first search"
    for family in story.results.families:
        is_own = story.trials["family"].eq(family) & story.trials["status"].eq(Status.COMPLETED)
        own = story.trials[is_own.fillna(False).astype(bool)]
        if own.empty:
            continue
        missed = shortfalls(own, bounds)
        met, total = int((missed == 0).sum()), counted(len(own), "completed trial")
        if met:
            have = "has" if met == 1 else "have"
            yield f"{met} of {total} of {called(family)}{where} {have} a {wanted}."
        else:
            nearest = own.iloc[int(missed.to_numpy().argmin())]
            yield (
                f"None of {total} of {called(family)}{where} has a {wanted}; the nearest is trial "
                f"{nearest['trial']} with {_values(nearest, bounds)}."
            )
        yield from on_test(story.results, family)


def on_test(results: Results, family: str) -> Iterator[str]:
    """What the chosen configuration's fresh seeds have of each bounded metric on test."""
    chosen = chosen_trainings(results, family)
    for bound in results.bounds:
        values = numbers(chosen, f"test_{bound.metric}").dropna()
        if values.empty:
            continue
        metric, mean = Metric(name=bound.metric), float(values.mean())
        verb = "misses" if bound.shortfall(mean) else "meets"
        seeds = counted(len(values), "fresh seed")
        yield (
            f"{called(family)}'s chosen configuration {verb} it on test: {metric.words} "
            f"{metric.score(mean, 2)}, the mean of {seeds}."
        )


def _values(trial: "pd.Series[float]", bounds: list[Bound]) -> str:
    row = trial.to_frame().T
    return joined(
        [
            Metric(name=bound.metric).score(
                float(numbers(row, f"best_{VALID}{bound.metric}").iloc[0]), 2
            )
            for bound in bounds
        ]
    )
