"""What a search is asked next: everything that may be known by then, read off the board."""

import math
from dataclasses import dataclass, field

from torchstudy.analysis.outlook import LATEST, likely_gain
from torchstudy.execution.board import Board
from torchstudy.execution.legs import Leg, Legs
from torchstudy.execution.rung_values import best_until, seen, work_of
from torchstudy.records import Epoch, Status, Training
from torchstudy.search.proposer import num_initial
from torchstudy.search.questions import Question, distinct
from torchstudy.search.rungs import Ladder, ladder_for, without_rungs
from torchstudy.search.tried import State, Tried
from torchstudy.seeds import derive
from torchstudy.space import Config, SearchSpace
from torchstudy.study import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question about a family; `pending` are the decisions whose results it does not know."""

    family: str
    question: Question
    pending: tuple[int, ...]


@dataclass(slots=True, kw_only=True)
class Inquiry:
    """Asks one question after the other for each family, and keeps what came of them in this run.

    `families` are those that take part now; `closed` those of them for which no new configuration
    was found, and `exhausted` those that have nothing more to decide; `rejected` what the limits
    forbade, by family and decision; `good` what each begins with, with its origin.
    """

    study: Study
    board: Board
    legs: Legs
    num_workers: int
    families: list[str]
    good: dict[str, list[tuple[Config, str]]] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    exhausted: set[str] = field(default_factory=set)
    rejected: dict[tuple[str, int], list[Config]] = field(default_factory=dict)
    ladder: Ladder = field(init=False)
    spaces: dict[str, SearchSpace] = field(init=False)
    _pointless: dict[str, int] = field(default_factory=dict)  # results at which nothing was to do
    _settled: dict[str, tuple[tuple[int, int], bool]] = field(default_factory=dict)
    _curves: dict[tuple[str, int], tuple[int, dict[int, Epoch]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        is_auto = self.study.method_name == "auto"
        self.ladder = (ladder_for if is_auto else without_rungs)(self.study.epochs)
        self.spaces = {cls.__name__: self.study.space_of(cls) for cls in self.study.families}

    def question(self) -> Asked | None:
        """The next decision to make; None while there is nothing to ask.

        The first decisions are new configurations, need no results and are asked at once. Later
        ones are asked while as many legs are under way as keep the workers busy; they know what has
        come of all legs that have ended but the one decided last: with one worker it does not
        depend on a clock what that is. When no new configuration is to come, only promotions are
        left, which know every result.
        """
        wanted = [family for family in self.families if self.is_open(family)]
        for family in sorted(wanted, key=self.legs.count):
            unended = list(self.legs.unended(family))
            if self._may_ask(family, len(unended)):
                legs = self.legs.of(family)
                known = self._known(family, legs, unended)
                settled = {leg.decision.number for leg in known}
                numbers = (leg.decision.number for leg in legs)
                return Asked(
                    family=family,
                    question=self._question(family, legs, known),
                    pending=tuple(number for number in numbers if number not in settled),
                )
        return None

    def is_open(self, family: str) -> bool:
        """Whether the family may still get new trials or promotions."""
        if family in self.exhausted:
            return False
        if not self.has_time(family):
            return self._lacks_an_end(family)
        return len(self.ladder.levels) > 1 or not self._is_closing(family)

    def has_time(self, family: str) -> bool:
        """Whether the family may begin what it has decided, as far as the clock is concerned.

        Nothing begins that would probably not get to its first rung in time.
        """
        if self.study.minutes is None:
            return True
        return self._seconds(family) + self._seconds_to_begin(family) < 60 * self.study.minutes

    def _lacks_an_end(self, family: str) -> bool:
        """Whether no trial has come to its end or is on the way there, and some wait at a rung.

        A study of few minutes would have nothing to show otherwise.
        """
        for leg in self.legs.of(family):
            training = self.legs.training(leg)
            status = training.status if training is not None else None
            is_going = leg.until >= self.study.epochs and (status or leg.is_promotion)
            if status is Status.COMPLETED or (is_going and not (status and status.is_failure)):
                return False
        return bool(self.legs.resting(family))

    def nothing(self, family: str) -> bool:
        """Note that there was nothing to decide; whether that is so for good.

        Where new configurations were still asked for, only promotions are from now on.
        """
        if not self._is_closing(family):
            self.closed.add(family)
            return False
        if self.has_time(family) and any(True for _ in self.legs.unended(family)):
            self._pointless[family] = self._num_ended(family)
            return False
        self.exhausted.add(family)
        return True

    def reject(self, family: str, config: Config) -> int:
        """Note that the family's next decision broke a limit; how many did by now."""
        refused = self.rejected.setdefault((family, self.legs.count(family)), [])
        refused.append(config)
        return len(refused)

    def rate(self, family: str) -> float:
        """Seconds for a unit of counted work, from what has been trained; NaN without any."""
        work = seconds = 0.0
        for training in self.board.searched(family):
            cost = work_of(training) * training.epochs
            if cost > 0:
                work, seconds = work + cost, seconds + training.seconds
        return seconds / work if work else math.nan

    @property
    def lag(self) -> int:
        """How many legs may be under way or wait for a worker when another is decided.

        One per worker is what workers need that never wait for each other. Half a leg more per
        worker, shared by the families that take turns, lets them go on while a decision is computed
        or one leg takes long; each costs the search a little (benchmarks/idle.py).
        """
        return self.num_workers + self.num_workers // (2 * len(self.study.families))

    def _may_ask(self, family: str, num_unended: int) -> bool:
        """Whether the next decision can be made now, or has to wait for results."""
        if not self.has_time(family):
            return not self._is_training(family)
        is_closing = self._is_closing(family)
        if self._is_catching_up(family) and (is_closing or not self._is_early(family)):
            return False
        if is_closing:
            num_ended = self.legs.count(family) - num_unended
            is_worth_it = self._pointless.get(family) != num_ended
            return num_unended < self.num_workers and is_worth_it
        return self._is_early(family) or num_unended <= self.lag

    def _known(self, family: str, legs: list[Leg], unended: list[Leg]) -> list[Leg]:
        """The legs whose results the next decision may know."""
        is_closing = self._is_closing(family)
        if self._is_early(family) and not is_closing:
            return []
        waits = {leg.decision.number for leg in unended}
        seen = legs if is_closing else legs[:-1]
        return [leg for leg in seen if leg.decision.number not in waits]

    def _is_catching_up(self, family: str) -> bool:
        """Whether a crashed trial that began again is not yet where it was to get, unless last."""
        last, unended = self.legs.count(family) - 1, self.legs.unended(family)
        return any(leg.decision.number < last and self.legs.began_again(leg) for leg in unended)

    def _is_training(self, family: str) -> bool:
        """Whether a training has begun that is not at its end and does not wait at a rung."""
        return any(
            not (training.status.is_final or training.is_resting(self.study.epochs))
            for training in self.board.searched(family)
        )

    def _is_early(self, family: str) -> bool:
        """Whether the next new configuration needs no results."""
        return self.legs.count(family) < num_initial(self.spaces[family])

    def _is_closing(self, family: str) -> bool:
        """Whether no new configuration is to come."""
        trials, size = self.board.trials[family], self.spaces[family].size
        if not self.has_time(family) or len(trials) >= self._most(family):
            return True
        return len(trials) >= size and distinct(trial.config for trial in trials) >= size

    def _most(self, family: str) -> int:
        """How many trials there may be in all: no more where none is found or worth it."""
        num_there = len(self.board.trials[family])
        is_over = family in self.closed or not self.has_time(family) or self.is_settled(family)
        return num_there if is_over else self.study.trials

    def is_settled(self, family: str) -> bool:
        """Whether the trials that are left would probably gain less than the study asks for.

        The leg decided last is left out, as its result may not be known to a question either.
        """
        if self.study.worthwhile is None:
            return False
        state = self.legs.count(family), self._num_ended(family)
        if self._settled.get(family, (None, False))[0] != state:
            self._settled[family] = state, self._likely_gain(family) < self.study.worthwhile
        return self._settled[family][1]

    def _likely_gain(self, family: str) -> float:
        """What the trials that are left would bring in 9 of 10 cases; infinite if not known yet."""
        most = int(min(self.study.trials, self.spaces[family].size))
        num_left = most - len(self.board.trials[family])
        sign, legs = self.study.objective.sign, self.legs.of(family)[:-1]
        proposed = [
            leg.decision
            for leg in legs
            if leg.decision.origin == "model" and math.isfinite(leg.decision.value)
        ][-LATEST:]
        known = [self.legs.training(leg) for leg in legs if self.legs.is_ended(leg)]
        values = [sign * t.valid(self.study.objective) for t in known if t is not None]
        values = [value for value in values if math.isfinite(value)]
        if num_left <= 0 or len(proposed) < LATEST or not values:
            return math.inf
        return likely_gain(
            [sign * decision.value for decision in proposed],
            [decision.spread for decision in proposed],
            best=max(values),
            count=num_left,
        )

    def _seconds_to_begin(self, family: str) -> float:
        """What the next trial to begin will probably take to its first rung; 0 if not known."""
        new = (leg for leg in self.legs.unended(family) if self.legs.training(leg) is None)
        if (leg := next(new, None)) is None:
            return 0.0
        first = self.ladder.levels[0] if leg.until == self.ladder.top else leg.until
        if math.isfinite(leg.decision.seconds):
            return leg.decision.seconds * first / leg.until
        epochs = sum(training.epochs for training in self.board.searched(family))
        return self._seconds(family) / epochs * first if epochs else 0.0

    def _num_ended(self, family: str) -> int:
        return self.legs.count(family) - sum(1 for _ in self.legs.unended(family))

    def _seconds(self, family: str) -> float:
        return sum(training.seconds for training in self.board.searched(family))

    def _question(self, family: str, legs: list[Leg], known: list[Leg]) -> Question:
        number, is_named = len(legs), isinstance(self.study.method, str)
        return Question(
            name=f"{self.study.name}/{family}",
            space=self.spaces[family],
            objective=self.study.objective,
            further=self.study.objectives[1:],
            bounds=self.study.bounds,
            ladder=self.ladder,
            trials=self._most(family),
            tried=self._tried(family, legs, known),
            number=number,
            seed=derive(self.study.seed, family, "search"),
            method=self.study.method if is_named else "ax",
            strategy=None if is_named else self.study.method,
            spent=self._spent(family),
            is_last=not self.has_time(family),
            trusts_recipe=True,
            good=self.good.get(family, ()),
            rejected=() if self._is_closing(family) else self._rejected(family, number),
        )

    def _rejected(self, family: str, number: int) -> tuple[Config, ...]:
        return tuple(self.rejected.get((family, number), ()))

    def _spent(self, family: str) -> float:
        share = len(self.board.trials[family]) / self.study.trials
        if self.study.minutes is not None:
            share = max(share, self._seconds(family) / (60 * self.study.minutes))
        return min(1.0, share)

    def _tried(self, family: str, legs: list[Leg], known: list[Leg]) -> tuple[Tried, ...]:
        reached: dict[int, int] = {}
        for leg in known:
            reached[leg.trial.number] = max(leg.until, reached.get(leg.trial.number, 0))
        last = {leg.trial.number: leg for leg in legs}
        settled = {leg.decision.number for leg in known}
        return tuple(
            self._as_tried(leg, reached.get(number, 0), is_settled=leg.decision.number in settled)
            for number, leg in sorted(last.items())
        )

    def _as_tried(self, leg: Leg, reached: int, *, is_settled: bool) -> Tried:
        training = self.legs.training(leg)
        if training is None or not (is_settled or reached):
            return Tried(
                number=leg.trial.number,
                config=dict(leg.trial.config),
                state="pending",
                until=leg.until,
            )
        values, further = self._values(training)
        state = _state(training, values) if is_settled else "pending"
        until = self.ladder.top if state == "completed" else leg.until
        most = until if state == "completed" else reached
        return Tried(
            number=leg.trial.number,
            config=dict(leg.trial.config),
            state=state,
            until=until,
            values={level: value for level, value in values.items() if level <= most},
            further={level: row for level, row in further.items() if level <= most},
            cost=work_of(training),
        )

    def _values(self, training: Training) -> tuple[dict[int, float], dict[int, tuple[float, ...]]]:
        """The first objective and what else counts, at the best epoch up to each rung reached.

        A training that is at its end has reached them all.
        """
        key = training.trial.family, training.trial.number
        known = self._curves.get(key)
        if known is None or known[0] != training.epochs:
            rows = best_until(self.board.epochs(training.key), self.study.objective, self.ladder)
            known = self._curves[key] = training.epochs, rows
        first, *others = self.study.objectives
        others += [bound.objective for bound in self.study.bounds]
        values = {level: row.valid(first) for level, row in known[1].items()}
        further = {
            level: tuple(seen(training, row, objective) for objective in others)
            for level, row in known[1].items()
        }
        final = training.valid(first)
        if training.status is Status.COMPLETED and math.isfinite(final):
            for level in self.ladder.levels:
                if level >= training.epochs:
                    values[level] = final
                    further[level] = tuple(training.valid(objective) for objective in others)
        return values, further if others else {}


def _state(training: Training, values: dict[int, float]) -> State:
    if training.status in (Status.PAUSED, Status.STOPPED):
        return "waiting"
    return "completed" if training.status is Status.COMPLETED and values else "failed"
