"""Whoever calls: a loop that runs, a thread, two runs at once, one run that feeds another."""

import asyncio
import itertools
import threading
from functools import partial
from typing import Any

from stratagem.engine import Engine
from stratagem.strategy import ExecutionStrategy
from stratagem.testing import tasks
from stratagem.testing.waiting import PATIENCE, POLL

__all__ = ["Callers"]


class Callers:
    """Hold what is promised to callers of every kind."""

    def test_works_inside_a_running_loop(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """The sync form works where a loop runs already, as in a notebook."""

        async def notebook() -> list[Any]:
            return stratagem_engine.map(
                tasks.square_async, range(6), strategy=stratagem_strategy
            ).values

        assert asyncio.run(notebook()) == [i * i for i in range(6)]

    def test_works_for_a_caller_with_a_loop(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """``arun`` and ``astream`` leave the caller's loop free and give the same outcomes."""
        calls = [partial(tasks.square_async, i) for i in range(6)]

        async def caller() -> tuple[list[Any], list[Any], int]:
            ticks = 0

            async def tick() -> None:
                nonlocal ticks
                while True:
                    ticks += 1
                    await asyncio.sleep(0)

            ticking = asyncio.create_task(tick())
            report = await stratagem_engine.arun(calls, strategy=stratagem_strategy)
            async with stratagem_engine.astream(calls, strategy=stratagem_strategy) as stream:
                streamed = [outcome.value async for outcome in stream]
            ticking.cancel()
            return report.values, sorted(streamed), ticks

        values, streamed, ticks = asyncio.run(caller())
        assert (values, streamed) == ([i * i for i in range(6)],) * 2
        assert ticks > 1

    def test_leaves_no_task_on_the_callers_loop(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """After ``arun``, and after an ``astream`` left early, the loop holds what it held."""
        calls = [partial(tasks.square_async, i) for i in range(100)]

        async def caller() -> set[Any]:
            before = asyncio.all_tasks()
            await stratagem_engine.arun(calls, strategy=stratagem_strategy)
            async with stratagem_engine.astream(calls, strategy=stratagem_strategy) as stream:
                await anext(aiter(stream))
            for _ in range(int(PATIENCE / POLL)):
                if asyncio.all_tasks() == before:
                    break
                await asyncio.sleep(POLL)
            return asyncio.all_tasks() - before

        assert asyncio.run(caller()) == set()

    def test_works_from_a_thread(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """A run may be started off the main thread."""
        values: list[Any] = []

        def work() -> None:
            report = stratagem_engine.map(tasks.square, range(6), strategy=stratagem_strategy)
            values.extend(report.values)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(PATIENCE)

        assert values == [i * i for i in range(6)]

    def test_serves_two_streams_at_once(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """Two streams of one strategy object, read in turn, both come to their end."""
        numbers = range(30)
        one = stratagem_engine.stream_map(tasks.square, numbers, strategy=stratagem_strategy)
        two = stratagem_engine.stream_map(tasks.square, numbers, strategy=stratagem_strategy)
        pairs = list(itertools.zip_longest(one, two))

        assert sorted(o.value for o, _ in pairs) == [i * i for i in numbers]
        assert sorted(o.value for _, o in pairs) == [i * i for i in numbers]

    def test_one_stream_feeds_the_next(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """The outcomes of one stage are the input of the next, on one strategy object."""
        first = stratagem_engine.stream_map(tasks.square, range(30), strategy=stratagem_strategy)
        second = stratagem_engine.map(
            tasks.square, (outcome.value for outcome in first), strategy=stratagem_strategy
        )

        assert sorted(second.values) == [i**4 for i in range(30)]
