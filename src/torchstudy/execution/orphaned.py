"""Ends the forkserver while it still loads what children need, once nobody is left to need it.

It is imported first of what is preloaded. Later the forkserver sees by itself that its run is gone.
"""

import os
import signal

LOOK_EVERY = 0.25  # seconds

_parent = os.getppid()


def _look(*_: object) -> None:
    if os.getppid() != _parent:
        os._exit(1)


def stop_looking() -> None:
    """Everything is loaded: no timer is left to children."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


signal.signal(signal.SIGALRM, _look)
signal.siginterrupt(signal.SIGALRM, False)  # what is being read goes on
signal.setitimer(signal.ITIMER_REAL, LOOK_EVERY, LOOK_EVERY)
