"""Each task has one outcome, whatever it does, and each outcome its events."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from stratagem.engine import Engine
from stratagem.strategy import ExecutionStrategy
from stratagem.task import Status
from stratagem.testing import failures, mischief, tasks
from stratagem.testing.conformance.answers import answers, statuses, type_name
from stratagem.testing.recorder import Event, EventRecorder

__all__ = ["Outcomes"]

RAISING: list[tuple[Callable[[], Any], str]] = [
    (failures.raise_two_arguments, "TwoArgumentsError"),
    (failures.raise_silent, "SilentError"),
    (failures.raise_chained, "ValueError"),
    (failures.raise_group, "ExceptionGroup"),
    (failures.exit_interpreter, "SystemExit"),
    (failures.exit_interpreter_async, "SystemExit"),
    (failures.raise_keyboard_interrupt, "KeyboardInterrupt"),
    (failures.raise_keyboard_interrupt_async, "KeyboardInterrupt"),
    (failures.raise_stop_iteration, "StopIteration"),
    (failures.raise_stop_iteration_async, "RuntimeError"),
    (failures.raise_generator_exit, "GeneratorExit"),
    (failures.raise_generator_exit_async, "GeneratorExit"),
    (failures.raise_cancelled, "CancelledError"),
    (failures.raise_cancelled_async, "CancelledError"),
    (failures.recurse_for_ever, "RecursionError"),
]


class Outcomes:
    """Hold what is promised of outcomes and events."""

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

        assert statuses(report) == ["ok", "ok", "error", "ok", "ok", "ok", "ok"]
        assert type_name(report[2]) == named

    def test_an_exception_keeps_cause_and_notes(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """The chain and the notes of an exception come back with it."""
        report = stratagem_engine.run([failures.raise_chained], strategy=stratagem_strategy)

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

        assert (report[1].status, report[1].value) == ("ok", 4)
        if stratagem_strategy.shares_memory:
            assert report[0].ok
        else:
            assert report[0].ok or type_name(report[0]) == "TransportError"

    def test_answers_for_each_task_exactly_once(
        self, stratagem_strategy: ExecutionStrategy
    ) -> None:
        """Without an engine to mend it, no answer is missing, and none comes twice or astray."""
        calls: list[Callable[[], Any]] = [call for call, _ in RAISING]
        calls += [tasks.return_lock, partial(tasks.square_async, 2), partial(tasks.square, 3)]
        if stratagem_strategy.isolates_crashes:
            calls.insert(4, mischief.kill_own_process)
        outcomes = answers(stratagem_strategy, calls)

        assert [outcome.index for outcome in outcomes] == list(range(len(calls)))
        assert [outcome.value for outcome in outcomes[-2:]] == [4, 9]
        assert {outcome.status for outcome in outcomes} <= {"ok", "error", "lost"}

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
        assert len(stratagem_recorder.events) == sum([2, 2 * 6, 1])
        assert stratagem_recorder.overlaps == 0
