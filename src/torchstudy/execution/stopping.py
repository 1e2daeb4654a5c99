"""How a run hears of SIGINT, SIGTERM and a closed terminal while it goes on."""

import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

HANGUP = getattr(signal, "SIGHUP", None)  # there is none on Windows
OUTPUTS = (1, 2)


@contextmanager
def stop_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at each of the signals that ask for an end; the earlier handlers come back.

    A terminal that has been closed is let go of first. Python delivers signals to the main thread
    alone: in any other nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _: FrameType | None) -> None:
        if number == HANGUP:
            drop_lost_terminal()
        stop()

    before = {number: signal.signal(number, handle) for number in _heard()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def drop_lost_terminal() -> bool:
    """Let what would be printed on a closed terminal go nowhere; whether there was one.

    To write to it is an error from then on, as is to ask whether it is a terminal.
    """
    lost = [descriptor for descriptor in OUTPUTS if _is_lost(descriptor)]
    for descriptor in lost:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), descriptor)
    return bool(lost)


def _is_lost(descriptor: int) -> bool:
    try:
        mode, device = os.fstat(descriptor).st_mode, os.fstat(descriptor).st_rdev
    except OSError:
        return False
    is_nowhere = device == os.stat(os.devnull).st_rdev
    return stat.S_ISCHR(mode) and not is_nowhere and not os.isatty(descriptor)


def _heard() -> list[signal.Signals]:
    """The signals to stop at: a run under `nohup` is to outlive its terminal."""
    is_kept = HANGUP is None or signal.getsignal(HANGUP) == signal.SIG_IGN
    asked = [signal.SIGINT, signal.SIGTERM]
    return asked if HANGUP is None or is_kept else [*asked, HANGUP]
