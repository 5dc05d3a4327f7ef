"""An executor of the standard library that runs what is submitted under a strategy."""

import asyncio
import contextvars
import gc
import itertools
import os
import sys
import threading
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Future,
    as_completed,
    wait,
)

import pytest

import stratagem
from stratagem import StrategyExecutor, StreamingStrategy, TaskLostError, current_task, nested
from stratagem.testing import leftovers, mischief, take_stock, tasks
from stratagem.testing.waiting import PATIENCE, until
from stratagem_builtin import ThreadPoolStrategy

SPECS = [
    "sequential",
    "threads(max_workers=2)",
    "asyncio(max_concurrency=2)",
    "processes(max_workers=2)",
    "retry(threads(max_workers=2), attempts=2, wait_initial=0.01, wait_jitter=0)",
]
VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


class Breaking(StreamingStrategy):
    """Take one task, and fail."""

    shares_memory = True

    def stream(self, tasks):
        tasks.take()
        raise OSError("the cluster is gone")
        yield


class Gate:
    """Block calls until it is opened, and count those that have come."""

    def __init__(self):
        self.come = 0
        self.opened = threading.Event()

    def __call__(self):
        self.come += 1
        assert self.opened.wait(PATIENCE)
        return "let through"


@pytest.fixture
def gate():
    made = Gate()
    yield made
    made.opened.set()


@pytest.mark.parametrize("spec", SPECS)
def test_calls_run_under_any_strategy(spec):
    """What is submitted comes back by future, in order by ``map``, errors as they were raised."""
    with StrategyExecutor(spec) as executor:
        futures = [executor.submit(tasks.square, number) for number in range(20)]
        failing = executor.submit(tasks.fail_at_three, 3)
        awaited = executor.submit(tasks.square_async, 5)

        assert sorted(future.result() for future in as_completed(futures)) == [
            number * number for number in range(20)
        ]
        assert list(executor.map(pow, [2, 3], [5, 2], chunksize=2)) == [32, 9]
        assert failing.exception().args == ("three",)
        assert awaited.result() == 25
        assert all(type(future) is Future for future in futures)


@pytest.mark.parametrize("spec", SPECS)
def test_what_a_spec_made_is_gone_after_shutdown(spec):
    """Neither threads nor processes nor descriptors are left of an executor that was shut down."""
    with StrategyExecutor(spec) as executor:
        executor.submit(tasks.square, 3).result()
    before = take_stock()
    with StrategyExecutor(spec) as executor:
        wait([executor.submit(tasks.square, number) for number in range(20)])

    assert leftovers(before) == []


def test_a_strategy_object_stays_open():
    """The strategy that was given serves others when the executor is shut down."""
    with ThreadPoolStrategy(1) as strategy:
        with StrategyExecutor(strategy) as executor:
            thread = executor.submit(threading.current_thread).result()
        until(lambda: strategy.crew._idle)

        assert executor.strategy is strategy
        assert thread.is_alive()
        assert strategy.run_tasks([lambda: 7]) == [7]


def test_a_strategy_made_from_a_spec_is_closed_also_without_a_call(monkeypatch):
    """An executor that was never used closes its strategy too, and closes it once."""
    closed = []
    monkeypatch.setattr(ThreadPoolStrategy, "close", lambda strategy: closed.append(strategy))
    executor = StrategyExecutor("threads")
    executor.shutdown()
    executor.shutdown(wait=False)

    assert closed == [executor.strategy]


def test_a_future_is_pending_until_its_call_begins(gate):
    """A call that waits for room is not running, can be cancelled, and then never runs."""
    ran = []
    with StrategyExecutor("threads(max_workers=1)") as executor:
        first = executor.submit(gate)
        until(first.running)
        second, third = executor.submit(ran.append, 2), executor.submit(ran.append, 3)
        states = [future.running() for future in (first, second, third)]
        cancelled = [future.cancel() for future in (first, second)]
        gate.opened.set()
        done = wait([first, second, third]).done

    assert states == [True, False, False]
    assert cancelled == [False, True]
    assert len(done) == 3
    assert ran == [3]


def test_a_call_taken_ahead_and_cancelled_never_runs(gate):
    """Where a strategy takes tasks before it begins them, a cancel in between still counts."""

    class AheadStrategy(StreamingStrategy):
        shares_memory = True

        def stream(self, tasks):
            taken = [tasks.take(), tasks.take()]
            for task in taken:
                yield stratagem.invoke(task)
            yield from map(stratagem.invoke, tasks)

    ran = []
    with StrategyExecutor(AheadStrategy()) as executor:
        first, second = executor.submit(gate), executor.submit(ran.append, 2)
        until(first.running)
        assert not second.running()
        assert second.cancel()
        gate.opened.set()

        assert wait([first, second]).not_done == set()
        assert executor.submit(tasks.square, 3).result() == 9
    assert ran == []


def test_a_future_in_processes_runs_from_when_the_strategy_takes_it(tmp_path):
    """No begin is seen from here: what was taken can't be cancelled, what was not taken can."""
    gate = tmp_path / "gate"
    with StrategyExecutor("processes(max_workers=1)") as executor:
        first = executor.submit(mischief.wait, tmp_path / "begun", gate)
        until((tmp_path / "begun").exists)
        further = [executor.submit(mischief.wait, tmp_path / "ran", gate) for _ in range(9)]
        cancelled = [future.cancel() for future in (first, further[-1])]
        taken = [future.running() for future in further]
        gate.touch()
        done = wait([first, *further]).done

    assert cancelled == [False, True]
    assert taken == sorted(taken, reverse=True)
    assert len(done) == 10
    assert further[-1].cancelled()


@pytest.mark.parametrize("cancel_futures", [False, True])
def test_shutdown_lets_what_was_submitted_end_unless_it_is_cancelled(gate, cancel_futures):
    """What runs ends in any case; what waits runs too, or is cancelled at once."""
    executor = StrategyExecutor("threads(max_workers=1)")
    first = executor.submit(gate)
    until(first.running)
    others = [executor.submit(tasks.square, number) for number in range(5)]
    executor.shutdown(wait=False, cancel_futures=cancel_futures)
    finished = wait(others, 0).done
    gate.opened.set()
    executor.shutdown()

    assert finished == (set(others) if cancel_futures else set())
    assert first.result() == "let through"
    assert all(future.cancelled() is cancel_futures for future in others)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(int)


def test_whatever_a_call_raises_is_on_its_future():
    """The object that was raised, with its traceback, also where it would end a program."""
    error = KeyError("mine")

    def fail():
        raise error

    def leave():
        raise SystemExit(3)

    with StrategyExecutor("threads(max_workers=1)") as executor:
        failed, left = executor.submit(fail), executor.submit(leave)

        assert failed.exception() is error
        assert error.__traceback__.tb_frame.f_code is fail.__code__
        assert isinstance(left.exception(), SystemExit)
        assert executor.submit(tasks.square, 3).result() == 9


def test_a_crash_costs_only_its_own_future():
    """A worker that dies is a TaskLostError of that call, and breaks no pool."""
    with StrategyExecutor("processes(max_workers=2)") as executor:
        futures = [executor.submit(tasks.square, number) for number in range(10)]
        crashing = executor.submit(os._exit, 3)
        futures += [executor.submit(tasks.square, number) for number in range(10, 20)]

        assert [future.result() for future in futures] == [n * n for n in range(20)]
        assert isinstance(crashing.exception(), TaskLostError)
        assert crashing.exception().exitcode == 3


def test_closing_the_strategy_resolves_every_future(gate):
    """What runs past the grace ends with a CancelledError, what waits is cancelled."""
    strategy = ThreadPoolStrategy(1, grace=0.05)
    executor = StrategyExecutor(strategy)
    running = executor.submit(gate)
    until(running.running)
    waiting = [executor.submit(tasks.square, number) for number in range(5)]
    strategy.close()
    done = wait([running, *waiting], PATIENCE).done

    assert len(done) == 6
    assert all(future.cancelled() for future in waiting)
    assert isinstance(running.exception(), CancelledError)
    assert isinstance(running.exception().__cause__, stratagem.TaskCancelledError)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(int)


def test_a_strategy_that_fails_breaks_the_executor():
    """Its error is the cause of what every open future, and every further submit, tells."""
    with StrategyExecutor(Breaking()) as executor:
        future = executor.submit(tasks.square, 3)
        error = future.exception()
        until(lambda: not executor._desk._reader.is_alive())

        assert isinstance(error, BrokenExecutor)
        assert isinstance(error.__cause__, OSError)
        with pytest.raises(BrokenExecutor, match="Breaking has failed: the cluster is gone"):
            executor.submit(tasks.square, 3)


@pytest.mark.parametrize("spec", SPECS)
def test_a_call_is_a_task_that_can_have_children(spec):
    """``current_task`` gives a key, and ``nested`` runs children by the same strategy."""
    with StrategyExecutor(spec) as executor:
        keys = [executor.submit(tasks.own_key, None).result() for _ in range(3)]

        assert [key for _, key in keys] == ["0", "1", "2"]
        assert len({run_id for run_id, _ in keys}) == 1
        assert executor.submit(tasks.count_leaves, 3).result() == 8


def test_a_call_sees_the_context_of_who_submitted_it():
    """Each call runs in a copy of the context variables that stood at its submit."""
    with StrategyExecutor("threads(max_workers=1)") as executor:
        futures = []
        for value in ("one", "two"):
            VARIABLE.set(value)
            futures.append(executor.submit(VARIABLE.get))
            executor.submit(VARIABLE.set, "lost")

        assert [future.result() for future in futures] == ["one", "two"]
        assert VARIABLE.get() == "two"


def test_a_task_may_submit_to_another_executor():
    """What a task submits names it as the parent, and has run and key of its own."""
    with StrategyExecutor("threads") as outer, StrategyExecutor("threads") as inner:

        def ask():
            return inner.submit(current_task).result(), nested([current_task])

        seen, (child,) = outer.submit(ask).result()

    assert (seen.key, seen.parent) == ("0", "0")
    assert child.key == "0/0"
    assert child.run_id != seen.run_id


def test_a_loop_runs_blocking_calls_on_it():
    """``loop.run_in_executor`` takes it as it takes any executor."""

    async def main(executor):
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, tasks.square, number) for number in range(5)]
        return await asyncio.gather(*calls)

    with StrategyExecutor("threads(max_workers=2)") as executor:
        assert asyncio.run(main(executor)) == [0, 1, 4, 9, 16]


def test_map_submits_a_buffer_ahead_of_an_endless_input():
    """With ``buffersize`` only so many items are taken beyond those that were read."""
    numbers = itertools.count()
    with StrategyExecutor("threads(max_workers=2)") as executor:
        squares = executor.map(tasks.square, numbers, buffersize=3)
        read = list(itertools.islice(squares, 4))
        squares.close()

        assert read == [0, 1, 4, 9]
        assert next(numbers) == 7
        with pytest.raises(ValueError, match="buffersize must be a whole number of at least 1"):
            executor.map(tasks.square, numbers, buffersize=0)
        with pytest.raises(TimeoutError):
            list(executor.map(threading.Event().wait, [0.5], timeout=0.05, buffersize=1))


def test_a_callback_that_raises_costs_no_other_future(caplog):
    """The thread that answers goes on whatever a callback raises, and the log tells of it."""

    def leave(_future):
        raise SystemExit

    with StrategyExecutor("threads(max_workers=1)") as executor, caplog.at_level("ERROR"):
        begun = threading.Event()
        first = executor.submit(begun.wait, PATIENCE)
        first.add_done_callback(leave)
        begun.set()

        assert executor.submit(tasks.square, 3).result() == 9
    assert "executor_callback_failed" in caplog.text


def test_an_executor_that_nobody_holds_ends_when_its_calls_have(gate):
    """What was submitted still runs; then threads and strategy are gone."""
    StrategyExecutor("threads").submit(int).result()
    before = take_stock()
    executor = StrategyExecutor("threads(max_workers=1)")
    futures = [executor.submit(gate), executor.submit(tasks.square, 3)]
    del executor
    gc.collect()
    gate.opened.set()

    assert [future.result(PATIENCE) for future in futures] == ["let through", 9]
    assert leftovers(before) == []


SUBMIT_AND_LEAVE = """
import sys, time
from stratagem import StrategyExecutor

def say(text):
    time.sleep(0.2)
    print(text, flush=True)

if __name__ == "__main__":
    executor = StrategyExecutor(sys.argv[1])
    executor.submit(say, "apple")
    if "shut" in sys.argv:
        executor.shutdown(wait=False)
"""

SUBMIT_TOO_LATE = """
import atexit
from stratagem import StrategyExecutor

@atexit.register
def last():
    try:
        executor.submit(id, None)
    except RuntimeError as error:
        print(error)

executor = StrategyExecutor("threads")
executor.submit(id, None).result()
"""


@pytest.mark.skipif(
    (3, 12) <= sys.version_info < (3, 12, 2), reason="Python starts no thread at exit (gh-113964)"
)
@pytest.mark.parametrize("arguments", [(), ("shut",)])
@pytest.mark.parametrize("spec", ["threads", "processes(max_workers=1)"])
def test_a_program_ends_when_what_it_submitted_has(start_script, spec, arguments):
    """As with the standard library, with or without ``shutdown(wait=False)``, in silence."""
    process = start_script(SUBMIT_AND_LEAVE, spec, *arguments)
    printed, complaints = process.communicate(timeout=PATIENCE)

    assert printed.splitlines()[-1].endswith("apple")
    assert (complaints, process.returncode) == ("", 0)


def test_nothing_is_taken_when_the_program_ends(run_script):
    """A submit from what runs at exit is refused."""
    assert run_script(SUBMIT_TOO_LATE) == "cannot schedule new futures after shutdown\n"
