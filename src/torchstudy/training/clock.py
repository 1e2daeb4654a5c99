"""Where the time of an epoch goes: one part at a time, the inner one where parts are nested."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torchstudy.records import PARTS


def no_wait() -> None:
    """Nothing runs behind the clock's back: on a CPU, work is done when the call returns."""


@dataclass(slots=True, kw_only=True)
class Clock:
    """Seconds by part since the last `taken`; time outside every part is `other`.

    `synchronise` waits for what was begun elsewhere (a GPU's queue) before the clock is read; it
    slows training down, so that it is given only to find out where the time goes.
    """

    synchronise: Callable[[], None] = no_wait
    _seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    _part: str = "other"
    _since: float = field(default_factory=time.perf_counter)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time inside as `name`, less that of parts within it."""
        outer = self._part
        self._turn_to(name)
        try:
            yield
        finally:
            self._turn_to(outer)

    def taken(self) -> dict[str, float]:
        """Seconds by part so far, which begin at zero again."""
        self._turn_to(self._part)
        seconds, self._seconds = self._seconds, dict.fromkeys(PARTS, 0.0)
        return seconds

    def _turn_to(self, part: str) -> None:
        self.synchronise()
        now = time.perf_counter()
        self._seconds[self._part] += now - self._since
        self._part, self._since = part, now
