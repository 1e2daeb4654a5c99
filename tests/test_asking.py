"""Who answers: the process that has loaded Ax where Ax is asked, nobody else otherwise."""

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from torchstudy.domains import Float, Int
from torchstudy.errors import RunError
from torchstudy.execution.asking import Answer, Asker, InlineAsker, ProcessAsker
from torchstudy.records import Objective
from torchstudy.search.proposer import decide
from torchstudy.search.questions import Proposal, Question, SearchOver
from torchstudy.search.rungs import without_rungs
from torchstudy.search.tried import Tried
from torchstudy.seeds import derive
from torchstudy.space import SearchSpace

SPACE = SearchSpace(
    {"rate": Float(1e-4, 1e-1, log=True), "width": Int(8, 64), "momentum": Float(0.0, 0.99)}
)


def question(number: int, *, with_results: bool = False) -> Question:
    """The question for trial `number`, those before it under way or completed."""
    generator = np.random.default_rng(derive(0, "asking"))
    tried = []
    for trial in range(number):
        config = SPACE.sample(generator)
        value = 1.0 - float(config["momentum"])
        tried.append(
            Tried(
                number=trial,
                config=config,
                state="completed" if with_results else "pending",
                until=9,
                values={9: value} if with_results else {},
                cost=1.0 + trial,
            )
        )
    return Question(
        name="study/CNN",
        space=SPACE,
        objective=Objective(metric="accuracy", direction="maximize"),
        ladder=without_rungs(9),
        trials=20,
        tried=tried,
        number=number,
        seed=3,
        method="ax",
    )


@pytest.fixture
def asker() -> Iterator[ProcessAsker]:
    asker = ProcessAsker()
    yield asker
    asker.close()


def answered(asker: Asker, asked: Question, seconds: float) -> Answer:
    """The answer, awaited for at most `seconds`."""
    asker.ask(asked)
    assert asker.is_busy
    until = time.monotonic() + seconds
    answer = asker.answer()
    while answer is None and time.monotonic() < until:
        time.sleep(0.01)
        answer = asker.answer()
    assert answer is not None
    assert not asker.is_busy
    assert asker.answer() is None
    return answer


def test_what_needs_no_model_is_answered_before_ax_is_loaded(asker: ProcessAsker) -> None:
    for number in range(6):
        assert answered(asker, question(number), 0.0) == decide(question(number))


def test_our_own_model_needs_no_process(asker: ProcessAsker) -> None:
    asked = replace(question(7, with_results=True), method="auto")
    answer = answered(asker, asked, 0.0)
    assert isinstance(answer, Proposal)
    assert answer.origin == "model"
    assert answer == decide(asked)
    assert asker._process is None


def test_a_space_that_is_used_up_is_an_answer(asker: ProcessAsker) -> None:
    asked = replace(question(1), space=SearchSpace({"width": 3}))
    for each in (asker, InlineAsker()):
        assert isinstance(answered(each, asked, 0.0), SearchOver)


@pytest.mark.slow
def test_the_process_answers_as_this_one_does(asker: ProcessAsker) -> None:
    """Slow: the process loads Ax."""
    for number in (8, 9):
        found = answered(asker, question(number, with_results=True), 120.0)
        assert isinstance(found, Proposal)
        assert found.origin == "model"
        expected = answered(InlineAsker(), question(number, with_results=True), 0.0)
        assert repr(found) == repr(expected)  # NaN is not equal to NaN


@pytest.mark.slow
def test_a_process_that_dies_is_replaced_and_answers_the_same(asker: ProcessAsker) -> None:
    """Slow: the process loads Ax, perhaps twice."""
    asked = question(8, with_results=True)
    asker.ask(asked)
    assert asker._process is not None
    asker._process.kill()
    found = None
    until = time.monotonic() + 120
    while found is None and time.monotonic() < until:
        time.sleep(0.01)
        found = asker.answer()
    assert repr(found) == repr(answered(InlineAsker(), asked, 0.0))


def test_a_process_that_dies_over_and_over_ends_the_run(asker: ProcessAsker) -> None:
    asker.ask(question(8, with_results=True))
    with pytest.raises(RunError, match=r"died or hung 3 times over decision 8 of "):
        answered_to_death(asker)


def answered_to_death(asker: ProcessAsker) -> None:
    """Look for an answer of processes that die before they can give it."""
    for _ in range(3):
        assert asker._process is not None
        asker._process.kill()
        asker._process.join()
        assert asker.answer() is None
