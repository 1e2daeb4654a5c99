"""From question to decision: answers are kept within the study's limits, then recorded."""

import math
from dataclasses import dataclass, replace

from torchstudy.execution.asking import Answer, Asker
from torchstudy.execution.board import Board
from torchstudy.execution.database import now
from torchstudy.execution.inquiry import Asked, Inquiry
from torchstudy.execution.watching import Watcher
from torchstudy.failpoints import failpoint
from torchstudy.models.limits import TRIED, Limits
from torchstudy.records import AT_MOST_ONE, Decision, Trial
from torchstudy.search.drawing_back import drawn_back
from torchstudy.search.questions import Proposal, SearchOver
from torchstudy.space import Config
from torchstudy.study import Study


@dataclass(slots=True, kw_only=True)
class Proposing:
    """Asks one question at a time, ahead of the workers, and records the answers.

    A new configuration above a limit is no trial: it is drawn back below the limit, or the question
    is asked again with the answer known as rejected. Both depend on the question and the limits
    alone, so that a run that was interrupted comes to the same trials.
    """

    study: Study
    board: Board
    inquiry: Inquiry
    asker: Asker
    limits: Limits
    watcher: Watcher
    _asked: Asked | None = None

    @property
    def is_busy(self) -> bool:
        """Whether an answer is outstanding."""
        return self.asker.is_busy

    def close(self) -> None:
        """Free what answers questions."""
        self.asker.close()

    def go_on(self) -> None:
        """Record what is answered and ask on, until an answer takes time or none is wanted."""
        while self._take() or not self.asker.is_busy:
            found = self.inquiry.question()
            if found is None:
                return
            self._asked = found
            self.asker.ask(found.question)

    def _take(self) -> bool:
        """Record the answer, if the limits allow it; False while there is none."""
        answer = self.asker.answer()
        if answer is not None:
            self._record(answer)
        return answer is not None

    def _record(self, answer: Answer) -> None:
        asked = self._asked
        assert asked is not None
        if isinstance(answer, SearchOver):
            if self.inquiry.nothing(asked.family) and self.inquiry.is_settled(asked.family):
                least = f"{self.study.worthwhile:g}"
                self.watcher.note(f"{asked.family}: more would probably gain less than {least}")
            return
        proposal = self._allowed(asked, answer)
        if proposal is None:
            if self.inquiry.reject(asked.family, answer.config) >= TRIED:
                self.inquiry.closed.add(asked.family)
                self.watcher.note(f"{asked.family}: {TRIED} proposals in a row broke the limits")
            return
        if proposal.note:
            self.watcher.note(f"{proposal.note}; a random configuration takes its place")
        failpoint("after-ask")
        self._keep(asked, proposal)
        failpoint("after-proposal")

    def _keep(self, asked: Asked, proposal: Proposal) -> None:
        """Record a decision: on a new trial, or on one that is there."""
        family = asked.family
        decision = Decision(
            number=asked.question.number,
            until=proposal.until,
            origin=proposal.origin,
            pending=asked.pending,
            value=self._possible(proposal.value),
            spread=proposal.spread,
            seconds=proposal.cost * self.inquiry.rate(family),
            decided=now(),
        )
        if proposal.trial < len(self.board.trials[family]):
            trial = self.board.trials[family][proposal.trial]
            self.board.promote(replace(trial, decisions=(*trial.decisions, decision)))
            return
        trial = Trial(
            family=family,
            number=proposal.trial,
            config=proposal.config,
            origin=proposal.origin,
            decisions=(decision,),
        )
        self.board.propose([trial])

    def _possible(self, value: float) -> float:
        """An expected value, which a model may put above the best that there can be."""
        is_bounded = self.study.objective.metric in AT_MOST_ONE
        return min(value, 1.0) if is_bounded and not math.isnan(value) else value

    def _allowed(self, asked: Asked, answer: Proposal) -> Proposal | None:
        """The answer, or what is left of it within the limits."""
        family = self.study.family(asked.family)

        def excess(config: Config) -> str | None:
            return self.limits.excess(family, config)

        if answer.origin == "promotion" or (found := excess(answer.config)) is None:
            return answer
        if answer.origin == "recipe":
            self.watcher.note(f"{asked.family}: the recipe is left out: {found}")
        return drawn_back(asked.question, answer, lambda config: excess(config) is None)
