"""The Pareto front: the trials of a study that no other beats in all objectives."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from torchstudy.analysis.tables import CONFIG, Results, numbers, shortfalls, usable_values
from torchstudy.pareto import on_front
from torchstudy.records import COSTS, Bound, Objective, Status
from torchstudy.schemas import FRONT_COLUMNS


def front_table(
    trials: pd.DataFrame, objectives: Sequence[Objective], bounds: Sequence[Bound] = ()
) -> pd.DataFrame:
    """The completed trials of all families that none beats in every objective, best first.

    Columns: study, family, trial, one per objective (`valid_<metric>` at the best epoch, or the
    cost's name), then `config.<name>` of what differs between the study's trials. A trial beats
    another if it is nowhere worse and somewhere better. Trials without a value for an objective
    are left out, and those that miss one of the bounds.
    """
    values = completed_values(trials, objectives)
    values = values[shortfalls(trials.loc[values.index], bounds) == 0]
    signs = np.array([objective.sign for objective in objectives], dtype=float)
    best = values[on_front(values.to_numpy(dtype=float) * signs)]
    hyperparameters = (name for name in trials if str(name).startswith(CONFIG))
    configs = [name for name in hyperparameters if trials[name].nunique() > 1]
    keys = trials.loc[best.index, list(FRONT_COLUMNS)]
    table = pd.concat([keys, best, trials.loc[best.index, configs]], axis=1)
    order = np.argsort(-signs[0] * best.iloc[:, 0].to_numpy(dtype=float), kind="stable")
    ordered: pd.DataFrame = table.iloc[order].reset_index(drop=True)
    return ordered


def completed_values(trials: pd.DataFrame, objectives: Sequence[Objective]) -> pd.DataFrame:
    """The completed trials that have every objective: a column for each, as in `front_table`."""
    values = pd.DataFrame({column(each): _values(trials, each) for each in objectives})
    is_completed = trials["status"] == Status.COMPLETED.value
    return values[values.notna().all(axis=1) & is_completed]


def column(objective: Objective) -> str:
    """The column of an objective: a cost is that of the network, not of a split."""
    return objective.metric if objective.metric in COSTS else f"valid_{objective.metric}"


def _values(trials: pd.DataFrame, objective: Objective) -> "pd.Series[float]":
    """An objective of every trial; NaN where there is none."""
    is_cost = objective.metric in COSTS
    return numbers(trials, objective.metric) if is_cost else usable_values(trials, objective)


def front(results: Results) -> pd.DataFrame:
    """`front_table` of a study's results."""
    return front_table(results.trials, results.objectives, results.bounds)
