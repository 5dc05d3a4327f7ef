"""The source that the inner strategy takes from: every task that comes out of it is on disk."""

import threading
from collections import deque
from typing import Protocol

import attrs

from stratagem import Task, TaskSource, Wait
from stratagem_journal import failpoints

__all__ = ["Begun", "Gate", "Keeper"]

LOOK_UP_AT_ONCE = 256
"""How many tasks are taken ahead where each may be one whose outcome is known."""

LEAST_AHEAD = 2
MOST_AHEAD = 128

FIRST_ALLOWANCE = 8
"""How many tasks may be out at first where nobody says how many run at once."""

_FOREVER = Wait()


@attrs.define(eq=False)
class Begun:
    """Be a task from when its record is made.

    Attributes:
        number: the id of that record; tasks are handed out in the order of these.
        task: the task.
        given: the fingerprint of its input.
    """

    number: int
    task: Task
    given: bytes | None


class Keeper(Protocol):
    """Be what a gate asks, in whichever thread the inner strategy takes tasks."""

    @property
    def full(self) -> bool:
        """Tell whether nothing should be handed out for now; the gate is woken afterwards."""

    def sift(self, tasks: list[Task]) -> list[Begun]:
        """Keep tasks whose outcome is known, and give those to run."""

    def record_begin(self, begun: list[Begun]) -> None:
        """Have it written that tasks begin; ``go_on`` is called then."""

    def record_allowance(self, most: int) -> None:
        """Have it written how many tasks may be out; ``allow`` is called then."""


class Gate(TaskSource):
    """Hand out a task once the record that it begins is on disk.

    They are handed out in the order of their records, never more than are allowed without a
    recorded end; that is on disk too. So it is known after a crash which of them had begun at
    the most, though records run ahead of what the inner strategy takes: two, or half as many as
    it has, or twice as many as it took while the last records were written.

    Args:
        upstream: where tasks come from.
        keeper: what it asks.
        most: how many tasks may be out, or have ended and not be on disk yet; None where nobody
            knows: then that grows, a little at a time, with what the strategy takes.
        look_up: whether outcomes may be known, so that it pays to look up many at once.

    Attributes:
        exhausted: whether all there is was taken from further up.
    """

    def __init__(
        self, upstream: TaskSource, keeper: Keeper, *, most: int | None, look_up: bool
    ) -> None:
        super().__init__()
        self._upstream = upstream
        self._keeper = keeper
        self._grows = most is None
        self._wanted = FIRST_ALLOWANCE if most is None else most
        self._most = 0
        self._look_up = look_up
        self._lock = threading.Lock()
        self._sifted: deque[Begun] = deque()
        self._written: set[Begun] = set()
        self._ready: deque[Begun] = deque()
        self._out: dict[int, list[Begun]] = {}
        self._flying = 0
        self._asked = 0
        self._ending = 0
        self._taken = 0
        self._ahead = LEAST_AHEAD
        self.exhausted = False
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
            if self._keeper.full:
                return _FOREVER
            if (task := self._handed_out()) is not None:
                return task
            with self._lock:
                if self._may_hand_out:
                    continue
                if self._is_over:
                    return None
                if self._pulling:
                    self._asked_again = True
                    return _FOREVER
                self._pulling = True
                self._asked_again = False
            found: Task | Wait | None = _FOREVER
            try:
                found = self._pull()
            finally:
                with self._lock:
                    self._pulling = False
                    self._upstream_over = self._upstream_over or found is None
                    self.exhausted = self.exhausted or (found is None and not self.closed)
                    again = self._asked_again or self._is_over or self._may_hand_out
            if not again:
                return found if isinstance(found, Wait) else _FOREVER
        return None

    def _handed_out(self) -> Task | None:
        with self._lock:
            if not self._may_hand_out:
                return None
            begun = self._ready.popleft()
            self._out.setdefault(begun.task.index, []).append(begun)
            self._flying += 1
            self._taken += 1
            over = self._is_over
        if failpoints.reach is not None:
            failpoints.reach("handed_out")
        if over:  # who sleeps waits for nothing
            self.wake()
        return begun.task

    @property
    def _may_hand_out(self) -> bool:
        return bool(self._ready) and self._flying + self._ending < self._most

    @property
    def _is_over(self) -> bool:
        return self._upstream_over and not (self._sifted or self._written or self._ready)

    def _pull(self) -> Task | Wait | None:
        """Have the begin of further tasks written; give what the upstream said last."""
        self._grow()
        room = self._room()
        if room <= 0:
            return _FOREVER
        found: Task | Wait | None = None if self._upstream_over else _FOREVER
        poll = self._upstream.poll
        while len(self._sifted) < room and not self._upstream_over:
            taken: list[Task] = []
            wanted = LOOK_UP_AT_ONCE if self._look_up else room - len(self._sifted)
            while len(taken) < wanted and isinstance(found := poll(), Task):
                taken.append(found)
            if taken:
                self._sifted += self._keeper.sift(taken)
            if not isinstance(found, Task) or self._keeper.full or self.closed:
                break
        begin = [self._sifted.popleft() for _ in range(min(room, len(self._sifted)))]
        if begin:
            with self._lock:
                self._written.update(begin)
            self._keeper.record_begin(begin)
        return _FOREVER if isinstance(found, Task) else found

    def _grow(self) -> None:
        """Ask for a larger allowance if what is taken fills this one."""
        if self._grows and self._ready and self._flying >= self._most == self._wanted:
            self._wanted += max(1, self._most // 8)
        if self._asked < self._wanted:
            self._asked = self._wanted
            self._keeper.record_allowance(self._wanted)

    def _room(self) -> int:
        ahead = max(self._ahead, min(self._flying // 2, MOST_AHEAD))
        return min(ahead, self._wanted) - len(self._written) - len(self._ready)

    def allow(self, most: int) -> None:
        """Let so many tasks be out: that is on disk. Nobody is woken yet."""
        self._most = most

    def go_on(self, begun: list[Begun], ended: int) -> None:
        """Hand out tasks whose begin is on disk, and let so many go whose end is."""
        with self._lock:
            self._ending -= ended
            for one in begun:
                if one in self._written:
                    self._written.remove(one)
                    self._ready.append(one)
            if begun:
                self._ahead = min(max(LEAST_AHEAD, 2 * self._taken), MOST_AHEAD)
                self._taken = 0
        self.wake()

    def take_back(self, index: int) -> Begun | None:
        """Give the task that has ended; None where none of that index is out."""
        with self._lock:
            several = self._out.get(index)
            if several is None:
                return None
            begun = several.pop(0)  # more than one where somebody has it run twice
            if not several:
                del self._out[index]
            self._flying -= 1
            self._ending += 1
            return begun

    def left(self) -> tuple[list[Begun], list[Begun]]:
        """Give what was never handed out, though a record says that it begins; and what is out."""
        with self._lock:
            left = [*self._ready, *self._written]
            out = [begun for several in self._out.values() for begun in several]
            self._ready.clear()
            self._written.clear()
            return left, out

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
