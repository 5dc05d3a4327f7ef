"""Daemon threads that are kept for the next job, and a clock that calls back in one of its own.

The executor of the standard library joins its threads when the interpreter exits,
so that one task that never returns keeps the program alive; these do not.
"""

import heapq
import itertools
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

__all__ = ["Clock", "Crew", "not_an_end", "stack_of"]

_log = logging.getLogger("stratagem")
_PACKAGES = {"stratagem", "stratagem_builtin", "asyncio"}


class _Hand:
    __slots__ = ("bell", "job")

    def __init__(self, job: Callable[[], None]) -> None:
        self.job: Callable[[], None] | None = job
        self.bell = threading.Lock()
        self.bell.acquire()


class Crew:
    """Run jobs in daemon threads: one that idles if there is one, else a new one.

    It sets no limit: who hands out jobs does.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._idle: list[_Hand] = []
        self._generation = 0

    def run(self, job: Callable[[], None]) -> None:
        """Have ``job`` run; it must not raise."""
        with self._lock:
            hand = self._idle.pop() if self._idle else None
            generation = self._generation
        if hand is not None:
            hand.job = job
            hand.bell.release()
            return
        threading.Thread(
            target=self._work,
            args=(_Hand(job), generation),
            name=f"{self._name}-{next(self._numbers)}",
            daemon=True,
        ).start()

    def _work(self, hand: _Hand, generation: int) -> None:
        while hand.job is not None:
            hand.job()
            hand.job = None
            with self._lock:
                if generation != self._generation:
                    return
                self._idle.append(hand)
            hand.bell.acquire()

    def close(self) -> None:
        """Let every idle thread go now, and every busy one when its job ends."""
        with self._lock:
            self._generation += 1
            idle, self._idle = self._idle, []
        for hand in idle:
            hand.bell.release()


class Clock:
    """Call back at a time, whatever other threads are doing.

    Its thread starts with the first entry and ends with the last.
    """

    def __init__(self, name: str = "stratagem-clock") -> None:
        self._name = name
        self._changed = threading.Condition()
        self._entries: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ticking = False

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        """Call ``callback`` when ``time.monotonic()`` reaches ``when``; it must not block."""
        with self._changed:
            heapq.heappush(self._entries, (when, next(self._order), callback))
            if not self._ticking:
                self._ticking = True
                threading.Thread(target=self._tick, name=self._name, daemon=True).start()
            elif self._entries[0][0] == when:
                self._changed.notify()

    def _tick(self) -> None:
        while (callback := self._next()) is not None:
            try:
                callback()
            except Exception:  # noqa: BLE001 - the clock of the others goes on
                _log.exception("clock_failed: a deadline or a delayed start could not be kept")

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while self._entries:
                wait = self._entries[0][0] - time.monotonic()
                if wait <= 0:
                    return heapq.heappop(self._entries)[2]
                self._changed.wait(min(wait, threading.TIMEOUT_MAX))
            self._ticking = False
            return None

    def close(self) -> None:
        """Forget every entry."""
        with self._changed:
            self._entries.clear()
            self._changed.notify()


def stack_of(thread: threading.Thread | None) -> str:
    """Give where a thread is, as a traceback is written, without the frames that called it."""
    frame = None if thread is None else sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return ""
    entries = traceback.extract_stack(frame)
    return "".join(
        traceback.format_list(entry for entry in entries if not _is_machinery(entry.filename))
    )


def _is_machinery(filename: str) -> bool:
    path = Path(filename)
    return path.parent.name in _PACKAGES or path == Path(threading.__file__)


def not_an_end(error: BaseException) -> BaseException:
    """Give ``error``, wrapped if raised from an iterator it would pass for the end of it."""
    if isinstance(error, StopIteration | StopAsyncIteration):
        wrapped = RuntimeError(f"raised {type(error).__name__}: {error}")
        wrapped.__cause__ = error
        return wrapped
    return error
