"""A run that is stopped: nothing more begins, what runs gets its grace, and all is settled."""

import itertools
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stratagem.engine import Engine
from stratagem.errors import TaskCancelledError
from stratagem.strategy import ExecutionStrategy
from stratagem.testing import mischief, tasks
from stratagem.testing.conformance.answers import statuses
from stratagem.testing.recorder import EventRecorder
from stratagem.testing.waiting import PATIENCE, is_running, lines, until

__all__ = ["Stopping"]


class Stopping:
    """Hold what is promised of a run that is stopped."""

    def test_closing_settles_everything_announced(
        self,
        stratagem_engine: Engine,
        stratagem_strategy: ExecutionStrategy,
        stratagem_recorder: EventRecorder,
    ) -> None:
        """After a stream is left early, each announced task has its end, and no more are taken."""
        calls = (partial(tasks.square, 2) for _ in itertools.count())
        with stratagem_engine.stream(calls, strategy=stratagem_strategy) as stream:
            for _ in zip(range(3), stream, strict=False):
                pass

        announced = stratagem_recorder.keys
        ended = [e.key for e in stratagem_recorder.events if e.hook == "after_task"]
        assert sorted(ended) == sorted(announced)
        assert stream.report.counts.total() == len(announced)
        assert stream.report.stopped == "closed"
        assert list(stream) == []

    def test_nothing_begins_once_a_stream_is_closed(
        self, stratagem_engine: Engine, stratagem_strategy: ExecutionStrategy, tmp_path: Path
    ) -> None:
        """What ran when ``close`` returned is all that ever ran, and all of it has its outcome."""
        ran = tmp_path / "ran"
        calls = (partial(tasks.square_and_note, ran, number) for number in itertools.count())
        with stratagem_engine.stream(calls, strategy=stratagem_strategy) as stream:
            next(stream)
        when_closed = sorted(lines(ran), key=int)
        stratagem_engine.map(tasks.square, range(20), strategy=stratagem_strategy)

        assert sorted(lines(ran), key=int) == when_closed
        assert [o.key for o in stream.report if o.ok] == when_closed
        assert {o.status for o in stream.report} <= {"ok", "cancelled"}

    @pytest.mark.parametrize(
        "endless",
        [mischief.wait, mischief.wait_async, mischief.swallow_cancel, mischief.block_loop],
    )
    def test_closing_ends_what_never_returns(
        self,
        stratagem_engine: Engine,
        stratagem_strategy: ExecutionStrategy,
        stratagem_gate: Path,
        tmp_path: Path,
        endless: Callable[[Path, Path], Any],
    ) -> None:
        """Stopped or abandoned, it is ``cancelled``; ``close`` returns, and the next run works."""
        if not stratagem_strategy.enforces_timeouts:
            pytest.skip("a running task cannot be ended under this strategy, as it states")
        begun = tmp_path / "begun"
        calls = [partial(endless, begun, stratagem_gate)]
        with stratagem_engine.stream(calls, strategy=stratagem_strategy) as stream:
            consumer = threading.Thread(target=list, args=(stream,))
            consumer.start()
            until(begun.exists)
            began = time.monotonic()
            stream.close()
            seconds = time.monotonic() - began
        consumer.join(PATIENCE)
        process = int(lines(begun)[0])
        is_gone = not is_running(process)
        stratagem_gate.touch()
        after = stratagem_engine.map(tasks.square_async, [3], strategy=stratagem_strategy)

        assert seconds < PATIENCE
        assert not consumer.is_alive()
        assert statuses(stream.report) == ["cancelled"]
        assert isinstance(stream.report[0].error, TaskCancelledError)
        assert is_gone is stratagem_strategy.can_kill
        assert after.values == [9]

    def test_a_coroutine_is_cancelled_when_its_run_is_closed(
        self,
        stratagem_engine: Engine,
        stratagem_strategy: ExecutionStrategy,
        stratagem_gate: Path,
        tmp_path: Path,
    ) -> None:
        """Where memory is shared it runs its ``finally``, as the cancel of asyncio has it."""
        if not (stratagem_strategy.enforces_timeouts and stratagem_strategy.shares_memory):
            pytest.skip("a running task is killed, or cannot be ended, under this strategy")
        begun = tmp_path / "begun"
        calls: list[Callable[[], Any]] = [
            partial(tasks.square, 2),
            partial(mischief.wait_async, begun, stratagem_gate),
        ]
        with stratagem_engine.stream(calls, strategy=stratagem_strategy) as stream:
            next(stream)
            until(begun.exists)

        until(lambda: lines(begun)[1:] == ["over"])
        assert statuses(stream.report) == ["ok", "cancelled"]

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
        most = 4
        calls = (partial(tasks.fail_at_three, 3) for _ in itertools.count())
        report = stratagem_engine.run(calls, strategy=stratagem_strategy, max_errors=most)

        assert report.stopped == "max_errors"
        assert len(report.failures) >= most
