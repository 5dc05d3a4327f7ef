"""How the one consumer of a stream reads it: to its end, or until the grace of a stop is over."""

import time
from collections.abc import Iterator
from typing import Protocol

from stratagem.outbox import Outbox
from stratagem.source import TaskSource
from stratagem.task import Outcome

__all__ = ["Producer", "outcomes_of"]

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


def outcomes_of(producer: Producer, grace: float) -> Iterator[Outcome]:
    """Yield outcomes until every task has one, or the source is closed and the grace is over.

    A ``KeyboardInterrupt`` that strikes the wait takes with it, as ``outcomes``, what had ended.

    Args:
        producer: the stream.
        grace: seconds that running tasks get once the source is closed; none once it is hurried.
    """
    try:
        producer.begin()
        yield from _read(producer, grace)
    except KeyboardInterrupt as interrupt:  # who interrupts the wait will not wait for more
        producer.tasks.hurry()
        interrupt.outcomes = list(_read(producer, 0.0))  # type: ignore[attr-defined]
        raise
    finally:
        producer.tasks.close()
        for _ in _read(producer, grace):
            pass
        producer.end()
    if producer.failure is not None:
        raise producer.failure


def _read(producer: Producer, grace: float) -> Iterator[Outcome]:
    outbox, unread, tasks = producer.outbox, producer.outbox.unread, producer.tasks
    give_up_at: float | None = None
    hurried = False

    def must_stop() -> bool:
        return tasks.closed and (give_up_at is None or (tasks.hurried and not hurried))

    def is_stirring() -> bool:
        return producer.finished or must_stop()

    while True:
        finished = producer.finished
        while unread:
            outcome = unread.popleft()
            if outbox.awaited and len(unread) <= outbox.half:
                outbox.resume()
            yield outcome
        if finished:
            return
        if must_stop():
            hurried = tasks.hurried
            give_up_at = time.monotonic() + (0.0 if hurried else min(grace, LONGEST_GRACE))
            producer.stop(give_up_at)
        left = -1.0 if give_up_at is None else give_up_at - time.monotonic()
        if give_up_at is None or left > 0:
            outbox.sleep(is_stirring, left)
        elif producer.give_up():
            yield from _first_answers(outbox)
            return
        else:
            outbox.sleep(is_stirring)


def _first_answers(outbox: Outbox) -> Iterator[Outcome]:
    """Yield what is unread, but one outcome a task: one may have ended while it was given up."""
    answered: set[int] = set()
    while outbox.unread:
        outcome = outbox.unread.popleft()
        if outcome.index not in answered:
            answered.add(outcome.index)
            yield outcome
