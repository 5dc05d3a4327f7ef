"""A task that crashes its interpreter, where the strategy states that others are safe from it."""

import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from stratagem.engine import Engine
from stratagem.errors import TaskLostError
from stratagem.strategy import ExecutionStrategy
from stratagem.testing import mischief, tasks
from stratagem.testing.conformance.answers import statuses

__all__ = ["CRASHES", "Crashes"]

CRASHES: list[tuple[Callable[[], Any], int]] = [
    (mischief.kill_own_process, -9),
    (mischief.leave_with_success, 0),
    (mischief.leave_with_three, 3),
    (mischief.segfault, -signal.SIGSEGV),
    (mischief.abort, -signal.SIGABRT),
]
"""Tasks that crash, and the exit code of their process: negative for a signal."""


class Crashes:
    """Hold what is promised of a strategy that isolates crashes."""

    @pytest.mark.parametrize(
        ("crash", "exitcode"), CRASHES, ids=lambda part: getattr(part, "__name__", "")
    )
    def test_a_crash_costs_only_the_task_that_crashed(
        self,
        stratagem_engine: Engine,
        stratagem_strategy: ExecutionStrategy,
        crash: Callable[[], None],
        exitcode: int,
    ) -> None:
        """It is ``lost``, and says how its process ended; all others succeed, so does a next run.

        Where tasks may run on other machines, how the process ended may stay unknown.
        """
        if not stratagem_strategy.isolates_crashes:
            pytest.skip("a crash ends the run under this strategy, as it states")
        calls: list[Callable[[], Any]] = [partial(tasks.square, i) for i in range(19)]
        calls.insert(7, crash)
        report = stratagem_engine.run(calls, strategy=stratagem_strategy)
        after = stratagem_engine.map(tasks.square, range(5), strategy=stratagem_strategy)

        assert statuses(report) == ["ok"] * 7 + ["lost"] + ["ok"] * 12
        assert [o.value for o in report if o.ok] == [i * i for i in range(19)]
        assert isinstance(report[7].error, TaskLostError)
        if not stratagem_strategy.distributed:
            assert report[7].error.exitcode == exitcode
        assert after.values == [i * i for i in range(5)]
