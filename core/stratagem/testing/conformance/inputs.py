"""Input of any kind: it may block, raise, be async, or be empty."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial

import pytest

from stratagem.engine import Engine
from stratagem.strategy import ExecutionStrategy
from stratagem.testing import tasks
from stratagem.testing.waiting import PATIENCE

__all__ = ["Inputs"]


class Inputs:
    """Hold what is promised of the input."""

    def test_outcomes_flow_while_the_input_blocks(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """What has ended comes out though the next input has not come yet."""
        go_on = threading.Event()

        def blocking() -> Iterator[Callable[[], int]]:
            yield partial(tasks.square, 2)
            yield partial(tasks.square, 3)
            assert go_on.wait(PATIENCE)
            yield partial(tasks.square, 4)

        with stratagem_engine.stream(blocking(), strategy=stratagem_strategy) as stream:
            before = {next(stream).value, next(stream).value}
            go_on.set()
            after = [outcome.value for outcome in stream]

        assert (before, after) == ({4, 9}, [16])

    def test_an_input_that_raises_ends_the_run_after_what_was_taken(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """The error of the input is raised, and carries the outcomes of all tasks before it."""

        def breaking() -> Iterator[Callable[[], int]]:
            for number in range(5):
                yield partial(tasks.square, number)
            raise OSError("no more")

        with pytest.raises(OSError, match="no more") as caught:
            stratagem_engine.run(breaking(), strategy=stratagem_strategy)

        report = caught.value.report  # type: ignore[attr-defined]
        assert [o.value for o in report] == [0, 1, 4, 9, 16]
        assert report.stopped == "input_failed"

    def test_takes_an_async_input(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """An async generator is an input like any other."""

        async def inputs() -> AsyncIterator[Callable[[], int]]:
            for number in range(10):
                await asyncio.sleep(0)
                yield partial(tasks.square, number)

        report = stratagem_engine.run(inputs(), strategy=stratagem_strategy)

        assert report.values == [i * i for i in range(10)]

    def test_an_empty_input_is_a_success(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """No tasks give an empty report."""
        report = stratagem_engine.run([], strategy=stratagem_strategy)

        assert (list(report), report.partial) == ([], False)
