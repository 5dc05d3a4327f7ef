"""The source that the inner strategy takes from: every task that comes out of it is on disk."""

import threading
from collections import deque
from collections.abc import Callable

from stratagem import Task, TaskSource, Wait
from stratagem_journal import failpoints

__all__ = ["Gate"]

LOOK_UP_AT_ONCE = 128
"""How many tasks are taken ahead where each may be one whose outcome is known."""

LEAST_AHEAD = 2
MOST_AHEAD = 128

_FOREVER = Wait()


class Gate(TaskSource):
    """Hand out a task once the record that it begins is on disk.

    Few records run ahead of what the inner strategy takes, so that few tasks are in doubt after
    a crash though they had not begun: two, or half as many as it has, or twice as many as it took
    while the last records were written, which are many where tasks are over in no time;
    never more than run at once, where that is known.

    Args:
        upstream: where tasks come from.
        sift: is given tasks, keeps those whose outcome is known, and gives those to run.
        record: has it written that tasks begin; ``release`` is called with them then.
        most: how many tasks may be out, or have ended and not be on disk yet; None for any
            number. Where it is how many run at once, no more than that can run twice.
        look_up: whether outcomes may be known, so that it pays to look up many at once.
        full: tells whether nothing more should be taken for now.
    """

    def __init__(
        self,
        upstream: TaskSource,
        sift: Callable[[list[Task]], list[Task]],
        record: Callable[[list[Task]], None],
        full: Callable[[], bool],
        *,
        most: int | None,
        look_up: bool,
    ) -> None:
        super().__init__()
        self._upstream = upstream
        self._sift = sift
        self._record = record
        self._full = full
        self._most = most
        self._look_up = look_up
        self._ending = 0
        self._lock = threading.Lock()
        self._sifted: deque[Task] = deque()
        self._written: dict[int, Task] = {}
        self._ready: deque[Task] = deque()
        self._out: dict[int, Task] = {}
        self._taken = 0
        self._ahead = LEAST_AHEAD
        self._upstream_over = False
        self._pulling = False
        self._asked_again = False
        upstream.subscribe(self.wake)

    @property
    def closed(self) -> bool:
        """Tell whether this source or the one in front of it was closed."""
        return self._closed or self._upstream.closed

    @property
    def hurried(self) -> bool:
        """Tell whether this source or the one in front of it was told to hurry."""
        return self._hurried or self._upstream.hurried

    @property
    def busy(self) -> bool:
        """Tell whether a thread is taking tasks from further up."""
        return self._pulling

    def poll(self) -> Task | Wait | None:
        """Give a task whose begin is on disk; have that of further ones written."""
        while not self.closed:
            if (task := self._handed_out()) is not None:
                return task
            with self._lock:
                if self._ready and self._may_hand_out:
                    continue
                if self._is_over:
                    return None
                if self._pulling:
                    self._asked_again = True
                    return _FOREVER
                room = self._room()
                if room <= 0 or self._full():
                    return _FOREVER
                self._pulling = True
                self._asked_again = False
            found: Task | Wait | None = _FOREVER
            try:
                found = self._pull(room)
            finally:
                with self._lock:
                    self._pulling = False
                    self._upstream_over = self._upstream_over or found is None
                    again = self._asked_again or self._is_over
            if not again:
                return found if isinstance(found, Wait) else _FOREVER
        return None

    def _handed_out(self) -> Task | None:
        with self._lock:
            if not (self._ready and self._may_hand_out):
                return None
            task = self._ready.popleft()
            self._out[task.index] = task
            self._taken += 1
            over = self._is_over
        if failpoints.reach is not None:
            failpoints.reach("handed_out")
        if over:  # who sleeps waits for nothing
            self.wake()
        return task

    @property
    def _may_hand_out(self) -> bool:
        return self._most is None or len(self._out) + self._ending < self._most

    @property
    def _is_over(self) -> bool:
        return self._upstream_over and not (self._sifted or self._written or self._ready)

    def _room(self) -> int:
        ahead = max(self._ahead, min(len(self._out) // 2, MOST_AHEAD))
        if self._most is not None:
            ahead = min(ahead, self._most)
        return ahead - len(self._written) - len(self._ready)

    def _pull(self, room: int) -> Task | Wait | None:
        """Have the begin of so many tasks written; give what the upstream said last."""
        found: Task | Wait | None = None if self._upstream_over else _FOREVER
        while len(self._sifted) < room and not self._upstream_over:
            taken: list[Task] = []
            wanted = LOOK_UP_AT_ONCE if self._look_up else room - len(self._sifted)
            while len(taken) < wanted and isinstance(found := self._upstream.poll(), Task):
                taken.append(found)
            self._sifted += self._sift(taken)
            if not isinstance(found, Task) or self._full() or self.closed:
                break
        begin = [self._sifted.popleft() for _ in range(min(room, len(self._sifted)))]
        if begin:
            with self._lock:
                self._written.update((task.index, task) for task in begin)
            self._record(begin)
        return _FOREVER if isinstance(found, Task) else found

    def release(self, tasks: list[Task]) -> None:
        """Hand out tasks: their begin is on disk."""
        with self._lock:
            for task in tasks:
                if self._written.pop(task.index, None) is not None:
                    self._ready.append(task)
            self._ahead = min(max(LEAST_AHEAD, 2 * self._taken), MOST_AHEAD)
            self._taken = 0
        self.wake()

    def take_back(self, index: int) -> Task | None:
        """Give the task that has ended; None where none of that index is out."""
        with self._lock:
            task = self._out.pop(index, None)
            self._ending += task is not None
            return task

    def settle(self, count: int) -> None:
        """Let so many tasks go whose end is on disk."""
        with self._lock:
            self._ending -= count
        self.wake()

    def left(self) -> list[Task]:
        """Give the tasks that are on disk, or about to be, and were never handed out."""
        with self._lock:
            left = [*self._ready, *self._written.values()]
            self._ready.clear()
            self._written.clear()
            return left

    def close(self) -> None:
        """Close this source and the one in front of it."""
        self._closed = True
        self._upstream.close()
        super().close()

    def hurry(self) -> None:
        """Hurry this source and the one in front of it."""
        self._hurried = True
        self._upstream.hurry()
        self.close()
