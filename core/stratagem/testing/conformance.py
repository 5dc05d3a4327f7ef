"""The conformance suite: what every strategy must do, whoever wrote it.

Derive a test class from ``StrategyConformance`` and give the fixture ``stratagem_spec``.
Where the strategy states that it cannot do a thing, the suite checks that the engine refuses it.
"""

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from stratagem.engine import Engine
from stratagem.errors import CapabilityError
from stratagem.source import Feed
from stratagem.strategy import ExecutionStrategy, StreamingStrategy
from stratagem.task import Outcome, Status, Task
from stratagem.testing import tasks
from stratagem.testing.recorder import Event, EventRecorder

__all__ = ["StrategyConformance"]

PATIENCE = 20.0

RAISING: list[tuple[Callable[[], Any], str]] = [
    (tasks.raise_two_arguments, "TwoArgumentsError"),
    (tasks.raise_silent, "SilentError"),
    (tasks.raise_chained, "ValueError"),
    (tasks.raise_group, "ExceptionGroup"),
    (tasks.exit_interpreter, "SystemExit"),
    (tasks.exit_interpreter_async, "SystemExit"),
    (tasks.raise_keyboard_interrupt, "KeyboardInterrupt"),
    (tasks.raise_stop_iteration, "StopIteration"),
    (tasks.raise_generator_exit, "GeneratorExit"),
    (tasks.raise_cancelled, "CancelledError"),
    (tasks.raise_cancelled_async, "CancelledError"),
]


def type_name(outcome: Outcome) -> str:
    """Name the type of an error, also of one that came as a description."""
    named: str = getattr(outcome.error, "type_name", type(outcome.error).__name__)
    return named.rpartition(".")[2]


def shown(outcomes: "Iterator[Outcome] | list[Outcome] | Any") -> list[tuple[Any, ...]]:
    """Give of each outcome what must be equal under every strategy."""
    return [
        (o.index, o.key, o.name, o.status.value, o.value, type_name(o) if o.error else None)
        for o in outcomes
    ]


class StrategyConformance:
    """Hold the tests; a strategy conforms when all of them pass."""

    def test_gives_one_outcome_a_task_in_input_order(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """A report holds one outcome for each task, in the order of the input."""
        report = stratagem_engine.map(tasks.square, range(50), strategy=stratagem_strategy)

        assert [(o.index, o.key, o.value) for o in report] == [
            (i, str(i), i * i) for i in range(50)
        ]
        assert not report.partial

    @pytest.mark.parametrize("function", [tasks.square_async, tasks.square_either_way])
    def test_runs_callables_that_return_awaitables(
        self,
        stratagem_engine: Engine,
        stratagem_strategy: ExecutionStrategy,
        function: Callable[[int], Any],
    ) -> None:
        """Async callables, and sync ones that return an awaitable, give what is awaited."""
        report = stratagem_engine.map(function, range(12), strategy=stratagem_strategy)

        assert report.values == [i * i for i in range(12)]

    @pytest.mark.parametrize("function", [tasks.fail_at_three, tasks.fail_at_three_async])
    def test_a_failure_costs_only_its_own_task(
        self,
        stratagem_engine: Engine,
        stratagem_strategy: ExecutionStrategy,
        function: Callable[[int], Any],
    ) -> None:
        """The exception comes back as it was raised, and every other task succeeds."""
        report = stratagem_engine.map(function, range(8), strategy=stratagem_strategy)

        assert [o.index for o in report.failures] == [3]
        assert isinstance(report[3].error, KeyError)
        assert report[3].error.args == ("three",)
        assert report.counts == {Status.OK: 7, Status.ERROR: 1}

    def test_events_of_each_task_come_in_order(
        self,
        stratagem_engine: Engine,
        stratagem_strategy: ExecutionStrategy,
        stratagem_recorder: EventRecorder,
    ) -> None:
        """Each task is announced, reported if it failed, and ended, once each, no two at once."""
        stratagem_engine.map(tasks.fail_at_three, range(6), strategy=stratagem_strategy)

        for key in map(str, range(6)):
            status = "error" if key == "3" else "ok"
            failed = [Event("task_error", key, status)] if key == "3" else []
            expected = [Event("before_task", key), *failed, Event("after_task", key, status)]
            assert stratagem_recorder.of_task(key) == expected
        assert stratagem_recorder.events[0] == Event("before_run")
        assert stratagem_recorder.events[-1] == Event("after_run")
        assert len(stratagem_recorder.events) == 2 + 2 * 6 + 1
        assert stratagem_recorder.overlaps == 0

    @pytest.mark.parametrize(
        ("call", "named"), RAISING, ids=lambda part: getattr(part, "__name__", "")
    )
    def test_whatever_a_task_raises_is_its_outcome(
        self,
        stratagem_engine: Engine,
        stratagem_strategy: ExecutionStrategy,
        call: Callable[[], Any],
        named: str,
    ) -> None:
        """Nothing that a task raises ends the run, the program, or another task."""
        calls: list[Callable[[], Any]] = [partial(tasks.square, i) for i in range(6)]
        calls.insert(2, call)
        report = stratagem_engine.run(calls, strategy=stratagem_strategy)

        assert [o.status.value for o in report] == ["ok", "ok", "error", "ok", "ok", "ok", "ok"]
        assert type_name(report[2]) == named

    def test_an_exception_keeps_cause_and_notes(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """The chain and the notes of an exception come back with it."""
        report = stratagem_engine.run([tasks.raise_chained], strategy=stratagem_strategy)

        error = report[0].error
        assert isinstance(error, ValueError)
        assert isinstance(error.__cause__, KeyError)
        assert error.__notes__[0] == "a note"

    def test_a_value_of_any_kind_costs_only_its_own_task(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """A value that cannot travel is an error of its task where it must travel, else a value."""
        calls: list[Callable[[], Any]] = [tasks.return_lock, partial(tasks.square, 2)]
        report = stratagem_engine.run(calls, strategy=stratagem_strategy)

        assert report[1].value == 4
        if stratagem_strategy.shares_memory:
            assert report[0].ok
        else:
            assert report[0].ok or type_name(report[0]) == "TransportError"

    def test_runs_tasks_in_the_callers_context(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """A task sees the context variables of the caller where memory is shared."""
        if not stratagem_strategy.shares_memory:
            pytest.skip("a context does not cross a process border")
        token = tasks.VARIABLE.set("the caller's")
        try:
            report = stratagem_engine.map(
                tasks.set_variable, ["a", "b", "c"] * 5, strategy=stratagem_strategy
            )
        finally:
            tasks.VARIABLE.reset(token)

        assert [before for before, _ in report.values] == ["the caller's"] * 15

    @pytest.mark.parametrize("function", [tasks.set_variable, tasks.set_variable_async])
    def test_no_context_variable_leaks_into_the_next_task(
        self,
        stratagem_engine: Engine,
        stratagem_strategy: ExecutionStrategy,
        function: Callable[[str], Any],
    ) -> None:
        """What a task sets in its context is gone with it."""
        report = stratagem_engine.map(function, map(str, range(40)), strategy=stratagem_strategy)

        assert report.values == [("unset", str(i)) for i in range(40)]
        assert tasks.VARIABLE.get() == "unset"

    @pytest.mark.parametrize("function", [tasks.own_key, tasks.own_key_async])
    def test_a_task_knows_its_run_and_key(
        self,
        stratagem_engine: Engine,
        stratagem_strategy: ExecutionStrategy,
        function: Callable[[object], Any],
    ) -> None:
        """``current_task`` gives run id and key, wherever the task runs."""
        report = stratagem_engine.map(
            function, ["a", "b", "c"], key=str, strategy=stratagem_strategy
        )

        assert report.values == [(report.run_id, key) for key in "abc"]

    def test_takes_lazily_from_an_endless_input(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """An endless input is pulled as far as outcomes are consumed, and a bounded bit more."""
        pulled = itertools.count()
        seen = [0]

        def endless() -> Iterator[Callable[[], int]]:
            for number in pulled:
                seen[0] = number
                yield partial(tasks.square, number)

        with stratagem_engine.stream(endless(), strategy=stratagem_strategy) as stream:
            first = [next(stream) for _ in range(5)]
            time.sleep(0.3)  # time to run away in
            pulled_by_then = seen[0]

        assert all(outcome.ok for outcome in first)
        assert pulled_by_then < 1_000

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

    def test_closing_settles_everything_announced(
        self,
        stratagem_engine: Engine,
        stratagem_strategy: ExecutionStrategy,
        stratagem_recorder: EventRecorder,
    ) -> None:
        """After a stream is left early, each announced task has its end, and no more are taken."""
        calls = (partial(tasks.sleep, 0.01) for _ in itertools.count())
        with stratagem_engine.stream(calls, strategy=stratagem_strategy) as stream:
            for _ in zip(range(3), stream, strict=False):
                pass

        announced = stratagem_recorder.keys
        ended = [e.key for e in stratagem_recorder.events if e.hook == "after_task"]
        assert sorted(ended) == sorted(announced)
        assert stream.report.counts.total() == len(announced)
        assert stream.report.stopped == "closed"
        assert list(stream) == []

    def test_a_strategy_serves_batch_after_batch(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """A strategy runs the next batch, also after failures and after a stream left early."""
        with stratagem_engine.stream(
            [partial(tasks.square, i) for i in range(100)], strategy=stratagem_strategy
        ) as stream:
            next(stream)
        stratagem_engine.map(tasks.fail_at_three, [3, 3, 3], strategy=stratagem_strategy)
        report = stratagem_engine.map(tasks.square, range(20), strategy=stratagem_strategy)

        assert report.values == [i * i for i in range(20)]

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

    @pytest.mark.parametrize("function", [tasks.count_leaves, tasks.count_leaves_async])
    def test_runs_nested_in_itself(
        self,
        stratagem_engine: Engine,
        stratagem_strategy: ExecutionStrategy,
        function: Callable[[int], Any],
    ) -> None:
        """Tasks run children by the strategy that runs them, to a depth beyond its workers."""
        report = stratagem_engine.map(function, [3, 4, 3], strategy=stratagem_strategy)

        assert report.values == [8, 16, 8]

    def test_a_failed_child_raises_in_its_parent(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """A parent gets the exception of its child, as it was raised."""
        report = stratagem_engine.run([tasks.child_fails] * 2, strategy=stratagem_strategy)

        assert report.values == ["KeyError", "KeyError"]

    def test_the_first_failure_can_be_raised(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """With ``on_error="raise"`` the run stops at a failure and raises it, report and all."""
        calls = itertools.chain(
            [partial(tasks.fail_at_three, 3)], (partial(tasks.square, i) for i in itertools.count())
        )
        with pytest.raises(KeyError, match="three") as caught:
            stratagem_engine.run(calls, strategy=stratagem_strategy, on_error="raise")

        assert caught.value.report.stopped == "on_error"  # type: ignore[attr-defined]
        assert caught.value.report[0].status == "error"  # type: ignore[attr-defined]

    def test_a_run_stops_after_so_many_errors(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """``max_errors`` ends an endless run with a partial report that says so."""
        calls = (partial(tasks.fail_at_three, 3) for _ in itertools.count())
        report = stratagem_engine.run(calls, strategy=stratagem_strategy, max_errors=4)

        assert report.stopped == "max_errors"
        assert report.counts[Status.ERROR] >= 4

    def test_run_tasks_gives_results_in_order(self, stratagem_strategy: ExecutionStrategy) -> None:
        """The seed's own contract: callables in, results out, in the order of the input."""
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
                again = Task(task.index, task.key, task.name, task.call, attempt=2)
                feed.put(again, after=0.01)
            else:
                feed.settle(task)

        assert sorted(attempts) == [(i, attempt) for i in range(5) for attempt in (1, 2)]

    @pytest.mark.parametrize("function", [tasks.sleep, tasks.sleep_async])
    def test_a_timeout_is_kept_or_refused(
        self,
        stratagem_engine: Engine,
        stratagem_strategy: ExecutionStrategy,
        function: Callable[[float], Any],
    ) -> None:
        """A task past its timeout ends as ``timeout`` then; who cannot do it refuses clearly."""
        durations = [0.0, 60.0, 0.0, 0.0]
        if not stratagem_strategy.enforces_timeouts:
            with pytest.raises(CapabilityError, match=r"use one that can: .*threads"):
                stratagem_engine.map(function, durations, strategy=stratagem_strategy, timeout=1)
            return
        began = time.monotonic()
        report = stratagem_engine.map(function, durations, strategy=stratagem_strategy, timeout=1)

        assert [o.status.value for o in report] == ["ok", "timeout", "ok", "ok"]
        assert isinstance(report[1].error, TimeoutError)
        assert 1 <= report[1].seconds < PATIENCE
        assert time.monotonic() - began < PATIENCE

    @pytest.mark.parametrize("crash", [tasks.kill_own_process, tasks.leave_with_success])
    def test_a_crash_costs_only_the_task_that_crashed(
        self,
        stratagem_engine: Engine,
        stratagem_strategy: ExecutionStrategy,
        crash: Callable[[], None],
    ) -> None:
        """A task that ends its interpreter is ``lost``; all others succeed, so does a next run."""
        if not stratagem_strategy.isolates_crashes:
            pytest.skip("a crash ends the run under this strategy, as it states")
        calls: list[Callable[[], Any]] = [partial(tasks.square, i) for i in range(20)]
        calls.insert(7, crash)
        report = stratagem_engine.run(calls, strategy=stratagem_strategy)

        assert [o.index for o in report.failures] == [7]
        assert report[7].status == "lost"
        assert stratagem_engine.map(tasks.square, range(5), strategy=stratagem_strategy).ok

    def test_leaves_no_thread_behind(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """When a strategy is closed, the threads that it started are gone."""
        before = set(threading.enumerate())
        stratagem_engine.map(tasks.square_async, range(20), strategy=stratagem_strategy)
        stratagem_engine.map(tasks.square, range(20), strategy=stratagem_strategy)
        stratagem_strategy.close()

        deadline = time.monotonic() + PATIENCE
        while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline:
            for thread in left:
                thread.join(0.1)
        assert not left
