"""The runs that the tasks of a run have started: they stop with it, and are seen through it."""

import threading
from typing import Protocol
from weakref import WeakSet

__all__ = ["Family", "Member"]


class Member(Protocol):
    """Be a run that a task has started.

    Attributes:
        parent_index: the index of that task.
        is_nested: whether its tasks are children of that one, and belong to the run of it;
            else it is the task's own affair as long as the task may go on.
    """

    parent_index: int
    is_nested: bool

    @property
    def succeeded(self) -> int:
        """Count the tasks that succeeded in it, and in what they started."""

    def stop(self, why: str) -> None:
        """Ask it to stop, without waiting."""

    def hurry(self) -> None:
        """Ask it to wait for nothing."""


class Family:
    """Hold the runs that tasks of one run have started and that are not over."""

    def __init__(self) -> None:
        # A garbage collection that drops a stream may come back here in the same thread.
        self._lock = threading.RLock()
        self._members: WeakSet[Member] = WeakSet()
        self._stopped = False
        self._hurried = False
        self._succeeded = 0

    @property
    def members(self) -> list[Member]:
        """List those that are not over."""
        with self._lock:
            return list(self._members)

    def count_succeeded(self) -> int:
        """Count the tasks that succeeded in all that were started, over or not."""
        with self._lock:
            return self._succeeded + sum(member.succeeded for member in self.members)

    def join(self, member: Member) -> None:
        """Take in a run that begins."""
        with self._lock:
            self._members.add(member)
            stopped, hurried = self._stopped, self._hurried
        if stopped and (hurried or member.is_nested):
            member.stop("parent_stopped")
        if hurried:
            member.hurry()

    def leave(self, member: Member) -> None:
        """Let a run go that is over."""
        with self._lock:
            if member in self._members:
                self._members.discard(member)
                self._succeeded += member.succeeded

    def stop(self) -> None:
        """Stop those that are nested, and what joins from now on and is."""
        with self._lock:
            self._stopped = True
        for member in self.members:
            if member.is_nested:
                member.stop("parent_stopped")

    def hurry(self) -> None:
        """Hurry them all, and what joins from now on."""
        with self._lock:
            self._hurried = True
        for member in self.members:
            member.stop("parent_stopped")
            member.hurry()

    def orphan(self, index: int) -> None:
        """Stop what a task has started that was ended from outside."""
        for member in self.members:
            if member.parent_index == index:
                member.stop("parent_stopped")
