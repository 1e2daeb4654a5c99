"""Proposals computed ahead: a process of its own answers one question while trials train."""

import sys
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from multiprocessing.context import ForkServerProcess

from typing_extensions import override

from torchstudy.errors import RunError
from torchstudy.execution.forkserver import start_process
from torchstudy.quiet import quiet_ax
from torchstudy.search.proposer import decide, needs_model
from torchstudy.search.questions import Proposal, Question, SearchOver

LONGEST_ANSWER = 1800.0  # seconds; one or two are usual
MOST_LOSSES = 2  # processes that may be lost over one question

Answer = Proposal | SearchOver


class Asker(ABC):
    """Answers one question at a time."""

    @abstractmethod
    def ask(self, question: Question) -> None:
        """Begin to answer; the previous answer must have been taken."""

    @abstractmethod
    def answer(self) -> Answer | None:
        """The answer, or None while it is not known."""

    @property
    @abstractmethod
    def is_busy(self) -> bool:
        """Whether an answer is outstanding."""

    @abstractmethod
    def close(self) -> None:
        """Free everything."""


class InlineAsker(Asker):
    """Answers in this process, when asked for the answer."""

    def __init__(self) -> None:
        self._question: Question | None = None

    @override
    def ask(self, question: Question) -> None:
        self._question = question

    @override
    def answer(self) -> Answer | None:
        if self._question is None:
            return None
        question, self._question = self._question, None
        return _answered(question)

    @property
    @override
    def is_busy(self) -> bool:
        return self._question is not None

    @override
    def close(self) -> None:
        self._question = None


class ProcessAsker(Asker):
    """Asks Ax or BoTorch in a process that loads them at the first question, as recipes train.

    What needs neither is answered here, at once: our own model takes some hundredths of a second.
    """

    def __init__(self) -> None:
        self._question: Question | None = None
        self._asked = 0.0  # when, on the monotonic clock
        self._losses = 0  # of processes, over one question
        self._ready: Answer | None = None
        self._process: ForkServerProcess | None = None
        self._connection: Connection | None = None

    @override
    def ask(self, question: Question) -> None:
        self._question, self._losses = question, 0
        if question.needs_torch:
            self._start()  # it loads its libraries while the first trials train
            if needs_model(question):
                self._send(question)
                return
        self._ready = _answered(question)

    @override
    def answer(self) -> Answer | None:
        answer, self._ready = self._ready, None
        if answer is None and self._question is not None:
            answer = self._received(self._question)
        if answer is not None:
            self._question = None
        return answer

    @property
    @override
    def is_busy(self) -> bool:
        return self._question is not None

    @override
    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _start(self) -> Connection:
        """The connection to the process, which is started if there is none."""
        if self._connection is None:
            self._connection, theirs = Pipe()
            self._process = start_process(_serve, theirs, None, name="proposer")
            theirs.close()
        return self._connection

    def _send(self, question: Question) -> None:
        self._asked = time.monotonic()
        with suppress(OSError):  # it has just died, as is seen when the answer is looked for
            self._start().send(question)

    def _received(self, question: Question) -> Answer | None:
        """The answer if it is there; a process that is lost is replaced and asked again.

        The answer depends on the question alone. RunError when it is lost again and again.
        """
        connection = self._start()
        try:
            if connection.poll():
                answer: Answer = connection.recv()
                return answer
            if time.monotonic() - self._asked < LONGEST_ANSWER:
                return None
        except (EOFError, OSError):
            pass
        self.close()
        self._losses += 1
        if self._losses > MOST_LOSSES:
            raise RunError(
                f"the process that computes proposals died or hung {self._losses} times over "
                f"decision {question.number} of {question.name}"
            )
        self._send(question)
        return None


def _answered(question: Question) -> Answer:
    try:
        return decide(question)
    except SearchOver as end:
        return end


def _serve(connection: Connection, _: object) -> None:
    import signal

    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    with open("/dev/null", "w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        with quiet_ax():
            pass  # imported now, while the first trials train
        while True:
            try:
                question = connection.recv()
            except EOFError:
                return
            connection.send(_answered(question))
