"""What a model proposes beyond a limit, drawn back to where it is allowed."""

from collections.abc import Callable, Sequence

from torchstudy.search.questions import Proposal, Question
from torchstudy.space import Config, SearchSpace

HALVINGS = 10  # of a line in the unit cube: finer than a limit can be felt


def drawn_back(
    question: Question, proposal: Proposal, is_allowed: Callable[[Config], bool]
) -> Proposal | None:
    """A model's `proposal` that is not allowed, drawn back towards the best result until it is.

    A model that finds more of everything better proposes what a limit forbids again and again; the
    best that is allowed then lies close to the limit. First the best result takes from the proposal
    each value that it may, one by one; then the straight line in the unit cube from there to the
    proposal is halved. None for a proposal that is no model's, and where nothing new is found.
    """
    usable = [trial for trial in question.tried if trial.values]
    if proposal.origin != "model" or not usable:
        return None
    sign = question.objective.sign
    best = max(usable, key=lambda trial: sign * trial.values[trial.epochs])
    space = question.space
    near, far = list(space.to_unit(best.config)), space.to_unit(proposal.config)
    for axis, place in enumerate(far):
        tried = [*near[:axis], place, *near[axis + 1 :]]
        near = tried if is_allowed(space.from_unit(tried)) else near
    config = _last_allowed(space, near, far, is_allowed)
    if config in [trial.config for trial in question.tried]:
        return None
    return Proposal(
        trial=proposal.trial,
        config=config,
        until=proposal.until,
        origin="model",
        note=proposal.note,
    )


def _last_allowed(
    space: SearchSpace,
    near: Sequence[float],
    far: Sequence[float],
    is_allowed: Callable[[Config], bool],
) -> Config:
    """The configuration on the line from `near`, which is allowed, nearest to `far`."""
    allowed, forbidden, found = 0.0, 1.0, space.from_unit(near)
    for _ in range(HALVINGS):
        share = (allowed + forbidden) / 2
        config = space.from_unit([a + share * (b - a) for a, b in zip(near, far, strict=True)])
        if is_allowed(config):
            allowed, found = share, config
        else:
            forbidden = share
    return found
