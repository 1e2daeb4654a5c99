"""What Ax would try next: its own model, or a generation strategy that a user gives.

Ax's client is built afresh for every question from the results it may use, so that the answer is
the same whether a run was interrupted or not. Ax's own state is never stored.
"""

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torchstudy.quiet import quiet_ax
from torchstudy.records import Objective
from torchstudy.search.questions import Question
from torchstudy.seeds import derive
from torchstudy.space import Config, SearchSpace

if TYPE_CHECKING:
    from ax.api.client import Client

Known = tuple[Config, Sequence[float] | None]  # a value for each objective, then each bound


def choose(question: Question) -> Config:
    """The configuration that Ax's model, or `question.strategy`, proposes.

    Only values after the last epoch, or at the end of a trial that ended earlier, are used. A
    failed trial is abandoned, one that is under way or waits is pending, and what was rejected has
    the worst value so far. What Ax cannot do, it raises: without a result, its model cannot answer.
    """
    space, seed = question.space, derive(question.seed, "ask", question.number)
    with quiet_ax():
        client = space.ax_client(question.name, question.objectives, question.bounds, seed=seed)
        client.set_generation_strategy(_strategy(question))
        known, pending = _ended(question)
        attach(client, space, _metrics(question), known)
        for config in pending:
            client.attach_trial(_varying(space, config))
        drawn = client.get_next_trials(max_trials=1)
    return space.completed(next(iter(drawn.values())))


def attach(
    client: "Client", space: SearchSpace, objectives: Sequence[Objective], known: Sequence[Known]
) -> None:
    """Give Ax the trials that have ended, all values at once; None is a trial that failed.

    With `complete_trial`, Ax copies all earlier values for each: 0.4 s for 30 trials, not 0.015 s.
    """
    import pandas as pd
    from ax.core.data import Data

    trials, rows = client._experiment.trials, []
    metrics, names = client._experiment.metrics, [objective.metric for objective in objectives]
    for config, values in known:
        index = client.attach_trial(_varying(space, config))
        if values is None:
            client.mark_trial_abandoned(index)
            continue
        for name, value in dict(zip(names, values, strict=True)).items():
            row = (index, trials[index].arms[0].name, value, math.nan, name)
            rows.append((*row, metrics[name].signature))
    columns = ["trial_index", "arm_name", "mean", "sem", "metric_name", "metric_signature"]
    client._experiment.attach_data(Data(df=pd.DataFrame(rows, columns=columns)))
    for index in dict.fromkeys(row[0] for row in rows):
        trials[index].mark_completed()


def _strategy(question: Question) -> Any:
    from ax.generation_strategy.generation_strategy import GenerationStrategy

    from torchstudy.search.generation import strategy

    given = question.strategy
    if given is not None:  # Ax would make a plain strategy of one with a `gen` of its own
        return given.clone_reset() if type(given) is GenerationStrategy else copy.deepcopy(given)
    dimensions = [question.space.domains[name] for name in question.space.dimensions]
    return strategy(is_continuous=all(domain.size == math.inf for domain in dimensions))


def _ended(question: Question) -> tuple[list[Known], list[Config]]:
    """The trials whose end is known, then the rejected ones; and the configurations under way."""
    known: list[Known] = []
    pending = []
    for trial in question.tried:
        if trial.state == "failed":
            known.append((trial.config, None))
        elif trial.state == "completed" or question.ladder.top in trial.values:
            values = trial.at(trial.epochs)
            known.append((trial.config, values if all(map(math.isfinite, values)) else None))
        else:
            pending.append(trial.config)
    worst = _worst([values for _, values in known if values is not None], _metrics(question))
    return [*known, *((config, worst) for config in question.rejected)], pending


def _metrics(question: Question) -> list[Objective]:
    """The objectives, and the metrics that have bounds: what a trial has values of."""
    return [*question.objectives, *(bound.objective for bound in question.bounds)]


def _worst(
    values: Sequence[Sequence[float]], objectives: Sequence[Objective]
) -> Sequence[float] | None:
    """The worst values so far: what lies beyond a limit is to look no better to the model."""
    if not values:
        return None
    return [
        min(column, key=lambda value: objective.sign * value)
        for column, objective in zip(zip(*values, strict=True), objectives, strict=True)
    ]


def _varying(space: SearchSpace, config: Config) -> Config:
    """The part of a configuration that Ax knows; a new dict, since Ax changes what it is given."""
    return {name: config[name] for name in space.dimensions if name in config}
