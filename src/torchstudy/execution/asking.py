"""Proposals computed ahead: a process of its own answers one question while trials train."""

import sys
from abc import ABC, abstractmethod
from multiprocessing.connection import Connection, Pipe
from multiprocessing.context import ForkServerProcess

from typing_extensions import override

from torchstudy.errors import RunError
from torchstudy.execution.forkserver import start_process
from torchstudy.quiet import quiet_ax
from torchstudy.search.proposer import (
    Proposal,
    Question,
    SpaceExhausted,
    needs_model,
    propose,
)

Answer = Proposal | SpaceExhausted


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
    """Asks the model in a process that loads Ax at the first question, while recipes train.

    What needs no model is answered here, at once.
    """

    def __init__(self) -> None:
        self._is_busy = False
        self._ready: Answer | None = None
        self._process: ForkServerProcess | None = None
        self._connection: Connection | None = None

    @override
    def ask(self, question: Question) -> None:
        if self._connection is None:
            self._connection, theirs = Pipe()
            self._process = start_process(_serve, theirs, None, name="proposer")
            theirs.close()
        if needs_model(question):
            self._connection.send(question)
        else:
            self._ready = _answered(question)
        self._is_busy = True

    @override
    def answer(self) -> Answer | None:
        answer, self._ready = self._ready, None
        if answer is None and self._connection is not None and self._connection.poll():
            answer = self._received(self._connection)
        self._is_busy = self._is_busy and answer is None
        return answer

    def _received(self, connection: Connection) -> Answer:
        try:
            answer: Answer = connection.recv()
        except EOFError:
            raise RunError("the process that computes proposals has died") from None
        return answer

    @property
    @override
    def is_busy(self) -> bool:
        return self._is_busy

    @override
    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
        if self._connection is not None:
            self._connection.close()


def _answered(question: Question) -> Answer:
    try:
        return propose(question)
    except SpaceExhausted as end:
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
