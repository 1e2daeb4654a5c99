"""What to try next: a function of earlier results and a seed, answered by Ax.

A client is built afresh for every question from the results it may use, so that the answer is the
same whether a run was interrupted or not. Ax's own state is never stored.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchstudy.errors import TorchstudyError
from torchstudy.quiet import quiet_ax
from torchstudy.records import Objective
from torchstudy.seeds import derive
from torchstudy.space import Config, SearchSpace

if TYPE_CHECKING:
    from ax.api.client import Client

ORIGINS = ("recipe", "sobol", "model", "random")
MODEL_TRIES = 4  # rejected answers to a question before random ones take their place
TRIES = 100  # random draws before a discrete space counts as used up
HALVINGS = 10  # of a line in the unit cube: finer than a limit can be felt


class SpaceExhausted(TorchstudyError):
    """Every configuration of a discrete space has been proposed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A finished trial: its configuration and its value, None where it failed."""

    config: Config
    value: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Everything the next proposal depends on.

    `results` are those that may be used, in trial order; `pending` are proposed configurations
    whose results may not. `number` is the number of the trial that is asked for, from 0. `rejected`
    are earlier answers to this question that the study's limits forbid, in order.
    """

    name: str
    space: SearchSpace
    objective: Objective
    results: Sequence[Result]
    pending: Sequence[Config]
    number: int
    seed: int
    rejected: Sequence[Config] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A configuration to try, where it came from, and a note if something went another way."""

    config: Config
    origin: str
    note: str = ""


def num_initial(space: SearchSpace) -> int:
    """How many trials, the recipe included, come before a model is asked: min(8, 2 d)."""
    return max(2, min(8, 2 * len(space.dimensions)))


def propose(question: Question) -> Proposal:
    """The configuration of trial `question.number`.

    Trial 0 is the recipe, unless it is rejected; then come points of a scrambled Sobol sequence;
    then Ax's model (a Gaussian process with log noisy expected improvement). A configuration is
    never proposed twice.
    Raises SpaceExhausted when none is left.
    """
    space, number = question.space, question.number
    if number >= space.size:
        raise SpaceExhausted(f"all {space.size:.0f} configurations have been tried")
    known = [*(result.config for result in question.results), *question.pending]
    known += question.rejected
    if number == 0 and space.recipe not in known:
        return Proposal(config=space.recipe, origin="recipe")
    num_usable = sum(result.value is not None for result in question.results)
    if number == 0 or len(question.rejected) >= MODEL_TRIES:
        return _random_unknown(question, known)
    if number < num_initial(space) or num_usable < 2:
        if question.rejected:
            return _random_unknown(question, known)
        with quiet_ax():
            config = _sobol_point(question)
        if config not in known:
            return Proposal(config=config, origin="sobol")
        return _random_unknown(question, known)
    try:
        with quiet_ax():
            config = _model_choice(question)
    except Exception as error:  # whatever Ax raises must not end a search that can go on
        note = f"Ax gave no proposal for trial {number} ({type(error).__name__}: {error})"
        return _random_unknown(question, known, note)
    if config not in known:
        return Proposal(config=config, origin="model")
    return _random_unknown(question, known)


def drawn_back(
    question: Question, proposal: Proposal, is_allowed: Callable[[Config], bool]
) -> Proposal | None:
    """A model's `proposal` that is not allowed, drawn back towards the best result until it is.

    A model that finds more of everything better proposes what a limit forbids again and again; the
    best that is allowed then lies close to the limit. First the best result takes from the proposal
    each value that it may, one by one; then the straight line in the unit cube from there to the
    proposal is halved. None for a proposal that is no model's, and where nothing new is found.
    """
    usable = [result for result in question.results if result.value is not None]
    if proposal.origin != "model" or not usable:
        return None
    best = max(usable, key=lambda result: question.objective.sign * (result.value or 0.0))
    space = question.space
    near, far = list(space.to_unit(best.config)), space.to_unit(proposal.config)
    for axis, place in enumerate(far):
        tried = [*near[:axis], place, *near[axis + 1 :]]
        near = tried if is_allowed(space.from_unit(tried)) else near
    config = _last_allowed(space, near, far, is_allowed)
    known = [*(result.config for result in question.results), *question.pending]
    return None if config in known else Proposal(config=config, origin="model", note=proposal.note)


def _last_allowed(
    space: SearchSpace,
    near: Sequence[float],
    far: Sequence[float],
    is_allowed: Callable[[Config], bool],
) -> Config:
    """The configuration on the line from `near`, which is allowed, nearest to `far`."""
    allowed, forbidden, found = 0.0, 1.0, space.from_unit(near)
    for _ in range(HALVINGS):
        share = (allowed + forbidden) / 2
        config = space.from_unit([a + share * (b - a) for a, b in zip(near, far, strict=True)])
        if is_allowed(config):
            allowed, found = share, config
        else:
            forbidden = share
    return found


def _sobol_point(question: Question) -> Config:
    """Point `number - 1` of the family's Sobol sequence, drawn by Ax."""
    client = _client(question, derive(question.seed, "sobol"))
    client.configure_generation_strategy(
        initialization_budget=question.number,
        initialization_random_seed=derive(question.seed, "sobol"),
        initialize_with_center=False,
    )
    drawn = client.get_next_trials(max_trials=question.number)
    return question.space.completed(drawn[max(drawn)])


def _model_choice(question: Question) -> Config:
    client = _client(question, derive(question.seed, "ask", question.number))
    client.configure_generation_strategy(
        initialization_budget=1,
        initialize_with_center=False,
        use_existing_trials_for_initialization=True,
    )
    for result in question.results:
        index = client.attach_trial(_varying(question.space, result.config))
        if result.value is None:
            client.mark_trial_abandoned(index)
        else:
            client.complete_trial(index, {question.objective.metric: result.value})
    for config in question.rejected:
        index = client.attach_trial(_varying(question.space, config))
        client.complete_trial(index, {question.objective.metric: _worst(question)})
    for config in question.pending:
        client.attach_trial(_varying(question.space, config))
    drawn = client.get_next_trials(max_trials=1)
    return question.space.completed(next(iter(drawn.values())))


def _worst(question: Question) -> float:
    """The worst value so far: what lies beyond a limit is to look no better to the model."""
    sign = question.objective.sign
    return min((r.value for r in question.results if r.value is not None), key=lambda v: sign * v)


def _random_unknown(question: Question, known: Sequence[Config], note: str = "") -> Proposal:
    import numpy as np

    generator = np.random.default_rng(derive(question.seed, "random", question.number))
    for _ in range(TRIES + len(question.rejected)):
        config = question.space.sample(generator)
        if config not in known:
            return Proposal(config=config, origin="random", note=note)
    raise SpaceExhausted(f"no new configuration in {TRIES} random draws")


def _client(question: Question, seed: int) -> "Client":
    return question.space.ax_client(question.name, question.objective, seed=seed)


def _varying(space: SearchSpace, config: Config) -> Config:
    """The part of a configuration that Ax knows; a new dict, since Ax changes what it is given."""
    return {name: config[name] for name in space.dimensions if name in config}
