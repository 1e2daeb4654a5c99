"""Who goes on: the epochs at which trials pause, and which of those that wait are promoted.

Asynchronous successive halving by promotion, which never stops a trial for good while the search
goes on: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020. A trial
that was paused goes on from its checkpoint; learning-rate schedules are defined over the full
length, so that all have the same course.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from torchstudy.search.tried import Tried

FIRST = 3  # epochs: after one or two the order has little to do with the order at the end
SHARE = 0.06  # of the full length, the same for long trainings
FACTOR = 3
WORTH = 1.5  # a rung is left out where the next is fewer times as long: a pause saves little
STRAIGHT = 10
# Full trainings' worth of epochs after which a new trial pauses at the second rung first. Networks
# that learn late, deep ones above all, are far behind at the first rung, and a model that sees them
# there alone believes them bad: where searches of LCBench were stuck, 3 to 13% of random
# configurations were better than their best, in the middle of the field at 3 epochs, and among the
# best 2 to 8% at 9. While little has been tried a short first rung is worth more.
# Regret with it less that without: -0.009 (standard error 0.015) at 10 units and -0.026 (0.020) at
# 20 in 62 searches of 31 data sets. After 2.5: -0.026 (0.018), -0.013 (0.020), in 48 of them.
SOON = 5.0


@dataclass(frozen=True, slots=True)
class Ladder:
    """The rungs of a search, in epochs: the last is the full length of a training.

    Of the trials that have reached a rung, one in `factor` may go on to the next. Every
    `straight`-th new configuration goes to the top at once: some are late to bloom, and a model of
    learning curves has to see ends (0: none). They take up room on the rungs that they pass: where
    they did not, the regret in 42 searches of 31 data sets of LCBench was higher by 0.012 (standard
    error 0.027) at 20 units. With points of the sequence in their place it was higher by 0.082
    (0.033; 44 searches), with twice as many of them after 5 units by 0.016 (0.012; 62 searches).
    """

    levels: tuple[int, ...]
    factor: int = FACTOR
    straight: int = STRAIGHT

    @property
    def top(self) -> int:
        """The full length of a training."""
        return self.levels[-1]

    def first(self, number: int, trained: int) -> int:
        """Where the first leg of trial `number` ends, when all have had `trained` epochs in sum."""
        if self.straight and number % self.straight == self.straight - 1:
            return self.top
        return self.levels[self.num_skipped if trained >= SOON * self.top else 0]

    @property
    def num_skipped(self) -> int:
        """The rungs that later trials do not pause at: the first, if the next is not the top."""
        return int(len(self.levels) > 2)

    def after(self, epochs: int) -> int:
        """The next rung of a trial that has reached `epochs`."""
        return next(level for level in self.levels if level > epochs)


def ladder_for(epochs: int) -> Ladder:
    """The rungs for trainings of so many epochs: `27` -> 3, 9, 27; below 5 the end alone."""
    levels, level = list[int](), max(FIRST, round(SHARE * epochs))
    while level * WORTH <= epochs and level < epochs:
        levels.append(level)
        level *= FACTOR
    return Ladder(levels=(*levels, epochs))


def without_rungs(epochs: int) -> Ladder:
    """Every trial is trained to its end."""
    return Ladder(levels=(epochs,), straight=0)


def promotable(ladder: Ladder, tried: Sequence[Tried], *, is_closing: bool = False) -> list[Tried]:
    """The trials of the highest rung with room above it, of which one is to go on; else none.

    `is_closing` says that no new configuration will come: the share that goes on is rounded up
    then, so that even a search of few trials brings one to the top.
    """
    for level in reversed(ladder.levels[:-1]):
        reached = [trial for trial in tried if trial.epochs >= level]
        waiting = [t for t in reached if t.state == "waiting" and t.until == level]
        num_above = sum(trial.until > level for trial in reached)
        room = -(-len(reached) // ladder.factor) if is_closing else len(reached) // ladder.factor
        if waiting and num_above < room:
            return waiting
    return []


def expected_epochs(ladder: Ladder, trials: int, trained: int = 0) -> int:
    """The epochs of so many trials of a search in which every rung lets as many on as it may.

    `trained` are those that trials before them have had.
    """
    if not ladder.num_skipped:
        return _epochs(ladder, trials)
    soon = SOON * ladder.top - trained
    num_early = bisect_left(range(trials), soon, key=lambda some: _epochs(ladder, some))
    return _epochs(ladder, trials, num_late=trials - num_early)


def _epochs(ladder: Ladder, trials: int, *, num_late: int = 0) -> int:
    """The same, if so many do not pause at the first rung."""
    before, epochs, num_there, num_on = 0, 0, trials, num_late
    for level in ladder.levels:
        epochs += num_there * (level - before)
        num_straight = trials // ladder.straight if ladder.straight else 0
        num_there = max(num_straight, num_on, -(-num_there // ladder.factor))
        before, num_on = level, 0
    return epochs
