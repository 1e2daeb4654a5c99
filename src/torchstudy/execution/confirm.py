"""After the search: which configurations are trained afresh, and which of them is chosen."""

import math
import statistics
from collections.abc import Sequence

from torchstudy.records import Bound, Objective, Status, Training, Trial
from torchstudy.seeds import derive


def ranked(
    trainings: Sequence[Training], objective: Objective, bounds: Sequence[Bound] = ()
) -> list[Training]:
    """The completed trainings, best valid score first; those that miss a bound come last.

    Of those, the nearest to the bounds comes first. Between equal scores the lower loss decides,
    then the earlier trial: accuracy on a small valid split takes few values.
    """

    def merit(training: Training) -> tuple[float, float, float, int]:
        value, loss = training.valid(objective), training.metrics.get("valid_loss", math.inf)
        return training.shortfall(bounds), -objective.sign * value, loss, training.trial.number

    return sorted((t for t in trainings if t.status is Status.COMPLETED), key=merit)


def candidates(
    trainings: Sequence[Training],
    objectives: Sequence[Objective],
    count: int,
    bounds: Sequence[Bound] = (),
) -> list[Trial]:
    """The `count` best completed trials of one family, and always its recipe.

    Of several objectives: the best in the first, then those that no other beats, far from it.
    Trials that miss a bound come after all that do not.
    """
    order = ranked(trainings, objectives[0], bounds)
    if len(objectives) > 1:
        is_within = [not training.shortfall(bounds) for training in order]
        within, rest = order[: sum(is_within)], order[sum(is_within) :]
        order = [*_traded_off(within, objectives), *_traded_off(rest, objectives)]
    best = [training.trial for training in order[:count]]
    recipe = [t.trial for t in order if t.trial.origin == "recipe" and t.trial not in best]
    return best + recipe


def _traded_off(trainings: Sequence[Training], objectives: Sequence[Objective]) -> list[Training]:
    """In the order of their Pareto ranks; without those of which an objective is not known."""
    import numpy as np

    from torchstudy.pareto import taken_in_order

    rows = [[each.sign * training.valid(each) for each in objectives] for training in trainings]
    known = [place for place, row in enumerate(rows) if all(map(math.isfinite, row))]
    values = np.array([rows[place] for place in known]).reshape(len(known), len(objectives))
    return [trainings[known[place]] for place in taken_in_order(values)]


def confirmation_seeds(study_seed: int, count: int) -> list[int]:
    """The fresh seeds, the same for every family and configuration, so that scores pair up."""
    return [derive(study_seed, "confirmation", index) for index in range(count)]


def chosen_number(
    trainings: Sequence[Training], objective: Objective, bounds: Sequence[Bound] = ()
) -> int | None:
    """The trial number that fresh trainings of one family speak for, or None without any.

    The one-standard-error rule (Breiman et al. 1984, section 3.4.3): of the configurations whose
    mean `select` score is within one standard error of the best mean, the one with the fewest
    parameters; between equals, the better mean, then the earlier trial. Configurations with a
    failed training are out, and those whose mean misses a bound where another does not.
    """
    by_number: dict[int, list[Training]] = {}
    for training in trainings:
        by_number.setdefault(training.trial.number, []).append(training)
    scores = {
        number: [objective.sign * t.metrics[f"select_{objective.metric}"] for t in group]
        for number, group in by_number.items()
        if all(training.status is Status.COMPLETED for training in group)
    }
    if not scores:
        return None
    lacks = {number: _lack(by_number[number], bounds) for number in scores}
    scores = {n: values for n, values in scores.items() if lacks[n] == min(lacks.values())}
    means = {number: statistics.fmean(values) for number, values in scores.items()}
    best = max(means, key=lambda number: (means[number], -number))
    error = _standard_error(scores[best])
    close = [number for number in means if means[number] >= means[best] - error]

    def merit(number: int) -> tuple[int, float, int]:
        return by_number[number][0].parameters, -means[number], number

    return min(close, key=merit)


def _lack(group: Sequence[Training], bounds: Sequence[Bound]) -> float:
    """By how much the mean of fresh trainings misses the bounds on `select`."""
    return sum(
        bound.shortfall(statistics.fmean(t.metrics[f"select_{bound.metric}"] for t in group))
        for bound in bounds
    )


def _standard_error(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    return statistics.stdev(values) / math.sqrt(len(values))
