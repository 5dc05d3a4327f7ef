"""What tasks leave behind in their worker: threads, child processes, open descriptors."""

import logging
import os
import threading
import time
from contextvars import copy_context
from pathlib import Path

from stratagem import Task
from stratagem.invoke import enter

__all__ = ["Leaks"]

LOOK_EVERY = 0.001
"""Descriptors and children cost some 20 us to count, so tasks shorter than this share a look."""
OWN_DESCRIPTORS = 6
"""What the two event loops of a worker hold, once there were coroutines."""
INFINITE = 2**62
OWN_THREADS = ("stratagem-", "asyncio_")

_logger = logging.getLogger("stratagem")


class Leaks:
    """Tell, once for each kind, of a task that left something behind.

    Attributes:
        watching: whether anybody would read it.
    """

    def __init__(self) -> None:
        self.watching = False
        self._looked_at = 0.0
        self._running = 0
        self._should: dict[str, int] = {}

    def watch(self) -> None:
        """Take what there is now for what there should be."""
        self.watching = _logger.isEnabledFor(logging.INFO)
        self._running = threading.active_count()
        self._should = {kind: count() for kind, count in KINDS.items()}
        self._should["descriptors"] += OWN_DESCRIPTORS

    def look(self, task: Task) -> None:
        """Look whether ``task``, or a short one right before it, left something."""
        now = time.monotonic()
        kinds = [] if threading.active_count() == self._running else ["threads"]
        if now - self._looked_at >= LOOK_EVERY:
            kinds += ["children", "descriptors"]
            self._looked_at = now
        for kind in kinds:
            more = KINDS[kind]() - self._should.get(kind, INFINITE)
            if more > 0:
                del self._should[kind]
                context = copy_context() if task.context is None else task.context.copy()
                context.run(_tell, task, more, kind)
        self.watching = bool(self._should)


def _tell(task: Task, count: int, kind: str) -> None:
    enter(task, None)
    _logger.info(
        "task_leaked: task %r left %d %s behind in its worker; "
        "more of that kind in this worker is not told",
        task.key,
        count,
        kind,
    )


def _threads() -> int:
    return sum(not thread.name.startswith(OWN_THREADS) for thread in threading.enumerate())


def _children() -> int:
    try:
        threads = list(Path("/proc/self/task").iterdir())
        return sum(len((thread / "children").read_bytes().split()) for thread in threads)
    except OSError:  # no Linux, or a thread that has just ended
        return 0


def _descriptors() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - pathlib takes thrice as long
    except OSError:
        return 0


KINDS = {"threads": _threads, "children": _children, "descriptors": _descriptors}
