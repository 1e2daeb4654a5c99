"""How a run shows in the ledger that it is alive, and how long others wait to see it."""

import threading
import weakref
from collections.abc import Callable

BEAT = 10.0  # seconds between two signs of life
PATIENCE = 25.0  # seconds without one after which a holder out of sight counts as gone


class Heartbeat:
    """Calls `beat` every `seconds` in a thread of its own, until it answers False or is stopped.

    A thread, as the run itself may be at a proposal or a report for minutes.
    """

    def __init__(self, beat: Callable[[], bool], seconds: float) -> None:
        self._end = threading.Event()
        self._thread = threading.Thread(
            target=_beat_on, args=(beat, seconds, self._end), name="heartbeat", daemon=True
        )
        weakref.finalize(self, self._end.set)  # the thread must not outlive what it speaks for
        self._thread.start()

    def stop(self) -> None:
        """No sign of life is given after this."""
        self._end.set()
        self._thread.join()


def _beat_on(beat: Callable[[], bool], seconds: float, end: threading.Event) -> None:
    while not end.wait(seconds) and beat():
        pass
