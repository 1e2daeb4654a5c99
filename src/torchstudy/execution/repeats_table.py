"""What each search of a study found of each family: a row of the table `repeats` for either."""

import statistics
from collections.abc import Iterator, Sequence

from torchstudy.execution.confirm import chosen_number, ranked
from torchstudy.execution.ledger import Ledger, StudyState
from torchstudy.records import Training, bounds_in, objectives_in
from torchstudy.repeats import repeat_of

Row = dict[str, object]


def searches_of(ledger: Ledger, study: str) -> list[StudyState]:
    """The searches of a study that have begun, in order; the first is the study itself."""
    known = [state for state in ledger.studies() if state.summary]
    own = [state for state in known if repeat_of(state.name)[0] == study]
    return sorted(own, key=lambda state: repeat_of(state.name)[1])


def repeat_rows(ledger: Ledger, study: str) -> Iterator[Row]:
    """One row per search and family that the search has a training of."""
    for state in searches_of(ledger, study):
        trainings = ledger.trainings(state.name)
        for family in state.summary["families"]:
            own = [training for training in trainings if training.trial.family == family]
            if own:
                yield _row(study, state, family, own)


def mean_over_searches(ledger: Ledger, study: StudyState, family: str) -> tuple[float, int] | None:
    """A family's mean test score over searches, and of how many; None for fewer than two."""
    metric = objectives_in(study.summary)[0].metric
    own = (row for row in repeat_rows(ledger, study.name) if row["family"] == family)
    scores = [score for row in own if isinstance(score := row[f"test_{metric}"], float)]
    return (statistics.fmean(scores), len(scores)) if len(scores) > 1 else None


def _row(study: str, state: StudyState, family: str, trainings: Sequence[Training]) -> Row:
    objective, bounds = objectives_in(state.summary)[0], bounds_in(state.summary)
    searched = [training for training in trainings if training.purpose == "search"]
    fresh = [training for training in trainings if training.purpose == "confirmation"]
    is_over = bool(fresh) and all(training.status.is_final for training in fresh)
    number = chosen_number(fresh, objective, bounds) if is_over else None
    if number is None:
        best = next(iter(ranked(searched, objective, bounds)), None)
        number = None if best is None else best.trial.number
    found = next((t for t in searched if t.trial.number == number), None)
    chosen = [t for t in fresh if is_over and t.trial.number == number]
    metric = objective.metric
    row: Row = {
        "study": study,
        "repeat": repeat_of(state.name)[1],
        "family": family,
        "seed": state.summary["seed"],
        "trials": len(searched),
        "trial": number,
        "seeds": len(chosen),
        "seconds": sum(training.seconds for training in trainings),
        f"valid_{metric}": None if found is None else found.valid(objective),
    }
    for split in ("select", "test"):
        values = [t.metrics[name] for t in chosen if (name := f"{split}_{metric}") in t.metrics]
        row[f"{split}_{metric}"] = statistics.fmean(values) if values else None
        row[f"{split}_deviation"] = statistics.stdev(values) if len(values) > 1 else None
    return row
