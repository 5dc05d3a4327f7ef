"""How the one consumer of a stream reads it: to its end, or until the grace of a stop is over."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Protocol

from stratagem.outbox import Outbox
from stratagem.source import TaskSource
from stratagem.task import Outcome

__all__ = ["Outcomes", "Producer", "outcomes_of"]

LONGEST_GRACE = 1_000_000.0
"""Seconds that every clock and every wait of an operating system can count in milliseconds."""


class Producer(Protocol):
    """Be what takes the tasks of one stream and puts their outcomes into a box.

    Attributes:
        tasks: where it takes from.
        outbox: where its outcomes go; it rings when there is something else to see.
        failure: what broke the stream itself; None for nothing.
    """

    tasks: TaskSource
    outbox: Outbox
    failure: BaseException | None

    @property
    def finished(self) -> bool:
        """Tell whether no further outcome will come."""

    def begin(self) -> None:
        """Take the first tasks."""

    def stop(self, give_up_at: float) -> None:
        """Cancel what can be cancelled; ``give_up_at`` is in ``time.monotonic()``.

        Called again, with an earlier moment, when the source is hurried.
        """

    def give_up(self) -> bool:
        """Answer for what has not ended in time; False where somebody else sees to it."""

    def end(self) -> None:
        """Take no part any more."""


class Outcomes(Iterator[Outcome]):
    """Be what a producer brings, in the order in which it ends.

    Who iterates over nothing but this may as well take from the box what is there already,
    unless that is more than one thread at a time.

    Attributes:
        outbox: where outcomes wait to be read.
    """

    def __init__(self, producer: Producer, grace: float) -> None:
        self.outbox = producer.outbox
        self._producer = producer
        self._read = _read(producer, grace)

    def __iter__(self) -> Iterator[Outcome]:  # noqa: PYI034 - a loop over it is one frame less
        """Give what reads this, which is one for all."""
        return self._read

    def __next__(self) -> Outcome:
        """Give the next outcome, waiting for it if need be."""
        return next(self._read)

    def sleep_until(self, rouse: Callable[[], None]) -> bool:
        """Have ``rouse`` called, from any thread, when there is something to see.

        Returns:
            False when there is now.
        """
        return self.outbox.sleep_until(rouse, self._is_stirring)

    def _is_stirring(self) -> bool:
        return self._producer.finished or self._producer.tasks.closed

    def close(self) -> None:
        """Close the source, and end what runs, as the end of a stop does."""
        self._read.close()


def outcomes_of(producer: Producer, grace: float) -> Outcomes:
    """Give outcomes until every task has one, or the source is closed and the grace is over.

    A ``KeyboardInterrupt`` that strikes the wait takes with it, as ``outcomes``, what had ended.

    Args:
        producer: the stream.
        grace: seconds that running tasks get once the source is closed; none once it is hurried.
    """
    return Outcomes(producer, grace)


def _read(producer: Producer, grace: float) -> Generator[Outcome]:
    outbox, unread = producer.outbox, producer.outbox.unread
    patience = _Patience(producer, grace)
    try:
        producer.begin()
        while patience.brings_more():
            while unread:
                outcome = unread.popleft()
                if outbox.awaited and len(unread) <= outbox.half:
                    outbox.resume()
                yield outcome
    except KeyboardInterrupt as interrupt:  # who interrupts the wait will not wait for more
        producer.tasks.hurry()
        interrupt.outcomes = patience.rest()  # type: ignore[attr-defined]
        raise
    finally:
        producer.tasks.close()
        patience.rest()
        producer.end()
    if producer.failure is not None:
        raise producer.failure


class _Patience:
    """Wait for outcomes, and once the source is closed no longer than the grace."""

    def __init__(self, producer: Producer, grace: float) -> None:
        self._producer = producer
        self._outbox = producer.outbox
        self._tasks = producer.tasks
        self._grace = grace
        self._give_up_at: float | None = None
        self._hurried = False
        self._over = False

    def brings_more(self) -> bool:
        """Wait until there are unread outcomes; False when no more will come."""
        unread = self._outbox.unread
        while not unread:
            if self._over:
                return False
            self._over = self._producer.finished  # then what is unread now is the last
            if not (self._over or unread):
                self._wait()
        return True

    def rest(self) -> list[Outcome]:
        """Wait for all that is still to come, and give it."""
        outbox, rest = self._outbox, []
        while self.brings_more():
            rest.append(outbox.unread.popleft())
            if outbox.awaited and len(outbox.unread) <= outbox.half:
                outbox.resume()
        return rest

    def _wait(self) -> None:
        if self._must_stop():
            self._hurried = self._tasks.hurried
            seconds = 0.0 if self._hurried else min(self._grace, LONGEST_GRACE)
            self._give_up_at = time.monotonic() + seconds
            self._producer.stop(self._give_up_at)
        left = -1.0 if self._give_up_at is None else self._give_up_at - time.monotonic()
        if self._give_up_at is None or left > 0:
            self._outbox.sleep(self._is_stirring, left)
        elif self._producer.give_up():
            self._over = True
            _keep_first_answers(self._outbox.unread)
        else:
            self._outbox.sleep(self._is_stirring)

    def _must_stop(self) -> bool:
        tasks = self._tasks
        return tasks.closed and (self._give_up_at is None or (tasks.hurried and not self._hurried))

    def _is_stirring(self) -> bool:
        return self._producer.finished or self._must_stop()


def _keep_first_answers(unread: deque[Outcome]) -> None:
    """Leave one outcome a task: one may have ended while it was given up."""
    first: dict[int, Outcome] = {}
    while unread:
        outcome = unread.popleft()
        first.setdefault(outcome.index, outcome)
    unread.extend(first.values())
