"""Where strategies take tasks from: the source, and the feed that a wrapper puts in front.

Polling never blocks and never holds a lock while it asks further up,
so any number of threads and event loops can pull from one source.
A wake rouses one sleeper, who rouses the next when it finds work.
"""

import heapq
import itertools
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from stratagem.loops import LOOK_UP
from stratagem.scope import orphan_children
from stratagem.task import Outcome, Task, Wait

__all__ = ["AT_ONCE", "Feed", "TaskSource"]

_FOREVER = Wait()
AT_ONCE = Wait(0.0)


class TaskSource(ABC):
    """Hand out tasks to whoever asks, from any thread.

    A subclass gives ``poll`` and calls ``wake`` whenever polling may pay again.
    """

    def __init__(self) -> None:
        self._wakers: list[Callable[[], None]] = []
        self._roused = threading.Condition()
        self._wakes = 0
        self._sleepers = 0
        self._closed = False
        self._hurried = False

    @abstractmethod
    def poll(self) -> Task | Wait | None:
        """Give a task, say to wait, or say with None that there are no more.

        Never blocks on the input; None is final.
        """

    def poll_some(self, most: int) -> tuple[Sequence[Task], Wait | None]:
        """Poll for up to ``most`` tasks; with them comes what else a poll gave.

        That is a wait of no seconds where there may be more of them.
        The tasks may be a ``stratagem.batch.Batch``, which makes each when it is asked for.
        """
        tasks: list[Task] = []
        while len(tasks) < most:
            found = self.poll()
            if not isinstance(found, Task):
                return tasks, found
            tasks.append(found)
        return tasks, AT_ONCE

    @property
    def closed(self) -> bool:
        """Tell whether the source was closed, which asks strategies to stop what still runs."""
        return self._closed

    @property
    def hurried(self) -> bool:
        """Tell whether what still runs is to be left or killed now, without any grace."""
        return self._hurried

    def take(self) -> Task | None:
        """Give the next task, waiting for it if need be; None when there are no more."""
        found = self.poll()
        if not isinstance(found, Wait):
            return found
        with self._roused:
            self._sleepers += 1
        try:
            return self._sleep_until_found()
        finally:
            with self._roused:
                self._sleepers -= 1

    def _sleep_until_found(self) -> Task | None:
        in_main = threading.current_thread() is threading.main_thread()
        patience = LOOK_UP if in_main else threading.TIMEOUT_MAX
        while True:
            with self._roused:
                seen = self._wakes
            found = self.poll()
            if not isinstance(found, Wait):
                with self._roused:
                    self._roused.notify()
                return found
            with self._roused:
                if self._wakes == seen:
                    self._roused.wait(min(found.seconds, patience))

    def __iter__(self) -> Iterator[Task]:
        """Take until there are no more; several threads may iterate at once."""
        poll = self.poll
        while True:
            task = poll()
            if isinstance(task, Wait):
                task = self.take()
            if task is None:
                return
            yield task

    def subscribe(self, waker: Callable[[], None]) -> None:
        """Have ``waker`` called, from any thread, whenever polling may pay again.

        It must not block.
        """
        self._wakers.append(waker)

    def wake(self) -> None:
        """Rouse one taker that sleeps, and tell every subscriber."""
        with self._roused:
            self._wakes += 1
            if self._sleepers:
                self._roused.notify()
        for waker in self._wakers:
            waker()

    def close(self) -> None:
        """Give None to everyone from now on; may be called again, and never waits."""
        self._closed = True
        self.wake()

    def hurry(self) -> None:
        """Close, and ask strategies to wait for nothing that still runs."""
        self._hurried = True
        self.close()


class Feed(TaskSource):
    """Hand out the tasks of an upstream source, and those put beside them.

    It remembers what it handed out until that is settled,
    and is over when the upstream is over and everything is settled.

    Args:
        upstream: the source in front; None for a feed of what is put alone.
    """

    def __init__(self, upstream: TaskSource | None = None) -> None:
        super().__init__()
        self._upstream = upstream
        self._upstream_over = upstream is None
        self._lock = threading.Lock()
        self._asking = 0
        self._ready: deque[Task] = deque()
        self._later: list[tuple[float, int, Task]] = []
        self._puts = itertools.count()
        self._out: dict[int, Task] = {}
        if upstream is not None:
            upstream.subscribe(self.wake)

    @property
    def closed(self) -> bool:
        """Tell whether this feed or a source in front of it was closed."""
        return self._closed or (self._upstream is not None and self._upstream.closed)

    @property
    def hurried(self) -> bool:
        """Tell whether this feed or a source in front of it was told to hurry."""
        return self._hurried or (self._upstream is not None and self._upstream.hurried)

    def poll(self) -> Task | Wait | None:
        """Give what was put and is due, else what the upstream gives."""
        if self.closed:
            return None
        with self._lock:
            if (task := self._due()) is not None:
                self._out[task.index] = task
                return task
            if self._upstream_over or self._upstream is None:
                return self._rest()
            self._asking += 1
        return self._ask(self._upstream)

    def _ask(self, upstream: TaskSource) -> Task | Wait | None:
        try:
            found = upstream.poll()
        except BaseException:
            with self._lock:
                self._asking -= 1
            raise
        with self._lock:
            self._asking -= 1
            if isinstance(found, Task):
                self._out[found.index] = found
                return found
            if found is None:
                self._upstream_over = True
            rest = self._rest()
        if rest is None:
            self.wake()
            return None
        if found is None or rest.seconds < found.seconds:
            return rest
        return found

    def _due(self) -> Task | None:
        if self._ready:
            return self._ready.popleft()
        if self._later and self._later[0][0] <= time.monotonic():
            return heapq.heappop(self._later)[2]
        return None

    def _rest(self) -> Wait | None:
        if self.closed:
            return None
        if self._later:
            return Wait(max(0.0, self._later[0][0] - time.monotonic()))
        if self._ready:
            return Wait(0.0)
        if self._upstream_over and not self._out and not self._asking:
            return None
        return _FOREVER

    def put(self, task: Task, *, after: float = 0.0) -> None:
        """Hand out ``task``, again or for the first time, when ``after`` seconds are over."""
        if task.attempt > 1:
            orphan_children(task)
        with self._lock:
            self._out.pop(task.index, None)
            if after > 0:
                entry = (time.monotonic() + after, next(self._puts), task)
                heapq.heappush(self._later, entry)
            else:
                self._ready.append(task)
        self.wake()

    def task(self, outcome: Outcome) -> Task:
        """Give the task that was handed out for ``outcome``.

        Raises:
            LookupError: no such task is out; it was never handed out, or is settled.
        """
        try:
            return self._out[outcome.index]
        except KeyError:
            raise LookupError(
                f"no task with index {outcome.index} (key {outcome.key!r}) is out; "
                "it was never handed out by this feed, or it is settled already"
            ) from None

    def settle(self, task: Task) -> None:
        """Forget ``task``: its last outcome is known."""
        with self._lock:
            self._out.pop(task.index, None)
            over = self._rest() is None
        if over:
            self.wake()

    def close(self) -> None:
        """Close this feed and the upstream."""
        self._closed = True
        if self._upstream is not None:
            self._upstream.close()
        super().close()

    def hurry(self) -> None:
        """Hurry this feed and the upstream."""
        self._hurried = True
        if self._upstream is not None:
            self._upstream.hurry()
        self.close()
