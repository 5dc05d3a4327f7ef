"""Take lazily, and hold back when outcomes are not consumed."""

import itertools
import threading
from collections.abc import Callable, Iterator
from functools import partial

from stratagem.engine import Engine
from stratagem.strategy import ExecutionStrategy
from stratagem.testing import tasks
from stratagem.testing.waiting import PATIENCE

__all__ = ["Laziness"]

MOST_AHEAD = 1_000
"""How many tasks may be in flight and unread; a strategy of your own should stay far below."""

WHILE = 0.3
"""Seconds in which a strategy that does not hold back would show it."""


class _Counted:
    """Be an input that counts what is taken of it, and raises an alarm at the bound."""

    def __init__(self, size: int | None = None) -> None:
        self.too_many = threading.Event()
        self.first_ones = threading.Event()
        self._numbers = itertools.count() if size is None else range(size)

    def __iter__(self) -> Iterator[Callable[[], int]]:
        for number in self._numbers:
            if number >= MOST_AHEAD:
                self.too_many.set()
            yield partial(tasks.square, number)


class Laziness:
    """Hold what is promised of back-pressure."""

    def test_takes_lazily_from_an_endless_input(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """Of an endless input a bounded bit more is taken than outcomes are consumed."""
        endless = _Counted()
        with stratagem_engine.stream(endless, strategy=stratagem_strategy) as stream:
            first = [next(stream) for _ in range(5)]
            ran_away = endless.too_many.wait(WHILE)

        assert all(outcome.ok for outcome in first)
        assert not ran_away

    def test_goes_on_when_the_consumer_does(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """What was held back while nobody read comes when somebody does, all of it and once."""
        counted = _Counted(2 * MOST_AHEAD)
        with stratagem_engine.stream(counted, strategy=stratagem_strategy) as stream:
            outcomes = [next(stream)]
            held_back = not counted.too_many.wait(WHILE)
            outcomes += stream

        assert held_back
        assert counted.too_many.wait(PATIENCE)
        assert sorted(outcome.value for outcome in outcomes) == [
            number * number for number in range(2 * MOST_AHEAD)
        ]
