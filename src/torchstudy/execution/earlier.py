"""What earlier studies of a family found best, as configurations to begin with."""

from collections.abc import Mapping
from typing import Any

from torchstudy.execution.confirm import ranked
from torchstudy.execution.ledger import Ledger, StudyState
from torchstudy.records import Objective, bounds_in
from torchstudy.repeats import repeat_of
from torchstudy.space import Config, SearchSpace
from torchstudy.study import Study
from torchstudy.values import Value, is_number

MOST = 3  # earlier studies that speak, the latest first


def beginnings(
    ledger: Ledger, study: Study, *, is_warm: bool
) -> dict[str, list[tuple[Config, str]]]:
    """For each family the configurations to try after its recipe, with their origins.

    First come those that the study declares (`good`), then, if `is_warm`, the best configuration of
    each of the latest studies in the same ledger that had a family of this name and the same
    objective (`warm`): as near to it as the space allows.
    """
    found: dict[str, list[tuple[Config, str]]] = {}
    earlier = _earlier(ledger, study) if is_warm else []
    for family in study.families:
        space = study.space_of(family)
        known = [(config, "good") for config in study.good_for(family)]
        for state in earlier:
            if sum(origin == "warm" for _, origin in known) == MOST:
                break
            best = _best(ledger, state, family.__name__, study.objective)
            config = None if best is None else nearest(space, best)
            if config is not None and config not in [space.recipe, *(each for each, _ in known)]:
                known.append((config, "warm"))
        found[family.__name__] = known
    return found


def first_beginnings(ledger: Ledger, study: Study) -> dict[str, list[tuple[Config, str]]]:
    """What the study's first search began with: its repeats begin with just that.

    What other studies have found since, and what the first search found, is unknown to them.
    """
    return {
        family.__name__: [
            (dict(trial.config), trial.origin)
            for trial in ledger.trials(study.name, family.__name__)
            if trial.origin in ("good", "warm")
        ]
        for family in study.families
    }


def nearest(space: SearchSpace, config: Mapping[str, Value]) -> Config:
    """The configuration of `space` that is nearest to one of another space.

    What the other one lacks has its default.
    """
    values: dict[str, Value] = {}
    for name in space.dimensions:
        domain, value = space.domains[name], config.get(name)
        are_numbers = is_number(value) and is_number(domain.default)
        if value is not None and (are_numbers or domain.problem(value) is None):
            values[name] = domain.nearest(value)
    return space.completed(values)


def _earlier(ledger: Ledger, study: Study) -> list[StudyState]:
    """The other studies with this objective, the latest first; of each its first search."""

    def objective_of(summary: Mapping[str, Any]) -> Objective | None:
        given = summary.get("objective")
        return Objective(**given) if given else None

    same = [
        state
        for state in ledger.studies()
        if repeat_of(state.name)[1] == 1
        and state.name != study.name
        and objective_of(state.summary) == study.objective
    ]
    return sorted(same, key=lambda state: state.claimed, reverse=True)


def _best(ledger: Ledger, state: StudyState, family: str, objective: Objective) -> Config | None:
    if family not in state.summary["families"]:
        return None
    own = [t for t in ledger.trainings(state.name, "search") if t.trial.family == family]
    best = next(iter(ranked(own, objective, bounds_in(state.summary))), None)
    return None if best is None else dict(best.trial.config)
