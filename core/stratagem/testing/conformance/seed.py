"""The strategy by itself, without an engine: ``run_tasks``, its async form, and any source."""

import asyncio
from functools import partial
from typing import Any

import pytest
from attrs import evolve

from stratagem.source import Feed
from stratagem.strategy import ExecutionStrategy, StreamingStrategy
from stratagem.task import Task
from stratagem.testing import tasks

__all__ = ["Seed"]


class Seed:
    """Hold what is promised of a strategy object in a caller's hands."""

    def test_run_tasks_gives_results_in_order(self, stratagem_strategy: ExecutionStrategy) -> None:
        """Callables in, results out, in the order of the input."""
        results = stratagem_strategy.run_tasks([partial(tasks.square, i) for i in range(10)])

        assert results == [i * i for i in range(10)]

    def test_run_tasks_raises_the_first_failure(
        self, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """``run_tasks`` raises the original exception, or gives it with ``return_exceptions``."""
        if not isinstance(stratagem_strategy, StreamingStrategy):
            pytest.skip("a strategy of run_tasks alone raises as it pleases")
        calls = [partial(tasks.fail_at_three, i) for i in range(5)]

        with pytest.raises(KeyError, match="three"):
            stratagem_strategy.run_tasks(calls)
        results = stratagem_strategy.run_tasks(calls, return_exceptions=True)
        assert isinstance(results.pop(3), KeyError)
        assert results == [0, 1, 2, 4]

    def test_run_tasks_async_takes_callables_and_coroutines(
        self, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """``run_tasks_async`` leaves the loop free and gives results in order."""
        if not isinstance(stratagem_strategy, StreamingStrategy):
            pytest.skip("a strategy of run_tasks alone has no async form")
        streaming = stratagem_strategy

        async def caller() -> list[Any]:
            return await streaming.run_tasks_async(
                [partial(tasks.square_async, i) for i in range(5)]
            )

        assert asyncio.run(caller()) == [i * i for i in range(5)]

    def test_streams_from_a_feed_of_its_own(self, stratagem_strategy: ExecutionStrategy) -> None:
        """A strategy reads any source: a feed hands a task out again until it is settled."""
        feed = Feed()
        for number in range(5):
            feed.put(Task(number, str(number), "square", partial(tasks.square, number)))
        attempts: list[tuple[int, int]] = []
        for outcome in stratagem_strategy.stream(feed):
            task = feed.task(outcome)
            attempts.append((task.index, task.attempt))
            if task.attempt == 1:
                feed.put(evolve(task, attempt=2), after=0.01)
            else:
                feed.settle(task)

        assert sorted(attempts) == [(i, attempt) for i in range(5) for attempt in (1, 2)]
