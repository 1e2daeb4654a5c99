"""The Pareto front: the trials of a study that no other beats in all objectives."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from torchstudy.analysis.tables import CONFIG, Results, numbers, usable_values
from torchstudy.pareto import on_front
from torchstudy.records import COSTS, FRONT_COLUMNS, Objective, Status


def front_table(trials: pd.DataFrame, objectives: Sequence[Objective]) -> pd.DataFrame:
    """The completed trials of all families that none beats in every objective, best first.

    Columns: study, family, trial, one per objective (`valid_<metric>` at the best epoch, or the
    cost's name), then `config.<name>` of what differs between the study's trials. A trial beats
    another if it is nowhere worse and somewhere better. Trials without a value for an objective
    are left out.
    """
    values = objective_values(trials, objectives)
    usable = values.notna().all(axis=1) & (trials["status"] == Status.COMPLETED.value)
    values = values[usable]
    signs = np.array([objective.sign for objective in objectives], dtype=float)
    best = values[on_front(values.to_numpy(dtype=float) * signs)]
    configs = [name for name in trials if _is_config(name) and trials[name].nunique() > 1]
    keys = trials.loc[best.index, list(FRONT_COLUMNS)]
    table = pd.concat([keys, best, trials.loc[best.index, configs]], axis=1)
    order = np.argsort(-signs[0] * best.iloc[:, 0].to_numpy(dtype=float), kind="stable")
    ordered: pd.DataFrame = table.iloc[order].reset_index(drop=True)
    return ordered


def objective_values(trials: pd.DataFrame, objectives: Sequence[Objective]) -> pd.DataFrame:
    """A column for each objective, named as in `front_table`; NaN for failed trials."""
    return pd.DataFrame({column(each): values_of(trials, each) for each in objectives})


def values_of(trials: pd.DataFrame, objective: Objective) -> "pd.Series[float]":
    """An objective of every trial; NaN where there is none, and for failed trials."""
    if objective.metric not in COSTS:
        return usable_values(trials, objective)
    failed = [status.value for status in Status if status.is_failure]
    return numbers(trials, objective.metric).mask(trials["status"].isin(failed))


def column(objective: Objective) -> str:
    """The column of an objective: a cost is that of the network, not of a split."""
    return objective.metric if objective.metric in COSTS else f"valid_{objective.metric}"


def front(results: Results) -> pd.DataFrame:
    """`front_table` of a study's results."""
    return front_table(results.trials, results.objectives)


def _is_config(name: object) -> bool:
    return str(name).startswith(CONFIG)
