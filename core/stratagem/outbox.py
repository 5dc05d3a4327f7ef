"""Outcomes on their way from the workers of a stream to its one consumer."""

import threading
from collections import deque
from collections.abc import Callable

from stratagem.loops import LOOK_UP
from stratagem.scope import current_hold
from stratagem.task import Outcome

__all__ = ["UNREAD", "Outbox"]

UNREAD = 320
"""How many unread outcomes are enough: each turn of producers and consumer, from core to core,
costs as much as some fifty tasks."""


class Outbox:
    """Hand outcomes from any thread to one consumer, who sleeps only while there are none.

    Producers keep the bound themselves: one that finds it ``full`` takes no further task
    and asks to be resumed.

    Args:
        bound: how many unread outcomes make it full.

    Attributes:
        unread: the outcomes; only the consumer takes them out.
        awaited: who wants to be resumed.
        bound: how many unread outcomes make it full.
        many: how many are worth a turn of the consumer.
        half: how many unread outcomes are few enough to resume.
        asleep: whether the consumer sleeps.
        is_read_on_loop: whether the consumer is a coroutine, on whose loop nobody may wait for it.
    """

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.many = bound * 3 // 4
        self.half = bound // 2
        self.unread: deque[Outcome] = deque()
        self._bell = threading.Lock()
        self._bell.acquire()
        self.asleep = False
        self.is_read_on_loop = False
        self._rouse: Callable[[], None] | None = None
        self.awaited: deque[Callable[[], None]] = deque()

    def __len__(self) -> int:
        """Count the unread outcomes."""
        return len(self.unread)

    @property
    def full(self) -> bool:
        """Tell whether producers should pause."""
        return len(self.unread) >= self.bound

    def put(self, outcome: Outcome) -> bool:
        """Add an outcome; tell whether producers should pause now. Never blocks."""
        self.unread.append(outcome)
        if self.asleep or len(self.unread) >= self.bound:
            self.ring()
            return self.full
        return False

    def rouse(self) -> None:
        """Rouse the consumer if it should look at the outcomes there are."""
        if self.unread and (self.asleep or self.full):
            self.ring()

    def ring(self) -> None:
        """Rouse the consumer, to look around even if there is no outcome."""
        self.asleep = False
        rouse = self._rouse
        if rouse is not None:
            rouse()
        try:
            self._bell.release()
        except RuntimeError:  # it rings already
            return

    def resume_when_room(self, resume: Callable[[], None]) -> None:
        """Have ``resume`` called once, when half of the outcomes have been read."""
        self.awaited.append(resume)
        if len(self.unread) <= self.half:
            self.resume()

    def wait_for_room(self, seconds: float) -> bool:
        """Wait, so long at the most, until half of the outcomes have been read; tell whether."""
        room = threading.Lock()
        room.acquire()
        self.resume_when_room(room.release)
        return room.acquire(timeout=seconds)

    def resume(self) -> None:
        """Resume those who asked for it. The consumer calls it when it is down to ``half``."""
        for _ in range(len(self.awaited)):  # one that is full again asks again, behind these
            try:
                resume = self.awaited.popleft()
            except IndexError:
                return
            resume()

    def sleep_until(self, rouse: Callable[[], None], stirring: Callable[[], bool]) -> bool:
        """Have the consumer sleep without waiting here, until ``rouse`` is called or it is awake.

        Args:
            rouse: called when the bell rings, from any thread, maybe more than once.
            stirring: as of ``sleep``.

        Returns:
            Whether it sleeps; False when there is something to see already.
        """
        self._rouse = rouse
        self.asleep = True
        if self.unread or stirring():
            self.awake()
            return False
        return True

    def awake(self) -> None:
        """Have the consumer sleep no more."""
        self.asleep = False
        self._rouse = None

    def sleep(self, stirring: Callable[[], bool], timeout: float = -1) -> None:
        """Wait until the bell rings, unless something stirs already. Only the consumer calls it.

        The task in which the consumer runs, if any, lends its slot meanwhile.

        Args:
            stirring: looked at after the consumer has said that it sleeps, so no ring is missed.
            timeout: seconds at the most; -1 for no bound. It may return earlier.
        """
        self._bell.acquire(blocking=False)
        self.asleep = True
        if self.unread or stirring():
            self.asleep = False
            return
        hold = current_hold()
        if hold is None:
            timeout = min(timeout, LOOK_UP) if timeout >= 0 else LOOK_UP
        lent = hold is not None and hold.lend()
        try:
            self._bell.acquire(timeout=timeout)
        finally:
            self.asleep = False
            if lent and hold is not None:
                hold.reclaim()
