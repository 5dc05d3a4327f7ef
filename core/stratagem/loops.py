"""The event loop that a caller brings; nothing here imports asyncio."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

__all__ = ["LOOK_UP", "a_loop_runs", "calling_loop", "is_cancel", "running_loop", "running_on"]

LOOK_UP = 0.5
"""Seconds after which whoever waits looks up: a signal that strikes just before the main thread
begins to wait for a lock is handled only when that wait is over."""

_calling_loop: ContextVar["asyncio.AbstractEventLoop | None"] = ContextVar(
    "stratagem_calling_loop", default=None
)


def calling_loop() -> "asyncio.AbstractEventLoop | None":
    """Give the loop of the caller of ``arun`` or ``astream``; None for a caller without one.

    Strategies run async tasks there, wherever their ``stream`` itself runs.
    """
    return _calling_loop.get()


@contextmanager
def running_on(loop: "asyncio.AbstractEventLoop | None") -> Iterator[None]:
    """Name ``loop`` as the caller's for the code inside."""
    token = _calling_loop.set(loop)
    try:
        yield
    finally:
        _calling_loop.reset(token)


def running_loop() -> "asyncio.AbstractEventLoop":
    """Give the loop that runs in this thread.

    Raises:
        RuntimeError: none does.
    """
    # Who has a loop has imported asyncio; another thread may be about to.
    get = getattr(sys.modules.get("asyncio"), "get_running_loop", None)
    if get is None:
        raise RuntimeError("no running event loop")
    loop: asyncio.AbstractEventLoop = get()
    return loop


def a_loop_runs() -> bool:
    """Tell whether a loop runs in this thread."""
    try:
        running_loop()
    except RuntimeError:
        return False
    return True


def is_cancel(error: BaseException) -> bool:
    """Tell whether an error is what asyncio cancels with."""
    kind = getattr(sys.modules.get("asyncio"), "CancelledError", None)
    return kind is not None and isinstance(error, kind)
