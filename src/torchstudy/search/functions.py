"""Tuning any function over a search space, no networks involved: `tune(objective, space)`."""

import math
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from torchstudy.analysis.tables import frame
from torchstudy.checking import method_problems
from torchstudy.errors import RunError, SpaceError, StudyError
from torchstudy.records import METHODS, Direction, Objective, Status
from torchstudy.search.proposer import decide
from torchstudy.search.questions import Proposal, Question, SearchOver
from torchstudy.search.rungs import without_rungs
from torchstudy.search.tried import Tried
from torchstudy.seeds import derive
from torchstudy.space import Config, SearchSpace
from torchstudy.values import is_integer

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    "trial": "Int64",
    "status": "string",
    "reason": "string",
    "origin": "string",
    "value": "float64",
    "seconds": "float64",
}
SAME_ERRORS = 3  # first trials that fail alike end the search

Row = dict[str, object]


def tune(
    objective: Callable[[Config], float],
    space: SearchSpace | Mapping[str, object],
    *,
    direction: Direction = "maximize",
    trials: int = 20,
    seed: int = 0,
    method: object = "auto",
    on_trial: Callable[[Mapping[str, object]], None] = lambda row: None,
) -> "pd.DataFrame":
    """Search for the configuration with the best value of `objective`; one row per trial.

    Args:
        objective: a function from a configuration (name -> value) to a number.
        space: a SearchSpace, or a mapping of names to Float, Int, Choice, Ax configs or values.
        direction: "maximize" or "minimize".
        trials: how many configurations to try; fewer if a discrete space has fewer.
        seed: where every random number of the search comes from.
        method: "auto" (the own model), "ax" (Ax's), "sobol" or "random"; or an Ax
            GenerationStrategy, of which each question is asked to a fresh copy.
        on_trial: is given every row as soon as it is there, also of a search that is interrupted.

    Columns: trial, status, reason, origin, value, seconds, `config.<name>`; the first trial has
    every default, or the middle of its range. An exception makes a trial `crashed`, a value that is
    not finite `diverged`; the search goes on. Same seed, same objective: same trials. Raises
    StudyError for arguments that cannot be, RunError where the first three trials fail alike.
    """
    _check(objective, space, direction, trials, seed, method)
    question = Question(
        name="tune",
        space=_space_of(space),
        objective=Objective(metric="value", direction=direction),
        ladder=without_rungs(1),
        trials=trials,
        tried=(),
        number=0,
        seed=derive(seed, "tune"),
        method=method if isinstance(method, str) else "ax",
        strategy=None if isinstance(method, str) else method,
    )
    rows: list[Row] = []
    for number in range(trials):
        try:
            proposal = decide(replace(question, number=number, spent=number / trials))
        except SearchOver:
            break
        row = _tried(objective, proposal.config)
        row["reason"] = row["reason"] or proposal.note
        rows.append({"trial": number, "origin": proposal.origin, **row})
        question = replace(question, tried=[*question.tried, _learned(proposal, row)])
        on_trial(rows[-1])
        _stop_if_all_fail_alike(rows)
    return frame(rows, COLUMNS)


def _learned(proposal: Proposal, row: Row) -> Tried:
    """What the search learns of a row."""
    value = row["value"]
    assert isinstance(value, float)
    is_completed = row["status"] == Status.COMPLETED.value
    return Tried(
        number=proposal.trial,
        config=proposal.config,
        state="completed" if is_completed else "failed",
        until=proposal.until,
        values={proposal.until: value} if is_completed else {},
    )


def _space_of(space: SearchSpace | Mapping[str, object]) -> SearchSpace:
    if isinstance(space, SearchSpace):
        return space
    try:
        return SearchSpace(space)
    except SpaceError as error:
        raise SpaceError([f"space.{problem}" for problem in error.problems]) from None


def _check(
    objective: object, space: object, direction: str, trials: object, seed: object, method: object
) -> None:
    problems = []
    if not callable(objective):
        problems.append(f"objective is a function of a configuration, not {objective!r}")
    if not isinstance(space, SearchSpace | Mapping):
        problems.append(f"space is a SearchSpace or a mapping of names to ranges, not {space!r}")
    if direction not in ("maximize", "minimize"):
        problems.append(f"direction is 'maximize' or 'minimize', not {direction!r}")
    if not is_integer(trials) or trials < 1:
        problems.append(f"trials must be a whole number of at least 1; got {trials!r}")
    if not is_integer(seed) or seed < 0:
        problems.append(f"seed must be a whole number of at least 0; got {seed!r}")
    problems += method_problems(method, METHODS)
    if problems:
        raise StudyError(problems)


def _tried(objective: Callable[[Config], float], config: Config) -> Row:
    """One call of the objective: status, reason, value and seconds, with the configuration."""
    began = time.perf_counter()
    value, status, reason = math.nan, Status.COMPLETED, ""
    try:
        value = float(objective(dict(config)))
    except Exception:  # a user's function may raise anything: that is an outcome
        status, reason = Status.CRASHED, traceback.format_exc()
    if status is Status.COMPLETED and not math.isfinite(value):
        status, reason = Status.DIVERGED, f"the value is {value}"
    return {
        "status": status.value,
        "reason": reason,
        "value": value,
        "seconds": time.perf_counter() - began,
        **{f"config.{name}": given for name, given in config.items()},
    }


def _stop_if_all_fail_alike(rows: list[Row]) -> None:
    if len(rows) != SAME_ERRORS or any(row["status"] != Status.CRASHED.value for row in rows):
        return
    last_lines = {str(row["reason"]).strip().rpartition("\n")[2] for row in rows}
    if len(last_lines) == 1:
        raise RunError(f"the first {SAME_ERRORS} trials crashed alike:\n{rows[0]['reason']}")
