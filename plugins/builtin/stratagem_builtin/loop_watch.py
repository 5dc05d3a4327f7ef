"""A watch over an event loop: what holds it up is named, since nothing else runs meanwhile."""

import asyncio
import logging
import threading
from collections.abc import Callable
from time import monotonic

from stratagem.threads import Clock, stack_of

__all__ = ["LoopWatch", "log_blocked"]

LOOK_EVERY = 0.25
BLOCKED_AFTER = 1.0
_log = logging.getLogger("stratagem")


class LoopWatch:
    """Ask a loop, again and again, to answer; tell when it has not for a while.

    Args:
        loop: what to watch.
        clock: calls back from a thread of its own.
        still_needed: whether the watch is to go on.
        when_blocked: called at every look while the loop does not answer, from the clock's thread.

    Attributes:
        loop: the loop.
        blocked_for: the seconds that the loop has not answered; 0 while it does.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        still_needed: Callable[[], bool],
        when_blocked: Callable[["LoopWatch"], None],
    ) -> None:
        self.loop = loop
        self._clock = clock
        self._still_needed = still_needed
        self._when_blocked = when_blocked
        self._asked_at: float | None = None
        self._thread: threading.Thread | None = None
        self.blocked_for = 0.0

    def start(self) -> None:
        """Look from now on."""
        self._ask()
        self._clock.call_at(monotonic() + LOOK_EVERY, self._look)

    def _ask(self) -> None:
        self._asked_at = monotonic()
        try:
            self.loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # the loop has closed, so nothing holds it up
            self._asked_at = None

    def _answer(self) -> None:
        self._thread = threading.current_thread()
        self._asked_at = None
        self.blocked_for = 0.0

    def _look(self) -> None:
        if not self._still_needed():
            return
        asked_at = self._asked_at
        if asked_at is None:
            self._ask()
        elif monotonic() - asked_at >= BLOCKED_AFTER:
            self.blocked_for = monotonic() - asked_at
            self._when_blocked(self)
        self._clock.call_at(monotonic() + LOOK_EVERY, self._look)

    @property
    def job(self) -> "asyncio.Task[object] | None":
        """Give the asyncio task that runs on the loop now."""
        return asyncio.current_task(self.loop)

    @property
    def stack(self) -> str:
        """Give where the thread of the loop is, as a traceback is written."""
        return stack_of(self._thread)


def log_blocked(key: str | None, seconds: float, stack: str) -> None:
    """Warn of a task that holds up its loop.

    Args:
        key: the key of the task; None where it is none of ours.
        seconds: how long it has.
        stack: where it is.
    """
    _log.warning(
        "loop_blocked: %s has held up the event loop for %.1f s; no other task runs meanwhile: "
        "call what blocks in a plain function, or by `await asyncio.to_thread(...)`. It is at\n%s",
        "something that is no task of this run" if key is None else f"task {key!r}",
        seconds,
        stack or "a place unknown",
    )
