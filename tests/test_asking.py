"""Who answers: the process that has loaded Ax where a model is asked, nobody else otherwise."""

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from tests.test_proposer import SPACE, question, value

from torchstudy.errors import RunError
from torchstudy.execution.asking import Answer, Asker, InlineAsker, ProcessAsker
from torchstudy.search.proposer import Proposal, Question, Result, SpaceExhausted, propose
from torchstudy.seeds import derive
from torchstudy.space import SearchSpace


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
    for number in range(8):  # to load Ax takes seconds
        assert answered(asker, question(number, []), 0.0) == propose(question(number, []))


def test_a_space_that_is_used_up_is_an_answer(asker: ProcessAsker) -> None:
    asked = replace(question(1, []), space=SearchSpace({"width": 3}))
    for each in (asker, InlineAsker()):
        assert isinstance(answered(each, asked, 0.0), SpaceExhausted)


@pytest.mark.slow
def test_the_process_answers_as_this_one_does(asker: ProcessAsker) -> None:
    """Slow: the process loads Ax."""
    for number in (8, 9):
        found = answered(asker, asked_with_results(number), 120.0)
        assert isinstance(found, Proposal)
        assert found.origin == "model"
        assert found == answered(InlineAsker(), asked_with_results(number), 0.0)


@pytest.mark.slow
def test_a_process_that_dies_is_replaced_and_answers_the_same(asker: ProcessAsker) -> None:
    """Slow: the process loads Ax, perhaps twice."""
    asked = asked_with_results(8)
    asker.ask(asked)
    assert asker._process is not None
    asker._process.kill()
    found = None
    until = time.monotonic() + 120
    while found is None and time.monotonic() < until:
        time.sleep(0.01)
        found = asker.answer()
    assert found == answered(InlineAsker(), asked, 0.0)


def test_a_process_that_dies_over_and_over_ends_the_run(asker: ProcessAsker) -> None:
    asker.ask(asked_with_results(8))
    with pytest.raises(RunError, match=r"died or hung 3 times over trial 8 of "):
        answered_to_death(asker)


def answered_to_death(asker: ProcessAsker) -> None:
    """Look for an answer of processes that die before they can give it."""
    for _ in range(3):
        assert asker._process is not None
        asker._process.kill()
        asker._process.join()
        assert asker.answer() is None


def asked_with_results(number: int) -> Question:
    """A question for the model, with the results of every trial before it."""
    generator = np.random.default_rng(derive(0, "asking"))
    configs = [SPACE.sample(generator) for _ in range(number)]
    return question(number, [Result(config=config, value=value(config)) for config in configs])
