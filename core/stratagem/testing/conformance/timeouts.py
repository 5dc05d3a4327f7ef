"""A task that never returns: it ends at its deadline, or the engine refuses to promise that."""

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stratagem.engine import Engine
from stratagem.errors import CapabilityError, TaskTimeoutError
from stratagem.strategy import ExecutionStrategy
from stratagem.testing import mischief, tasks
from stratagem.testing.conformance.answers import answers, fed, read, statuses
from stratagem.testing.waiting import PATIENCE, is_running, lines, until

__all__ = ["Timeouts"]

SOON = 0.2
"""Seconds for a task that never returns, where no other task is bound by them."""

ENOUGH = 2.0
"""Seconds in which a task has surely done what it does at once, also on a busy machine."""


def _require_timeouts(strategy: ExecutionStrategy) -> None:
    if not strategy.enforces_timeouts:
        pytest.skip("no task can be ended under this strategy, as it states")


class Timeouts:
    """Hold what is promised of a strategy that enforces timeouts, and of one that does not."""

    def test_a_timeout_is_kept_or_refused(
        self,
        stratagem_engine: Engine,
        stratagem_strategy: ExecutionStrategy,
        stratagem_gate: Path,
        tmp_path: Path,
    ) -> None:
        """A task past its timeout ends as ``timeout`` then; who cannot do it refuses clearly."""
        calls: list[Callable[[], Any]] = [partial(tasks.square, i) for i in range(3)]
        calls.insert(1, partial(mischief.wait, tmp_path / "begun", stratagem_gate))
        if not stratagem_strategy.enforces_timeouts:
            with pytest.raises(CapabilityError, match=r"use one that can: .*threads"):
                stratagem_engine.run(calls, strategy=stratagem_strategy, timeout=ENOUGH)
            assert not lines(tmp_path / "begun")
            return
        report = stratagem_engine.run(calls, strategy=stratagem_strategy, timeout=ENOUGH)

        assert statuses(report) == ["ok", "timeout", "ok", "ok"]
        assert isinstance(report[1].error, TaskTimeoutError)
        assert (report[1].error.key, report[1].error.timeout) == ("1", ENOUGH)
        assert ENOUGH <= report[1].seconds < PATIENCE

    @pytest.mark.parametrize(
        "endless", [mischief.wait, mischief.wait_async, mischief.swallow_cancel]
    )
    def test_a_task_that_never_returns_costs_only_itself(
        self,
        stratagem_engine: Engine,
        stratagem_strategy: ExecutionStrategy,
        stratagem_gate: Path,
        tmp_path: Path,
        endless: Callable[[Path, Path], Any],
    ) -> None:
        """All others succeed, so does a next run; a thread that is left running is admitted."""
        _require_timeouts(stratagem_strategy)
        calls: list[Callable[[], Any]] = [partial(tasks.square, i) for i in range(9)]
        calls.insert(4, partial(endless, tmp_path / "begun", stratagem_gate))
        began = time.monotonic()
        outcomes = answers(stratagem_strategy, calls, timeouts={4: SOON})
        seconds = time.monotonic() - began
        after = stratagem_engine.map(tasks.square, range(5), strategy=stratagem_strategy)

        assert statuses(outcomes) == ["ok"] * 4 + ["timeout"] + ["ok"] * 5
        assert seconds < PATIENCE
        assert after.values == [i * i for i in range(5)]
        error = outcomes[4].error
        assert isinstance(error, TaskTimeoutError)
        if stratagem_strategy.can_kill:
            assert not error.abandoned
        elif stratagem_strategy.shares_memory:
            assert error.abandoned is (endless is not mischief.wait_async)

    def test_a_deadline_is_kept_while_the_consumer_is_busy(
        self, stratagem_strategy: ExecutionStrategy, stratagem_gate: Path, tmp_path: Path
    ) -> None:
        """With nobody reading, a task is ended at its deadline: killed, or else cancelled."""
        _require_timeouts(stratagem_strategy)
        if not (stratagem_strategy.can_kill or stratagem_strategy.shares_memory):
            pytest.skip("the end of a task cannot be seen from here under this strategy")
        begun = tmp_path / "begun"

        def has_ended() -> bool:
            noted = lines(begun)
            return "over" in noted or (bool(noted) and not is_running(int(noted[0])))

        calls: list[Callable[[], Any]] = [
            partial(tasks.square, 2),
            partial(mischief.wait_async, begun, stratagem_gate),
        ]
        feed = fed(calls, timeouts={1: SOON})
        stream = read(stratagem_strategy.stream(feed), feed)
        first = next(stream)
        until(has_ended)  # the consumer is here, and not reading
        rest = list(stream)

        assert statuses([first, *rest]) == ["ok", "timeout"]

    @pytest.mark.parametrize("own_session", [False, True])
    def test_the_processes_of_a_task_are_killed_with_it(
        self,
        stratagem_strategy: ExecutionStrategy,
        stratagem_gate: Path,
        tmp_path: Path,
        own_session: bool,  # noqa: FBT001 - pytest hands it over by name
    ) -> None:
        """Where tasks can be killed, one past its deadline is gone, and so is what it started."""
        _require_timeouts(stratagem_strategy)
        if not stratagem_strategy.can_kill:
            pytest.skip("a running task cannot be killed under this strategy, as it states")
        begun = tmp_path / "begun"
        start = partial(mischief.start_child_and_wait, own_session=own_session)
        calls = [partial(start, begun, stratagem_gate)]
        outcomes = answers(stratagem_strategy, calls, timeouts={0: ENOUGH})
        pids = [int(pid) for line in lines(begun) for pid in line.split()]

        assert statuses(outcomes) == ["timeout"]
        assert pids
        try:
            until(lambda: not any(map(is_running, pids)))
        finally:
            for pid in filter(is_running, pids):
                os.kill(pid, signal.SIGKILL)
