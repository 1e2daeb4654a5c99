"""What the tables say, in sentences; every number in them is computed and comes with its n."""

from dataclasses import dataclass
from typing import Any

from torchstudy.analysis.optimism import likely_optimism
from torchstudy.analysis.statistics import COUNTED, ITEMS_ONLY, SEEDS_ONLY, Difference
from torchstudy.records import COUNTS, Status
from torchstudy.report.formats import (
    Metric,
    called,
    counted,
    duration,
    joined,
    p_value,
    quantity,
    shortened,
)
from torchstudy.report.looks import status_words
from torchstudy.report.story import Story

ERROR_LIMIT = 300  # characters of what a run stopped on
SHORTEST = 6  # epochs of a training whose last third says something
UNCONFIRMED = "It was not trained with fresh seeds, so it has no test score."
UNSURE = (
    "No configuration has a test score from fresh seeds, so which family is really better cannot "
    "be said."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The headline and the sentences under it."""

    title: str
    sentences: tuple[str, ...]


def verdict(story: Story) -> Verdict:
    """What the study found, or why it found nothing yet."""
    if story.trials.empty:
        return Verdict(title="No trial has been recorded yet", sentences=())
    if not story.results.values.notna().any():
        return _nothing(story)
    if story.scores.empty:
        return _search_only(story)
    return _alone(story) if len(story.scores) == 1 else _contest(story)


def standing(story: Story) -> str | None:
    """A warning while the study is not finished, else None."""
    state = story.results.summary.get("state", "finished")
    if state == "finished":
        return None
    ended = int(story.trials["status"].isin([s.value for s in Status if s.is_final]).sum())
    planned = planned_trials(story)
    done = f"{ended} of {counted(planned, 'planned trial')} ended"
    if state == "running":
        return f"The study is still running: {done} so far, and everything below may change."
    study, error = story.results.summary["study"], story.results.summary.get("error")
    goes_on = f'"optimize run {called(study)}" goes on from there.'
    if error:
        why = shortened(str(error), ERROR_LIMIT)
        return f"The study stopped on an error: {why}. {done}. {goes_on}"
    return f"The study was interrupted: {done}. {goes_on}"


def planned_trials(story: Story) -> int:
    """The trials that the budget allows, or those recorded where that is unknown or smaller."""
    budget = story.results.summary.get("budget") or {}
    per_family = int(budget.get("trials") or 0)
    return max(per_family * len(story.results.families), len(story.trials))


def scored(metric: Metric, value: float, split: str) -> str:
    """`97.7% test accuracy`, `test PSNR 24.31 dB` or `12,345 parameters`."""
    if metric.is_accuracy or metric.name == "parameters":
        return f"{metric.score(value)} {metric.on(split)}"
    return f"{metric.on(split)} {metric.score(value)}"


def lead(difference: Difference, metric: Metric) -> str:
    """`1.85 points (95% interval 0.65 to 3.05, p = 0.003 ...)`."""
    size = metric.difference(difference.difference)
    if difference.basis == COUNTED:
        return size
    if difference.low != difference.low:
        return f"{size} (one fresh seed each, so no interval)"
    adjusted = difference.adjusted_p
    p = difference.p if adjusted != adjusted else adjusted
    bounds = f"{metric.bound(difference.low)} to {metric.bound(difference.high)}"
    alone = " for other test items alone" if difference.basis == ITEMS_ONLY else ""
    tested = f", {p_value(p)}" if p == p else ""
    return f"{size} (95% interval {bounds}{alone}{tested})"


def is_level(difference: Difference, metric: Metric) -> bool:
    """Whether nothing is left of a difference once it is written."""
    return metric.difference(abs(difference.difference)) == metric.difference(0.0)


def basis(difference: Difference, noun: str) -> str:
    """How the differences were measured: seeds, images (or what `noun` says), correction."""
    if difference.basis == COUNTED:
        return "This is counted, the same whatever the seed; a longer search may find better ones."
    a, b = difference.seeds
    each = counted(b, "fresh seed")
    seeds = f"{each} of either family" if a == b else f"{a} against {each}"
    if difference.basis == SEEDS_ONLY:
        text = f"Measured over {seeds}; the chance in the choice of the test {noun}s is left out"
    else:
        text = f"Measured over {seeds} on the same {counted(difference.items, f'test {noun}')}"
    if difference.basis == ITEMS_ONLY:
        text += "; one seed does not tell how seeds differ, so no difference is called real"
    if difference.num_compared > 1 and difference.p == difference.p:
        text += f"; p is Holm-corrected for {difference.num_compared} comparisons"
    return f"{text}."


def uncertainty(row: Any, metric: Metric, noun: str) -> str:
    """The interval of a confirmed score with what it covers; `noun` is what a split is made of."""
    if row["basis"] == COUNTED:
        return "the same whatever the seed"
    seeds = counted(int(row["seeds"]), "fresh seed")
    if row["low"] != row["low"]:
        alike = " that agree" if row["seeds"] > 1 else ""
        return f"from {seeds}{alike}, so no interval"
    items = f" and {counted(int(row['items']), f'test {noun}')}" if row["items"] else ""
    return f"95% interval {metric.span(row['low'], row['high'])} over {seeds}{items}"


def unconfirmed(story: Story) -> str | None:
    """Which families have no score on test while others have one."""
    missing = [name for name in story.results.families if name not in set(story.scores["family"])]
    if story.scores.empty or not missing:
        return None
    verb = "has" if len(missing) == 1 else "have"
    names = joined([called(name) for name in missing])
    return f"{names} {verb} no score on test and {verb} no part in the comparison."


def uncompleted(families: list[str]) -> str | None:
    """Which families have no completed trial."""
    if not families:
        return None
    names = joined([called(name) for name in families])
    return f"{names} {'has' if len(families) == 1 else 'have'} no completed trial."


def promise(story: Story) -> str | None:
    """How much the search promised for the winner, against what fresh seeds gave."""
    if story.scores.empty or story.scores.iloc[0]["basis"] == COUNTED:
        return None
    row = story.scores.iloc[0]
    found = story.selected[story.selected["family"] == row["family"]]
    if not found["value"].notna().any():
        return None
    metric, value = story.metric, float(found["value"].iloc[0])
    gap = story.objective.sign * (value - row["mean"])
    is_own = story.trials["family"] == row["family"]
    n = int(story.results.values[is_own.fillna(False).astype(bool)].notna().sum())
    than = f"{metric.difference(abs(gap))} {'better' if gap > 0 else 'worse'} than"
    return (
        f"In the search {called(row['family'])}'s trial {row['trial']}, picked from "
        f"{counted(n, 'trial')} with a value, showed {metric.score(value)} on validation: "
        f"{than if gap else 'the same as'} with fresh seeds on test."
    )


def improvement(family: str, own: Any, metric: Metric) -> str:
    """When a family's best value last changed; `own` is its part of `best_so_far`."""
    known = own[own["best"].notna()]
    if known.empty:
        return f"{called(family)} has no value after {duration(float(own['seconds'].iloc[-1]))}."
    last = known[known["best"] == known["best"].iloc[-1]].iloc[0]
    return (
        f"{called(family)} reached {metric.score(last['best'])} with trial {last['trial']}, after "
        f"{duration(last['seconds'])} of {duration(own['seconds'].iloc[-1])} "
        f"({counted(len(own), 'trial')})."
    )


def room(family: str, trial: int, values: list[float], best: Any, metric: Metric, sign: int) -> str:
    """What the last third of a training's epochs still added to its best value.

    `best` is the epoch that the run took for the best; it decides between equal ones.
    """
    signed = [sign * value for value in values]
    top = [epoch for epoch, value in enumerate(signed, start=1) if value == max(signed)]
    epoch = int(best) if best in top else top[0]
    when = f"{called(family)}'s trial {trial} was best after epoch {epoch} of {len(values)}"
    early = signed[: 2 * len(values) // 3]
    if len(values) < SHORTEST:
        return f"{when}."
    gain = max(signed) - max(early)
    if gain <= 0:
        when += f", as good as after epoch {top[0]}" if epoch > len(early) else ""
        return f"{when}: its last third of epochs did not improve it."
    return f"{when}: its last third of epochs still improved it by {metric.difference(gain)}."


def failed(story: Story) -> str:
    """How many trials failed in which way."""
    total = len(story.trials)
    if not story.num_failed:
        return f"Nothing failed: all {counted(total, 'trial')} ran without an error."
    ways = [
        f"{n} {status_words(status)}"
        for status, n in story.status_counts.items()
        if Status(status).is_failure
    ]
    return f"{story.num_failed} of {counted(total, 'trial')} failed: {joined(ways)}."


def crashed(story: Story) -> str | None:
    """How many trials ended with an error in code, which says nothing about their family."""
    is_crashed = story.trials["status"].eq(Status.CRASHED).fillna(False).astype(bool)
    counts = story.trials.loc[is_crashed, "family"].value_counts().sort_index()
    if counts.empty:
        return None
    own = joined([f"{counted(n, 'trial')} of {called(family)}" for family, n in counts.items()])
    what = "it" if counts.sum() == 1 else "them"
    return f"{own} crashed, which is no result: mended, --retry-crashed trains {what} again."


def failed_fresh(story: Story) -> str | None:
    """How many fresh trainings failed; they are not in the scores."""
    table = story.results.confirmation
    lost = int(table["status"].isin([status.value for status in Status if status.is_failure]).sum())
    if not lost:
        return None
    total = counted(len(table), "fresh training")
    return f"{lost} of {total} failed; the test scores are means over the others."


def confirmation(story: Story) -> str:
    """What was retrained with fresh seeds, and what became of it."""
    table = story.results.confirmation
    planned = (story.results.summary.get("budget") or {}).get("confirm")
    if table.empty:
        if not planned:
            return "none"
        return f"planned: the best {planned[0]} of each family with {planned[1]} fresh seeds each"
    configurations = counted(len(table[["family", "trial"]].drop_duplicates()), "configuration")
    return (
        f"{counted(len(table), 'fresh training')} of {configurations}; the select split chooses "
        "one per family, for which the test split is read once"
    )


def region(row: Any) -> str | None:
    """Where in the space a kind of failure lies, if the trials show it."""
    name = row["hyperparameter"]
    if not isinstance(name, str):
        return None
    side = "higher" if row["median_failed"] > row["median_rest"] else "lower"
    return (
        f"{shortened(name, 60)} is {side} where this happened: median "
        f"{quantity(row['median_failed'])} in {counted(int(row['n']), 'trial')}, against "
        f"{quantity(row['median_rest'])} in the family's other {row['tried'] - row['n']} "
        f"({p_value(row['p'])}, corrected)."
    )


def _nothing(story: Story) -> Verdict:
    total = len(story.trials)
    if story.num_failed == total:
        lost = f"None of {counted(total, 'trial')} ended with a usable result."
        return Verdict(title="Every trial failed", sentences=(lost, failed(story)))
    waiting = f"{counted(total, 'trial')} recorded, {story.num_failed} of them failed."
    return Verdict(title="No result yet", sentences=(waiting,))


def _search_only(story: Story) -> Verdict:
    values = story.results.values
    n = int(values.notna().sum())
    if story.best.empty:
        best = values.max() if story.objective.sign > 0 else values.min()
        title = f"No trial has completed yet; best so far {story.metric.score(best)}"
    else:
        top = story.best.iloc[0]
        value = scored(story.metric, top["value"], "validation")
        is_alone = len(story.results.families) == 1
        what = "'s best in the search" if is_alone else " leads the search"
        title = f"{called(top['family'])}{what}: {value}"
    unsure = UNCONFIRMED if len(story.results.families) == 1 else UNSURE
    if story.metric.name in COUNTS:
        return Verdict(title=title, sentences=(unsure,))
    items = story.split_size("valid")
    optimistic = (
        f"This is the best validation value of {counted(n, 'trial')} on the same "
        f"{counted(items, story.noun)}, so it is optimistic{_luck(story, items)}."
    )
    return Verdict(title=title, sentences=(optimistic, unsure))


def _luck(story: Story, items: int) -> str:
    """`, by chance alone up to about 0.8 points`; nothing where that cannot be told."""
    if not story.metric.is_accuracy:
        return ""
    luck = likely_optimism(story.results.values.dropna().tolist(), items)
    return f", by chance alone up to about {story.metric.difference(luck)}" if luck == luck else ""


def _alone(story: Story) -> Verdict:
    row = story.scores.iloc[0]
    title = f"{called(row['family'])}: {scored(story.metric, row['mean'], 'test')}"
    interval = uncertainty(row, story.metric, story.noun)
    sentences = [f"{interval[0].upper()}{interval[1:]}.", "There is no other family to compare."]
    return _with_rest(story, title, sentences)


def _contest(story: Story) -> Verdict:
    metric, top = story.metric, story.scores.iloc[0]
    tied = [difference for difference in story.differences if not difference.is_separable]
    second = story.differences[0]
    if tied:
        names = joined([called(name) for name in (top["family"], *(found.b for found in tied))])
        title = f"{names} are not separable"
        own = f"{called(top['family'])} has {scored(metric, top['mean'], 'test')}"
        other = called(tied[0].b)
        if is_level(tied[0], metric):
            first = f"{own}, and so has {other}."
        else:
            ahead = f"is ahead of {other} by {lead(tied[0], metric)}"
            cause = "other seeds" if tied[0].basis == ITEMS_ONLY else "noise alone"
            first = f"{own} and {ahead}: {cause} could do that."
        others = [difference for difference in story.differences if difference.is_separable]
    else:
        title = f"{called(top['family'])} wins: {scored(metric, top['mean'], 'test')}"
        first = f"It beats {called(second.b)} by {lead(second, metric)}."
        others = story.differences[1:]
    sentences = [first]
    if others:
        behind = joined([f"{called(found.b)} by {lead(found, metric)}" for found in others])
        sentences.append(f"Clearly behind: {behind}.")
    sentences.append(basis(second, story.noun))
    return _with_rest(story, title, sentences)


def _with_rest(story: Story, title: str, sentences: list[str]) -> Verdict:
    rest = [sentence for sentence in (unconfirmed(story), crashed(story)) if sentence]
    return Verdict(title=title, sentences=(*sentences, *rest))
