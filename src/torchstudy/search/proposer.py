"""What to do next: promote a trial that waits, or begin a new one; a function of the question.

New configurations are, in this order: the recipe, what is known to be good, points of a Sobol
sequence, and what a model thinks worth most. Nothing is kept between questions, so that the answer
is the same whether a run was interrupted or not.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING

from torchstudy.search.questions import Proposal, Question, SearchOver, key_of
from torchstudy.search.rungs import promotable
from torchstudy.search.tried import Tried
from torchstudy.seeds import derive
from torchstudy.space import Config, SearchSpace

if TYPE_CHECKING:
    from torchstudy.search.cube import Array
    from torchstudy.search.several import Surrogates

MODEL_TRIES = 4  # rejected answers to a question before random ones take their place
TRIES = 100  # random draws before what is left of a discrete space is listed
MOST_LISTED = 10_000  # configurations: a larger space is not used up by trials
FEWEST_VALUES = 2  # from which a model can learn what is better
FEWEST_RANKED = 6  # values before a model ranks trials better than their own values do
OPTIMISM = 0.5  # standard deviations that count for a trial that may be promoted
# Of ten new configurations the fifth is a point of the sequence: see _origin. With every second
# where the best trial is older than 15, regret in 44 searches of 22 data sets of LCBench was
# higher by 0.024 (standard error 0.014) at 20 units.
EXPLORED = (10, 4)


def num_initial(space: SearchSpace) -> int:
    """How many new configurations come before a model is asked, the recipe and good ones included.

    Two for each hyperparameter that varies, 2 to 8.
    """
    return max(2, min(8, 2 * len(space.dimensions)))


def needs_model(question: Question) -> bool:
    """Whether a model must be asked; any other answer takes about a millisecond."""
    waiting = _promotable(question)
    if waiting:
        return _is_ranked_by_model(question, waiting)
    return not _is_closing(question) and _origin(question) == "model"


def decide(question: Question) -> Proposal:
    """The next decision of a search.

    A trial that waits goes on where the rungs have room, the most promising first. Otherwise a new
    configuration begins; none is proposed twice, unless a strategy of Ax insists. When none is to
    come and nothing is left to promote, the recipe goes to the top, whatever its rank: the
    confirmation compares with it. Raises SearchOver after that.
    """
    if not needs_model(question):
        return _decided(question)
    with _one_thread():
        return _decided(question)


def _decided(question: Question) -> Proposal:
    if waiting := _promotable(question):
        return _promotion(question, waiting)
    if not _is_closing(question):
        return _new_trial(question)
    for trial in question.tried:
        if trial.config == question.space.recipe and trial.state == "waiting":
            return _going_on(trial, question.ladder.top)
    if question.num_configs >= question.space.size:
        raise SearchOver(
            f"all {question.space.size:.0f} configurations of the space have been tried"
        )
    raise SearchOver(f"the budget of {question.trials} trials is spent")


def _one_thread() -> AbstractContextManager[object]:
    """Linear algebra in one thread: sums in another order would be other bits, and no quicker."""
    import scipy.linalg  # noqa: F401  (its library has threads of its own)
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    limited: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limited


def _is_closing(question: Question) -> bool:
    """Whether no new configuration is to come."""
    is_used_up = question.num_configs >= question.space.size
    return is_used_up or len(question.tried) >= question.trials


def _promotable(question: Question) -> list[Tried]:
    if question.is_last:
        waiting = [trial for trial in question.tried if trial.state == "waiting"]
        highest = max((trial.epochs for trial in waiting), default=0)
        return [trial for trial in waiting if trial.epochs == highest]
    if question.rejected:  # only a new configuration can break a limit: one is asked for again
        return []
    return promotable(question.ladder, question.tried, is_closing=_is_closing(question))


def _is_ranked_by_model(question: Question, waiting: Sequence[Tried]) -> bool:
    num_values = sum(len(trial.values) for trial in question.tried)
    return len(waiting) > 1 and num_values >= FEWEST_RANKED


def _promotion(question: Question, waiting: Sequence[Tried]) -> Proposal:
    """The most promising of the trials that wait at one rung, until the next or to its end."""
    ladder = question.ladder
    until = ladder.top if question.is_last else ladder.after(waiting[0].epochs)
    learned = None
    if _is_ranked_by_model(question, waiting):
        learned = _surrogates(question)
    if isinstance(learned, str) or learned is None:
        waiting = _within(waiting, _lacking(question, waiting))
        best = _first(question, waiting, partial(_seen, question, waiting[0].epochs))
        return _going_on(best, until)
    points = learned.cube.points([trial.config for trial in waiting])
    waiting = _within(waiting, learned.lacking(points, optimism=OPTIMISM))
    best = _first(question, waiting, partial(_hoped, learned))
    return _foretold(_going_on(best, until), best.epochs, learned)


def _within(waiting: Sequence[Tried], lacking: Iterable[float]) -> list[Tried]:
    """The trials that keep within all bounds; those that lack least where none does."""
    lacks = [float(lack) for lack in lacking]
    return [trial for trial, lack in zip(waiting, lacks, strict=True) if lack == min(lacks)]


def _lacking(question: Question, waiting: Sequence[Tried]) -> list[float]:
    """By how much each trial has missed the bounds so far, 0 if it keeps within them."""
    first = 1 + len(question.further)
    return [
        sum(
            bound.shortfall(value)
            for bound, value in zip(question.bounds, trial.at(trial.epochs)[first:], strict=True)
        )
        for trial in waiting
    ]


def _first(
    question: Question,
    waiting: Sequence[Tried],
    values: "Callable[[Sequence[Tried]], Array]",
) -> Tried:
    """The best of the trials that wait; of several objectives one that no other beats.

    Of those, it is the one farthest from the trials that have gone on already.
    """
    from torchstudy.pareto import taken_in_order

    epochs = waiting[0].epochs
    above = [t for t in question.tried if t.until > epochs and epochs in t.values]
    return waiting[taken_in_order(values(waiting), values(above) if above else None)[0]]


def _seen(question: Question, epochs: int, trials: Sequence[Tried]) -> "Array":
    """The objectives of trials at a rung that they have reached, (n, m); larger is better.

    What is not known counts as the worst of its column.
    """
    import numpy as np

    signs = [objective.sign for objective in question.objectives]
    rows = np.array([trial.at(epochs)[: len(signs)] for trial in trials]) * signs
    worst = np.min(rows, axis=0, where=np.isfinite(rows), initial=np.inf)
    return np.where(np.isfinite(rows), rows, np.where(np.isfinite(worst), worst, 0.0))


def _hoped(learned: "Surrogates", trials: Sequence[Tried]) -> "Array":
    """The objectives at the last epoch as they may well be, warped, (n, m)."""
    points = learned.cube.points([trial.config for trial in trials])
    means, spreads = learned.predicted(points, is_begun=True)
    return means + OPTIMISM * spreads


def _going_on(trial: Tried, until: int) -> Proposal:
    return Proposal(trial=trial.number, config=trial.config, until=until, origin="promotion")


def _value(question: Question, trial: Tried) -> float:
    """The objective at the highest rung that a trial has reached; larger is better."""
    return question.objective.sign * trial.values[trial.epochs]


def _new_trial(question: Question) -> Proposal:
    """A configuration that is not known, as the next trial."""
    origin, note = _origin(question), ""
    if origin == "recipe":
        return _beginning(question, question.space.recipe, origin)
    if origin == "given":
        return _beginning(question, *question.good[len(question.tried) - 1])
    if origin == "sobol":
        from torchstudy.search.spreading import spread_out

        config, origin = spread_out(question)
        if config not in question.known:
            return _beginning(question, config, origin)
    if origin == "model":
        found = _by_ax(question) if question.asks_ax else _by_model(question)
        if isinstance(found, Proposal):
            return found
        note = found
    return _beginning(question, _random_unknown(question), "random", note)


def _origin(question: Question) -> str:
    """Where the next new configuration comes from: recipe, given, sobol, random or model.

    One in ten that a model would choose is a point of the sequence instead: it sees what the model
    is wrong about.
    """
    number, known = len(question.tried), question.known
    if number == 0 and question.space.recipe not in known:
        return "recipe"
    if 0 < number <= len(question.good) and question.good[number - 1][0] not in known:
        return "given"
    if number == 0 or question.method == "random" or len(question.rejected) >= MODEL_TRIES:
        return "random"
    is_early = number < num_initial(question.space) or question.method == "sobol"
    every, place = EXPLORED
    is_exploring = question.method == "auto" and number % every == place
    if is_early or is_exploring or _num_usable(question) < FEWEST_VALUES:
        return "random" if question.rejected else "sobol"
    return "model"


def _num_usable(question: Question) -> int:
    """How many values the model would have."""
    if not question.asks_ax:
        return sum(len(trial.values) for trial in question.tried)
    return sum(trial.state == "completed" for trial in question.tried)


def _beginning(question: Question, config: Config, origin: str, note: str = "") -> Proposal:
    number = len(question.tried)
    is_trusted = origin == "recipe" and question.trusts_recipe
    trained = sum(trial.epochs for trial in question.tried)
    until = question.ladder.top if is_trusted else question.ladder.first(number, trained)
    return Proposal(trial=number, config=config, until=until, origin=origin, note=note)


def _by_ax(question: Question) -> Proposal | str:
    """What Ax proposes; a note where it proposes nothing, or what was rejected.

    A configuration that has been tried becomes a trial of its own, with another seed.
    """
    from torchstudy.search.ax_method import choose

    try:
        config = choose(question)
    except Exception as error:  # whatever Ax raises must not end a search that can go on
        return _failure("Ax", question, error)
    if config in question.rejected:
        return ""
    is_known = config in [trial.config for trial in question.tried]
    return _beginning(question, config, "replicate" if is_known else "model")


def _by_model(question: Question) -> Proposal | str:
    """The configuration worth most; a note where the model fails, or finds nothing new."""
    from torchstudy.search.acquisition import best_point

    learned = _surrogates(question)
    if isinstance(learned, str):
        return learned
    point = best_point(question, learned)
    if point is None:
        return ""
    config = question.space.from_unit(point.tolist())
    if config in question.known:
        return ""
    return _foretold(_beginning(question, config, "model"), 0, learned)


def _surrogates(question: Question) -> "Surrogates | str":
    """What has been learned so far, or a note on why nothing could be."""
    import numpy as np

    from torchstudy.search.several import Surrogates

    try:
        return Surrogates.of(question)
    except (np.linalg.LinAlgError, FloatingPointError, ValueError) as error:
        return _failure("the model", question, error)


def _failure(who: str, question: Question, error: Exception) -> str:
    number = len(question.tried)
    return f"{who} gave no proposal for trial {number} ({type(error).__name__}: {error})"


def _foretold(proposal: Proposal, epochs: int, learned: "Surrogates") -> Proposal:
    """The proposal with what is expected of it, for a trial that has had so many epochs."""
    value, spread = learned.first.expected(proposal.config, is_begun=epochs > 0)
    return Proposal(
        trial=proposal.trial,
        config=proposal.config,
        until=proposal.until,
        origin=proposal.origin,
        value=value,
        spread=spread,
        cost=learned.first.cost(proposal.config) * (proposal.until - epochs),
    )


def _random_unknown(question: Question) -> Config:
    import numpy as np

    generator = np.random.default_rng(derive(question.seed, "random", len(question.tried)))
    known = question.known
    for _ in range(TRIES + len(question.rejected)):
        config = question.space.sample(generator)
        if config not in known:
            return config
    if question.space.size <= MOST_LISTED:
        seen = {key_of(config) for config in known}
        left = [config for config in question.space.configs() if key_of(config) not in seen]
        if left:
            return left[int(generator.integers(len(left)))]
    raise SearchOver(f"no new configuration in {TRIES} random draws")
