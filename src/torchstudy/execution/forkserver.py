"""Processes that start in milliseconds: a forkserver with torch loaded, and what its children need.

Every process gets its work as bytes (cloudpickle), so that classes of study files, notebooks and
scripts without a `__main__` guard reach it. None of them hears the signals that ask a run to stop,
which terminals and service managers send to all its processes: the run decides what they mean. All
of them end with the run, however it ends.
"""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from types import ModuleType
from typing import Any

import cloudpickle

PRELOADED = ["torchstudy.execution.orphaned", "torchstudy.execution.preloaded"]
# Tensors are allocated and freed every step: giving the memory back to the system each time costs
# 1.1 to 1.4 times the step (glibc; other systems ignore these). One thread per trial: two threads
# on a busy machine spin away their gain.
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "67108864",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
STOP_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
END_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)

Target = Callable[[Connection, Any], None]

_started: "weakref.WeakSet[ForkServerProcess]" = weakref.WeakSet()


def start_forkserver() -> None:
    """Begin to load what children need, in the background; nothing if that has begun.

    It takes as long as importing torch, so a run begins it before it imports torch itself.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    with _worker_environment():
        with _blocked(STOP_SIGNALS):
            resource_tracker.ensure_running()  # it lets some of the signals through again
        with _blocked(STOP_SIGNALS):
            forkserver.ensure_running()


def start_process(
    target: Target, connection: Connection, argument: object, *, name: str
) -> ForkServerProcess:
    """Start `target(connection, argument)` in a child that ends when this process does."""
    start_forkserver()
    context = multiprocessing.get_context("forkserver")
    by_value = _study_modules(argument)
    for module in by_value:
        cloudpickle.register_pickle_by_value(module)
    try:
        payload = cloudpickle.dumps((target, argument))
    finally:
        for module in by_value:
            cloudpickle.unregister_pickle_by_value(module)
    process = context.Process(target=_child, args=(connection, payload), name=name, daemon=True)
    with _empty_main():
        process.start()
    _started.add(process)
    return process


def _end_started() -> None:
    """At the end of this process, end what has been left running: Python would wait for it."""
    for process in list(_started):
        with suppress(ValueError):  # it was closed, which is how most of them end
            process.kill()


atexit.register(_end_started)


def _child(connection: Connection, payload: bytes) -> None:
    _end_with_parent()
    target, argument = cloudpickle.loads(payload)
    target(connection, argument)


def _end_with_parent() -> None:
    """Leave at once when the process that started this one is gone, even by kill -9.

    The forkserver leaves then, too, unless a child holds its pipe open. On Linux the kernel ends
    its children with it, also those that are stopped or in a library that holds Python's lock.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if sys.platform == "linux":
        import ctypes

        _let_go_of_forkserver()
        ctypes.CDLL(None).prctl(END_WITH_PARENT, signal.SIGKILL)


def _let_go_of_forkserver() -> None:
    """Close this child's end of the pipe by which the forkserver knows that it is needed."""
    client = getattr(forkserver, "_forkserver", None)
    descriptor = getattr(client, "_forkserver_alive_fd", None)
    if client is not None and descriptor is not None:
        os.close(descriptor)
        client._forkserver_alive_fd = None


def _study_modules(argument: object) -> list[ModuleType]:
    """The modules, outside this package, of the classes that a job names."""
    family = getattr(argument, "family", None)
    name = getattr(family, "__module__", "torchstudy").split(".")[0]
    is_ours = name in ("torchstudy", "__main__")  # cloudpickle takes __main__ by value itself
    return [] if is_ours or name not in sys.modules else [sys.modules[family.__module__]]


@contextmanager
def _blocked(signals: list[signal.Signals]) -> Iterator[None]:
    """Signals are kept from this thread for a moment, and from what it starts for good."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _worker_environment() -> Iterator[None]:
    """The forkserver inherits `ENVIRONMENT` when it starts; this process does not keep it."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _empty_main() -> Iterator[None]:
    """Children run the parent's main module again, which is not what a script or notebook wants."""
    real = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = real
