"""Ctrl-C at the terminal is for the program that owns a cluster, not for the workers of it.

It stops the run, with its grace; workers that ended at once would take their tasks with them.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

__all__ = ["dask_setup", "interrupts_held"]

_CAN_HOLD = hasattr(signal, "pthread_sigmask")


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold an interrupt of this thread back, and from all that it starts, until it is over."""
    if not _CAN_HOLD:
        yield
        return
    # It lets interrupts through again where it starts by itself: when the first process starts.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def dask_setup(_worker: object) -> None:
    """Leave interrupts to the program; Dask calls this in a worker, as it starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _CAN_HOLD:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
