"""What the search is asked: which results it knows, and when it has to wait."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from tests.test_runner import linear_study

from torchstudy.domains import Choice
from torchstudy.execution.asking import InlineAsker
from torchstudy.execution.board import Board
from torchstudy.execution.database import now
from torchstudy.execution.inquiry import Asked
from torchstudy.execution.ledger import Ledger
from torchstudy.execution.proposing import Proposing
from torchstudy.execution.rung_values import best_until
from torchstudy.execution.schedule import Schedule
from torchstudy.execution.watching import Silent
from torchstudy.families.base import Family
from torchstudy.records import Decision, Epoch, Objective, Outcome, Status, TrainingKey, Trial
from torchstudy.search.proposer import decide
from torchstudy.search.rungs import ladder_for
from torchstudy.space import Config

VALUES = (0.5, 0.7, 0.6, 0.65, 0.8, 0.9, 0.85, 0.7, 0.75)  # of nine epochs


class Search:
    """A search of one family over rungs 3 and 9, in which the test decides and trains."""

    def __init__(
        self, *, workers: int = 1, trials: int = 20, epochs: int = 9, **more: object
    ) -> None:
        self.ledger = Ledger("sqlite://")
        self.ledger.claim("lines", {})
        self.study = linear_study(epochs=epochs, trials=trials, **more)
        self.board = Board(self.ledger, "lines", ["Linear"])
        self.schedule = Schedule(
            study=self.study,
            board=self.board,
            folder=Path(),
            num_workers=workers,
            families=["Linear"],
        )

    def decide(
        self, until: int, *, trial: int | None = None, expected: float | None = None
    ) -> None:
        """The next decision: a new trial, or to go on with one; a model's if it expects a value."""
        decision = Decision(
            number=len(self.board.decided["Linear"]),
            until=until,
            origin="promotion" if trial is not None else "sobol" if expected is None else "model",
            value=math.nan if expected is None else expected,
            spread=0.02,
            decided=now(),
        )
        if trial is None:
            trial = len(self.board.trials["Linear"])
            config = {"scale": 0.5 + trial / 100, "batch_size": 32}
            new = Trial(family="Linear", number=trial, config=config, origin="sobol")
            self.board.propose([replace(new, decisions=(decision,))])
        else:
            known = self.board.trials["Linear"][trial]
            self.board.promote(replace(known, decisions=(*known.decisions, decision)))

    def train(
        self, trial: int, until: int, status: Status = Status.PAUSED, *, flops: float = 1e6
    ) -> None:
        """A worker trains until an epoch."""
        key = self.key(trial)
        begun = self.board.search_of("Linear", trial)
        attempt = self.board.begin(key, "search", "worker")
        for epoch in range(begun.epochs + 1 if begun else 1, until + 1):
            self.board.add_epoch(key, attempt, a_row(epoch))
        best = max(VALUES[:until], default=math.nan)
        metrics = {"valid_accuracy": best, "flops": flops}
        outcome = Outcome(status=status, epochs=until, metrics=metrics)
        assert self.board.end(key, attempt, outcome, 2.0)

    def key(self, trial: int) -> TrainingKey:
        return self.schedule.search_key("Linear", trial)

    def asked(self) -> Asked:
        found = self.schedule.inquiry.question()
        assert found is not None
        return found


def a_row(epoch: int) -> Epoch:
    return Epoch(
        epoch=epoch,
        seconds=1.0,
        finished=f"2026-01-01T00:00:{epoch:02}+00:00",
        train_loss=0.0,
        valid_loss=0.0,
        learning_rate=0.1,
        grad_norm=1.0,
        metrics={"accuracy": VALUES[epoch - 1]},
    )


@pytest.fixture
def begun() -> Search:
    """Eight new trials until the first rung, of which six have got there."""
    search = Search()
    for _ in range(8):
        search.decide(3)
    for trial in range(6):
        search.train(trial, 3)
    return search


def test_a_retried_trial_is_waited_for_until_it_is_where_it_was_to_get_and_not_again() -> None:
    search = Search(workers=3)
    for _ in range(12):
        search.decide(3)
    for trial in range(12):
        is_crashed = trial == 2
        search.train(trial, 0 if is_crashed else 3, Status.CRASHED if is_crashed else Status.PAUSED)
    search.ledger.retry("lines", [search.key(2)])
    search.board.refresh()
    assert search.schedule.inquiry.question() is None
    search.train(2, 3)
    search.decide(9, trial=2)
    search.decide(3)
    assert search.asked().pending == (12, 13)  # the promotion is under way, and nobody waits for it


def test_the_effort_left_knows_that_new_trials_pause_later_by_now() -> None:
    search = Search(trials=53, epochs=27, confirm=None)
    for trial in range(45):
        search.decide(3)
        search.train(trial, 3)
    assert search.schedule.effort_left("Linear") == (8 * 9 + 3 * 18) / 27


def test_the_first_questions_know_nothing_and_wait_for_nothing() -> None:
    search = Search()
    for number in range(8):
        asked = search.asked()
        assert asked.question.number == number
        assert asked.pending == tuple(range(number))
        assert [trial.state for trial in asked.question.tried] == ["pending"] * number
        search.decide(3)
        if number == 3:
            search.train(0, 3)  # that it has ended by now is not known either
    assert search.schedule.inquiry.question() is None


def test_with_one_worker_a_question_knows_all_but_the_leg_decided_last(begun: Search) -> None:
    assert begun.schedule.inquiry.question() is None  # two legs are under way
    begun.train(6, 3)
    asked = begun.asked()
    assert asked.pending == (7,)
    assert [trial.state for trial in asked.question.tried] == ["waiting"] * 7 + ["pending"]
    begun.train(7, 3)
    assert begun.asked() == asked  # asked later, it knows no more


def test_a_trial_is_known_by_its_best_epoch_up_to_each_rung(begun: Search) -> None:
    begun.train(6, 3)
    begun.train(7, 3)
    begun.decide(9, trial=2)
    begun.train(2, 9, Status.COMPLETED)
    begun.decide(3)
    tried = begun.asked().question.tried
    assert tried[1].values == {3: 0.7}
    assert tried[2].values == {3: 0.7, 9: 0.9}
    assert tried[2].state == "completed"
    assert tried[2].until == 9
    assert tried[8].state == "pending"
    assert not tried[8].values


def test_between_epochs_of_one_value_the_lower_loss_decides_as_in_training() -> None:
    rows = [replace(a_row(epoch), metrics={"accuracy": 1.0}) for epoch in range(1, 10)]
    rows = [replace(row, valid_loss=1 / row.epoch) for row in rows]
    objective = Objective(metric="accuracy", direction="maximize")
    best = best_until(rows, objective, ladder_for(9))
    assert {rung: row.epoch for rung, row in best.items()} == {3: 3, 9: 9}


def test_a_promoted_trial_is_pending_and_known_by_the_rung_it_had_reached(begun: Search) -> None:
    begun.train(6, 3)
    begun.train(7, 3)
    begun.decide(9, trial=4)
    trial = begun.asked().question.tried[4]
    assert (trial.state, trial.until, trial.values) == ("pending", 9, {3: 0.7})
    begun.train(4, 5)  # interrupted on its way
    assert begun.asked().question.tried[4] == trial
    step = begun.schedule.next_step([])
    assert step is not None
    assert (step.key, step.until) == (begun.key(4), None)  # to its end


def test_a_training_that_was_cut_off_after_its_last_epoch_does_not_rest(begun: Search) -> None:
    begun.train(6, 3)
    begun.train(7, 3)
    begun.decide(9, trial=4)
    begun.train(4, 9)  # paused: its weights could not be written
    step = begun.schedule.next_step([])
    assert step is not None
    assert step.key == begun.key(4)
    assert not [t for t in begun.schedule.legs.resting("Linear") if t.trial.number == 4]


def test_a_training_that_ends_early_counts_as_having_reached_the_end(begun: Search) -> None:
    begun.train(6, 2, Status.COMPLETED)
    begun.train(7, 3)
    begun.decide(3)
    trial = begun.asked().question.tried[6]
    assert trial.state == "completed"
    assert trial.values == {3: 0.7, 9: 0.7}


def test_a_failed_trial_keeps_what_it_had_reached(begun: Search) -> None:
    begun.train(6, 1, Status.DIVERGED)
    begun.train(7, 3)
    begun.decide(9, trial=0)
    begun.train(0, 5, Status.CRASHED)
    begun.decide(3)
    tried = begun.asked().question.tried
    assert [(tried[n].state, dict(tried[n].values)) for n in (6, 0)] == [
        ("failed", {}),
        ("failed", {3: 0.7}),
    ]


def test_with_several_workers_a_question_knows_whatever_has_ended() -> None:
    search = Search(workers=2)
    for _ in range(9):
        search.decide(3)
    for trial in (8, 1, 2, 3, 4, 5):
        search.train(trial, 3)
    asked = search.asked()  # 0, 6 and 7 are under way or wait for a worker
    assert asked.pending == (0, 6, 7, 8)


def test_a_leg_has_ended_once_its_trial_was_promoted_whatever_else_is_under_way() -> None:
    search = Search(workers=2)
    search.decide(9)  # takes long
    for _ in range(8):
        search.decide(3)
    for trial in range(1, 9):
        search.train(trial, 3)
    search.decide(9, trial=5)
    search.board.begin(search.key(5), "search", "worker")
    legs = search.schedule.legs
    assert [leg.decision.number for leg in legs.unended("Linear")] == [0, 9]
    tried = search.asked().question.tried[5]
    assert (tried.state, tried.until, tried.values) == ("pending", 9, {3: 0.7})


class Narrow:
    """Limits that allow two configurations."""

    def excess(self, cls: type[Family], config: Config) -> str | None:
        return None if config["scale"] in (0.5, 1.0) else "too large"


def test_where_limits_leave_nothing_new_the_search_goes_on_with_what_there_is() -> None:
    fixed = {"optimizer": "adam", "learning_rate": 0.01, "weight_decay": 0.0, "schedule": "cosine"}
    space = {"scale": Choice(0.5, 1.0, 1.5, default=1.0), "batch_size": 32, **fixed}
    search = Search(space=space)
    proposing = Proposing(
        study=search.study,
        board=search.board,
        inquiry=search.schedule.inquiry,
        asker=InlineAsker(),
        limits=Narrow(),  # type: ignore[arg-type]
        watcher=Silent(),
    )
    reached = []
    for _ in range(9):
        proposing.go_on()
        step = search.schedule.next_step([])
        if step is None or step.purpose == "confirmation":
            break
        until = step.until or 9
        search.train(step.key.number, until, Status.COMPLETED if until == 9 else Status.PAUSED)
        reached.append((step.key.number, until))
    assert reached == [(0, 9), (1, 3)]
    assert search.schedule.search_is_over


def test_a_search_of_some_families_does_not_wait_for_the_others() -> None:
    search = Search(trials=1)
    search.decide(9)
    search.train(0, 9, Status.COMPLETED)
    search.board.trials["Other"] = [
        Trial(family="Other", number=0, config={"scale": 1.0}, origin="recipe")
    ]
    search.board.decided["Other"] = [(Decision(number=0, until=9, origin="recipe"), 0)]
    assert search.schedule.inquiry.question() is not None
    search.schedule.inquiry.exhausted.add("Linear")
    assert search.schedule.search_is_over


def test_promotions_alone_know_everything_and_keep_workers_busy() -> None:
    search = Search(workers=2, trials=8)
    for _ in range(8):
        search.decide(3)
    for trial in range(6):
        search.train(trial, 3)
    assert search.schedule.inquiry.question() is None  # both workers are busy
    search.train(6, 3)
    assert search.asked().pending == (7,)
    assert not search.schedule.inquiry.nothing("Linear")  # nothing yet: 7 is under way
    assert search.schedule.inquiry.question() is None
    search.train(7, 3)
    assert search.asked().pending == ()
    assert search.schedule.inquiry.nothing("Linear")
    assert search.schedule.search_is_over
    assert search.schedule.not_promoted() == [search.key(n) for n in range(8)]


def test_what_was_not_promoted_may_be_with_a_larger_budget() -> None:
    search = Search(trials=8)
    for _ in range(8):
        search.decide(3)
    for trial in range(8):
        search.train(trial, 3)
    search.board.stop([search.key(n) for n in range(8)], "not promoted")
    stopped = search.board.searched("Linear")
    assert {training.status for training in stopped} == {Status.STOPPED}
    assert {training.finished for training in stopped} == {a_row(3).finished}
    search.board.promote(search.board.trials["Linear"][0])
    search.board.decided["Linear"].pop()
    assert [trial.state for trial in search.asked().question.tried] == ["waiting"] * 8


def test_methods_without_rungs_train_every_trial_to_its_end() -> None:
    search = Search()
    for method, levels in (("auto", (3, 9)), ("random", (9,)), ("ax", (9,))):
        study = linear_study(epochs=9, method=method)
        board = Board(search.ledger, "lines", ["Linear"])
        schedule = Schedule(
            study=study, board=board, folder=Path(), num_workers=1, families=["Linear"]
        )
        assert schedule.inquiry.ladder.levels == levels
        assert schedule.inquiry.question().question.method == method  # type: ignore[union-attr]


def test_work_is_counted_and_its_seconds_follow_from_what_was_trained(begun: Search) -> None:
    begun.train(6, 3, flops=2e6)
    begun.train(7, 3)
    begun.decide(3)
    tried = begun.asked().question.tried
    assert [tried[n].cost for n in (0, 6)] == [3e6 + 3e7 / 32, 6e6 + 3e7 / 32]
    assert math.isnan(tried[8].cost)
    work = 3 * (7 * (3e6 + 3e7 / 32) + 6e6 + 3e7 / 32)
    assert begun.schedule.inquiry.rate("Linear") == pytest.approx(16.0 / work)


def test_trials_of_a_version_without_rungs_are_legs_to_the_end() -> None:
    search = Search()
    trial = Trial(family="Linear", number=0, config={"scale": 1.0}, origin="recipe")
    search.board.propose([trial])
    legs = search.schedule.legs.of("Linear")
    assert [(leg.until, leg.decision.origin) for leg in legs] == [(9, "recipe")]


@pytest.mark.parametrize(("seconds", "has_time"), [(math.nan, False), (0.5, True), (3.0, False)])
def test_nothing_begins_that_would_not_get_to_its_first_rung_in_time(
    seconds: float, has_time: bool
) -> None:
    search = Search(minutes=0.15)
    for _ in range(9):
        search.decide(3)
    for trial in range(4):  # two seconds each of nine
        search.train(trial, 3)
    waiting = search.board.decided["Linear"]
    waiting[4] = replace(waiting[4][0], seconds=seconds), 4
    assert search.schedule.inquiry.has_time("Linear") is has_time
    assert (search.schedule.next_step([]) is not None) is has_time


def test_the_first_rung_of_a_later_trial_is_the_second() -> None:
    search = Search(minutes=0.15, epochs=27)
    for trial in range(5):
        search.decide(3 if trial < 4 else 9)
    for trial in range(4):  # two seconds each of nine
        search.train(trial, 3)
    waiting = search.board.decided["Linear"]
    waiting[4] = replace(waiting[4][0], seconds=1.5), 4
    assert not search.schedule.inquiry.has_time("Linear")


def test_without_time_nothing_new_begins_and_what_has_begun_goes_on() -> None:
    search = Search(minutes=0.05)
    for _ in range(8):
        search.decide(3)
    search.train(0, 3)
    search.train(1, 2)  # interrupted; four seconds of three are spent
    step = search.schedule.next_step([])
    assert step is not None
    assert step.key == search.key(1)
    search.train(1, 3)
    assert search.schedule.next_step([]) is None


def test_what_was_promoted_goes_on_when_time_is_up() -> None:
    search = Search(minutes=0.05)
    for _ in range(8):
        search.decide(3)
    search.train(0, 3)
    search.decide(9, trial=0)
    search.train(1, 3)
    assert not search.schedule.inquiry.has_time("Linear")
    assert search.schedule.inquiry.question() is None
    step = search.schedule.next_step([])
    assert step is not None
    assert step.key == search.key(0)
    search.train(0, 9, Status.COMPLETED)
    assert search.schedule.search_is_over
    assert search.schedule.not_promoted() == [search.key(1)]


def test_when_time_is_up_before_any_end_the_most_promising_trial_comes_to_it() -> None:
    search = Search(minutes=0.08)
    for _ in range(8):
        search.decide(3)
    search.train(0, 3)
    assert search.schedule.inquiry.has_time("Linear")
    search.board.begin(search.key(1), "search", "worker")
    assert search.board.add_epoch(search.key(1), 1, replace(a_row(1), metrics={"accuracy": 0.4}))
    ended = Outcome(status=Status.PAUSED, epochs=3, metrics={"valid_accuracy": 0.4})
    search.board.end(search.key(1), 1, ended, 2.0)
    assert not search.schedule.inquiry.has_time("Linear")
    asked = search.asked()
    assert asked.question.is_last
    proposal = decide(asked.question)
    assert (proposal.trial, proposal.until, proposal.origin) == (0, 9, "promotion")
    trial = search.board.trials["Linear"][0]
    decision = Decision(number=8, until=9, origin="promotion")
    search.board.promote(replace(trial, decisions=(*trial.decisions, decision)))
    assert search.schedule.inquiry.question() is None
    step = search.schedule.next_step([])
    assert step is not None
    assert (step.key, step.until) == (search.key(0), None)
    search.train(0, 9, Status.COMPLETED)
    assert search.schedule.search_is_over
    assert search.schedule.not_promoted() == [search.key(1)]


@pytest.mark.parametrize(("expected", "is_over"), [(0.5, True), (0.7, False)])
def test_a_search_is_settled_when_what_is_left_would_gain_too_little(
    expected: float, is_over: bool
) -> None:
    search = Search(worthwhile=0.01)
    for _ in range(8):
        search.decide(3)
    for _ in range(5):
        search.decide(3, expected=expected)  # the best so far is 0.7
    for trial in range(13):
        search.train(trial, 3)
    assert not search.schedule.inquiry.is_settled("Linear")  # one of the five is left out
    search.decide(3, expected=expected)
    assert search.schedule.inquiry.is_settled("Linear") is is_over
    search.train(13, 3)
    assert search.asked().question.trials == (14 if is_over else 20)
    assert search.asked().pending == (() if is_over else (13,))
