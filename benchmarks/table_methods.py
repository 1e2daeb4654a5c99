"""The searches that are compared where every trial is a full evaluation, asked one at a time."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from torchstudy.domains import ChoiceDomain, IntDomain
from torchstudy.quiet import quiet_ax
from torchstudy.records import Objective
from torchstudy.search.proposer import decide
from torchstudy.search.questions import Question
from torchstudy.search.rungs import without_rungs
from torchstudy.search.tried import Tried
from torchstudy.space import Config, SearchSpace
from torchstudy.values import is_number

Evaluate: TypeAlias = Callable[[Config], float]
MAXIMISED = Objective(metric="value", direction="maximize")


def own(
    evaluate: Callable[[Config], tuple[float, ...]],
    space: SearchSpace,
    trials: int,
    seed: int,
    method: str,
    *,
    further: Sequence[Objective] = (),
) -> None:
    """The product's search, asked as its run loop asks it; one value for each objective."""
    tried: list[Tried] = []
    question = Question(
        name="table",
        space=space,
        objective=MAXIMISED,
        further=further,
        ladder=without_rungs(1),
        trials=trials,
        tried=(),
        number=0,
        seed=seed,
        method=method,
    )
    for number in range(trials):
        asked = replace(question, tried=tuple(tried), number=number, spent=number / trials)
        config = decide(asked).config
        first, *others = evaluate(config)
        tried.append(
            Tried(
                number=number,
                config=config,
                state="completed",
                until=1,
                values={1: first},
                further={1: tuple(others)} if others else {},
            )
        )


def alone(evaluate: Evaluate, space: SearchSpace, trials: int, seed: int, method: str) -> None:
    """`own` with one objective."""
    own(lambda config: (evaluate(config),), space, trials, seed, method)


def ax(evaluate: Evaluate, space: SearchSpace, trials: int, seed: int) -> None:
    """Ax's client with the strategy that it chooses by itself."""
    client = space.ax_client("table", [MAXIMISED], seed=seed)
    for _ in range(trials):
        with quiet_ax():
            [(index, values)] = client.get_next_trials(max_trials=1).items()
            client.complete_trial(index, {"value": evaluate(space.completed(values))})


def optuna(evaluate: Evaluate, space: SearchSpace, trials: int, seed: int, sampler: str) -> None:
    """A sampler of Optuna; a choice of numbers is an integer: its rank."""
    import optuna as library

    library.logging.set_verbosity(library.logging.ERROR)
    warnings.simplefilter("ignore", library.exceptions.ExperimentalWarning)
    drawn: Any = getattr(library.samplers, sampler)(seed=seed)
    study = library.create_study(direction="maximize", sampler=drawn)
    for _ in range(trials):
        trial = study.ask()
        config = {name: suggested(trial, name, space.domains[name]) for name in space.dimensions}
        study.tell(trial, evaluate(config))


def suggested(trial: Any, name: str, domain: Any) -> Any:
    """What an Optuna trial suggests for a domain."""
    if isinstance(domain, ChoiceDomain):
        if all(is_number(value) for value in domain.values):
            return domain.values[trial.suggest_int(name, 0, len(domain.values) - 1)]
        return trial.suggest_categorical(name, list(domain.values))
    if isinstance(domain, IntDomain):
        return trial.suggest_int(name, domain.low, domain.high, log=domain.log)
    return trial.suggest_float(name, domain.low, domain.high, log=domain.log)


METHODS: dict[str, Callable[[Evaluate, SearchSpace, int, int], None]] = {
    "ours": lambda *given: alone(*given, "auto"),
    "random": lambda *given: alone(*given, "random"),
    "optuna_gp": lambda *given: optuna(*given, "GPSampler"),
    "optuna_tpe": lambda *given: optuna(*given, "TPESampler"),
    "ax": ax,
}
