"""How long workers had nothing to do because a proposal was missing, in worker-seconds."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from torchstudy.execution.ledger import Ledger
from torchstudy.report.formats import duration

KEY = "idle"  # in a study's summary
LEAST_WAITING = 0.05  # seconds: less is the work of starting trials


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """Worker-seconds of a search; what comes after its last proposal does not count as waiting.

    `busy` are those that trained trials. The others had nothing to do while the budget was not
    spent: `computing` while a proposal was computed, `results` while the next proposal could not
    be, because a trial that it builds on had not ended.
    """

    busy: float = 0.0
    computing: float = 0.0
    results: float = 0.0

    @classmethod
    def of(cls, summary: Mapping[str, object]) -> "Idle":
        """What a study's summary says; nothing if it says nothing."""
        found = summary.get(KEY)
        return cls(**found) if isinstance(found, dict) else cls()

    @property
    def waiting(self) -> float:
        """Seconds without work, for either reason."""
        return self.computing + self.results

    @property
    def share(self) -> float:
        """The part of all worker-seconds that was waiting, from 0 to 1."""
        total = self.busy + self.waiting
        return self.waiting / total if total else 0.0

    def __add__(self, other: "Idle") -> "Idle":
        return Idle(
            busy=self.busy + other.busy,
            computing=self.computing + other.computing,
            results=self.results + other.results,
        )

    def times(self, factor: float) -> "Idle":
        """Every sum multiplied."""
        return Idle(
            busy=self.busy * factor,
            computing=self.computing * factor,
            results=self.results * factor,
        )

    def describe(self) -> dict[str, float]:
        """The three sums as JSON values, in milliseconds' precision."""
        return {name: round(seconds, 3) for name, seconds in asdict(self).items()}

    @property
    def sentence(self) -> str:
        """What became of the workers' time in the search, and what they waited for if they did."""
        trained = f"the search trained for {duration(self.busy)} of worker time"
        if self.waiting < LEAST_WAITING:
            return f"{trained}; no worker waited for what to try next"
        return (
            f"{trained}; workers waited {duration(self.waiting)} ({self.share:.1%}) for what to "
            f"try next: {duration(self.computing)} while it was computed, "
            f"{duration(self.results)} for results that it builds on"
        )


class Timesheet:
    """What workers do from one `mark` to the next, added up and kept in the study's summary."""

    def __init__(
        self,
        ledger: Ledger,
        study: str,
        summary: Mapping[str, object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        stored = next(stored for stored in ledger.studies() if stored.name == study)
        self.idle = Idle()  # of this run alone
        self._ledger, self._study, self._summary = ledger, study, summary
        self._earlier = Idle.of(stored.summary)
        self._clock = clock
        self._began = 0.0
        self._state = Idle()  # worker-seconds in a second, since the last mark
        self.save()

    def mark(self, busy: int, waiting: int, *, is_computing: bool) -> None:
        """From now on `busy` workers train trials and `waiting` have nothing to do."""
        now = self._clock()
        self.idle += self._state.times(now - self._began)
        self._began = now
        computing = waiting if is_computing else 0
        self._state = Idle(busy=busy, computing=computing, results=waiting - computing)

    def save(self) -> None:
        """Keep the sums of all runs of the study so far."""
        total = self._earlier + self.idle
        self._ledger.describe(self._study, {**self._summary, KEY: total.describe()})
