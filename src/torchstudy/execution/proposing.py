"""From question to trial: recipes first, then answers, each kept within the study's limits."""

from dataclasses import dataclass

from torchstudy.execution.asking import Answer, Asker
from torchstudy.execution.board import Board
from torchstudy.execution.schedule import Schedule
from torchstudy.execution.watching import Watcher
from torchstudy.failpoints import failpoint
from torchstudy.models.limits import TRIED, Limits
from torchstudy.records import Trial
from torchstudy.search.proposer import Proposal, Question, drawn_back
from torchstudy.space import Config
from torchstudy.study import Study


@dataclass(slots=True, kw_only=True)
class Proposing:
    """Asks one question at a time, ahead of the workers, and records the answers as trials.

    An answer above a limit is no trial: it is drawn back below the limit, or the question is asked
    again with the answer known as rejected. Both depend on the question and the limits alone, so
    that a run that was interrupted comes to the same trials.
    """

    study: Study
    board: Board
    schedule: Schedule
    asker: Asker
    limits: Limits
    watcher: Watcher
    _asked: tuple[str, Question] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether an answer is outstanding."""
        return self.asker.is_busy

    def close(self) -> None:
        """Free what answers questions."""
        self.asker.close()

    def recipes(self) -> None:
        """Record the recipe of every family that has no trial yet, if its limits allow it."""
        for family in self.study.families:
            name = family.__name__
            if self.board.trials[name]:
                continue
            recipe = self.study.space_of(family).recipe
            if excess := self.limits.excess(family, recipe):
                self.schedule.reject(name, recipe)
                self.watcher.note(f"{name}: the recipe is left out: {excess}")
                continue
            self.board.propose([Trial(family=name, number=0, config=recipe, origin="recipe")])

    def go_on(self) -> None:
        """Record what is answered and ask on, until an answer takes time or none is wanted."""
        while self._take() or not self.asker.is_busy:
            found = self.schedule.question()
            if found is None:
                return
            self._asked = found
            self.asker.ask(found[1])

    def _take(self) -> bool:
        """Record the answer as a trial, if the limits allow it; False while there is none."""
        answer = self.asker.answer()
        if answer is not None:
            self._record(answer)
        return answer is not None

    def _record(self, answer: Answer) -> None:
        assert self._asked is not None
        family, question = self._asked
        if not isinstance(answer, Proposal):
            self.schedule.exhausted.add(family)
            self.watcher.note(f"{family}: {answer}")
            return
        proposal = self._allowed(family, question, answer)
        if proposal is None:
            if self.schedule.reject(family, answer.config) >= TRIED:
                self.schedule.exhausted.add(family)
                self.watcher.note(f"{family}: {TRIED} proposals in a row broke the limits")
            return
        if proposal.note:
            self.watcher.note(f"{proposal.note}; a random configuration takes its place")
        number = len(self.board.trials[family])
        failpoint("after-ask")
        self.board.propose(
            [Trial(family=family, number=number, config=proposal.config, origin=proposal.origin)]
        )
        failpoint("after-proposal")

    def _allowed(self, family: str, question: Question, answer: Proposal) -> Proposal | None:
        """The answer, or what is left of it within the limits."""
        cls = self.study.family(family)

        def is_allowed(config: Config) -> bool:
            return self.limits.excess(cls, config) is None

        return answer if is_allowed(answer.config) else drawn_back(question, answer, is_allowed)
