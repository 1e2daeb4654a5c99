"""What the report says of the environments that results come from."""

import itertools

from torchstudy.analysis.environments import Origin, changes, origins, spans
from torchstudy.report.formats import called, joined, shortened
from torchstudy.report.story import Story

SHOWN = 400  # characters of one list of trials or of changes; the tables and study.json hold all


def environment_sentences(story: Story) -> list[str]:
    """From how many environments results come, which trials from which, and what differs.

    Nothing where there is one alone, or none was recorded.
    """
    found = origins(story.results)
    if len(found) < 2:
        return []
    said = [f"{origin.id} trained {_trials(origin)}" for origin in found]
    first = (
        f"These results come from {len(found)} environments, which the table of trials names: "
        f"{'; '.join(said)}."
    )
    return [first, *(_difference(*pair) for pair in itertools.pairwise(found))]


def has_several(story: Story) -> bool:
    """Whether results come from more than one environment."""
    return len(origins(story.results)) > 1


def _trials(origin: Origin) -> str:
    named = [f"{called(family)} {spans(numbers)}" for family, numbers in origin.trials.items()]
    return shortened(joined(named), SHOWN)


def _difference(before: Origin, after: Origin) -> str:
    if not (before.facts and after.facts):
        return f"What differs between {before.id} and {after.id} is not known."
    found = shortened(joined(list(changes(before.facts, after.facts))), SHOWN)
    return (
        f"From {before.id} to {after.id} changed: {found}. A trial of the one need not give the "
        "same numbers in the other."
    )
