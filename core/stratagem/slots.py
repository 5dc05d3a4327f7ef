"""The budget of a strategy: who may run, who waits for a slot, who lent one and wants it back."""

import threading
from collections import deque
from typing import Protocol

from stratagem.scope import Hold

__all__ = ["Slot", "SlotTaker", "Slots", "depth_below"]


class SlotTaker(Protocol):
    """Be a stream that starts tasks on slots.

    Attributes:
        depth: how many runs it is nested in.
    """

    depth: int

    def wake(self) -> None:
        """Try again to start a task: a slot is free. Called from any thread; must not block."""


class Slots:
    """Count who runs: never more than ``limit`` at once, over all streams of one strategy.

    A parent that returns from waiting goes before any start, a deeper stream before its ancestors,
    and streams of one depth take turns. So no depth can deadlock, and no slot idles while there
    is work.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        # A garbage collection that drops a stream may come back here in the same thread.
        self._lock = threading.RLock()
        self.free = limit
        """How many slots nobody holds."""
        self._returning: deque[threading.Lock] = deque()
        self._takers = 0
        self._hungry: list[SlotTaker] = []
        self.contended = False
        """Whether a worker that goes on must first ask ``must_yield``."""

    def join(self, _taker: SlotTaker) -> None:
        """Count a stream in that begins."""
        with self._lock:
            self._takers += 1
            self._press()

    def must_yield(self, taker: SlotTaker) -> bool:
        """Tell whether a worker of ``taker`` should give its slot up before its next task."""
        with self._lock:
            return bool(self._returning) or any(
                other is not taker and other.depth >= taker.depth for other in self._hungry
            )

    def start(self, taker: SlotTaker) -> bool:
        """Reserve a slot for ``taker``, or remember that it wants one."""
        with self._lock:
            if self.free > 0 and not self._returning:
                self.free -= 1
                return True
            if taker not in self._hungry:
                self._hungry.append(taker)
                self._press()
            return False

    def stop(self) -> None:
        """Give a slot up: to the parent that returns, else to the deepest that wants one."""
        with self._lock:
            if self._returning:
                self._returning.popleft().release()
                self._press()
                return
            self.free += 1
            taker = max(self._hungry, key=_depth, default=None)
            if taker is not None:
                self._hungry.remove(taker)
                self._press()
        if taker is not None:
            taker.wake()

    def forget(self, taker: SlotTaker) -> None:
        """Wake ``taker`` no more: it is over. A wake that it may have had goes to the next."""
        with self._lock:
            self._takers -= 1
            if taker in self._hungry:
                self._hungry.remove(taker)
            self._press()
        self.offer()

    def offer(self) -> None:
        """Wake the deepest that wants a slot, if one is free."""
        with self._lock:
            if not self._hungry or self.free <= 0 or self._returning:
                return
            taker = max(self._hungry, key=_depth)
            self._hungry.remove(taker)
            self._press()
        taker.wake()

    def resume(self) -> None:
        """Take back a slot that was lent, waiting for one if need be."""
        with self._lock:
            if self.free > 0:
                self.free -= 1
                return
            granted = threading.Lock()
            granted.acquire()
            self._returning.append(granted)
            self._press()
        granted.acquire()

    def _press(self) -> None:
        rivals = self._takers > 1 and bool(self._hungry)
        self.contended = rivals or bool(self._returning)


def _depth(taker: SlotTaker) -> int:
    return taker.depth


class Slot:
    """Be one taken slot, as the task sees it that runs on it: it can be lent, and taken back.

    It is lent from when the first part of the task waits, one coroutine of several perhaps, until
    the last has what it waited for: were it kept by one that goes on, what the others wait for
    might never get a slot.
    """

    __slots__ = ("_held", "_lock", "_over", "_slots", "_taking_back", "_waits", "depth")

    def __init__(self, slots: Slots, depth: int) -> None:
        self._slots = slots
        self._lock = threading.Lock()
        self._taking_back = threading.Lock()
        self._waits = 0
        self._held = True
        self._over = False
        self.depth = depth

    def lend(self) -> bool:
        """Wait from now on: the slot goes to others. False when it is given up already."""
        with self._lock:
            if self._over:
                return False
            self._waits += 1
            held, self._held = self._held, False
        if held:
            self._slots.stop()
        return True

    def reclaim(self) -> None:
        """Wait no more. The last that waited takes a slot back, waiting for one if need be.

        A slot that was given up meanwhile stays so.
        """
        with self._lock:
            self._waits -= 1
            if self._waits or self._over:
                return
        with self._taking_back:  # two at once would take two slots, of which there may be one
            with self._lock:
                if self._held or self._waits or self._over:
                    return
            self._slots.resume()
            with self._lock:
                surplus = self._waits > 0 or self._over
                self._held = not surplus
            if surplus:
                self._slots.stop()

    def give_up(self) -> None:
        """End the holding, whether the slot is lent or not."""
        with self._lock:
            self._over = True
            held, self._held = self._held, False
        if held:
            self._slots.stop()


def depth_below(hold: Hold | None) -> int:
    """Give the depth of a stream opened by the task that has ``hold``; 0 outside of any."""
    return 0 if hold is None else hold.depth + 1
