"""The strategy that runs tasks on an executor of the standard library, whoever wrote that."""

import asyncio
import gc
import itertools
import pickle
import threading
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from functools import partial

import pytest

import stratagem
from stratagem import (
    CapabilityError,
    ExecutorStrategy,
    SpecError,
    StrategyExecutor,
    TaskLostError,
    nested,
)
from stratagem.testing import leftovers, mischief, take_stock, tasks
from stratagem.testing.waiting import PATIENCE, lines, until

THREADS = "executor('concurrent.futures:ThreadPoolExecutor', max_workers=2)"
PROCESSES = "executor('concurrent.futures:ProcessPoolExecutor', max_workers=2)"


class Watched(ThreadPoolExecutor):
    """Count how many calls are with it."""

    def __init__(self, max_workers):
        super().__init__(max_workers)
        self.most = 0
        self._out = set()

    def submit(self, fn, /, *args, **kwargs):
        future = super().submit(fn, *args, **kwargs)
        self._out.add(future)
        self.most = max(self.most, len(self._out))
        future.add_done_callback(self._out.discard)
        return future


class Answering(Executor):
    """Answer every submit by one function of a fresh future; run nothing."""

    def __init__(self, answer):
        self.answer = answer

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        self.answer(future)
        return future


class Counted:
    """Square, and count how often it is pickled."""

    pickled = 0

    def __call__(self, number):
        return number * number

    def __reduce__(self):
        Counted.pickled += 1
        return Counted, ()


def break_now(*_arguments):
    raise BrokenExecutor("no worker starts")


def statuses(outcomes):
    return [outcome.status.value for outcome in outcomes]


def test_an_executor_that_is_given_stays_open():
    """Its owner uses it beside the strategy, and after it."""
    with ThreadPoolExecutor(2) as executor:
        with ExecutorStrategy(executor) as strategy:
            assert stratagem.map(tasks.square, range(20), strategy=strategy).values == [
                number * number for number in range(20)
            ]
        assert executor.submit(tasks.square, 3).result() == 9


def test_an_executor_that_was_made_is_shut_down_and_made_again():
    """``close`` ends it; the strategy goes on with another when it is used again."""
    made = []

    def make():
        made.append(ThreadPoolExecutor(2))
        return made[-1]

    with ExecutorStrategy(make) as strategy:
        strategy.run_tasks([int])
        strategy.close()
        assert strategy.run_tasks([partial(tasks.square, 3)]) == [9]

    assert [executor._shutdown for executor in made] == [True, True]


@pytest.mark.parametrize(("given", "most"), [(None, 6), (2, 2), (10, 10)])
def test_so_many_tasks_are_with_the_executor_at_once(given, most):
    """Twice as many as it has workers, or as many as was said; never the whole input."""
    executor = Watched(3)
    with executor, ExecutorStrategy(executor, max_in_flight=given) as strategy:
        report = stratagem.map(tasks.square, range(200), strategy=strategy)

    assert report.counts.total() == 200
    assert 1 <= executor.most <= most
    assert strategy.max_in_flight == most


def test_a_crash_costs_what_was_in_flight_and_the_next_executor_goes_on():
    """Tasks beside the one that crashed are lost with the pool; all others succeed."""
    calls = [partial(tasks.square, number) for number in range(30)]
    calls.insert(10, mischief.kill_own_process)
    with stratagem.strategy(PROCESSES) as strategy:
        report = stratagem.run(calls, strategy=strategy)
        after = stratagem.map(tasks.square, range(5), strategy=strategy)

    assert report[10].status == "lost"
    assert set(statuses(report)) == {"ok", "lost"}
    assert 1 <= statuses(report).count("lost") <= 4
    assert isinstance(report[10].error, TaskLostError)
    assert isinstance(report[10].error.__cause__, BrokenProcessPool)
    assert after.values == [number * number for number in range(5)]


def test_a_given_executor_that_breaks_ends_the_run_with_its_error():
    """Nobody can make another; what was in flight is lost, and the error says what to give."""
    calls = itertools.chain([mischief.kill_own_process], itertools.repeat(partial(abs, -1)))
    with (
        ProcessPoolExecutor(1) as executor,
        ExecutorStrategy(executor) as strategy,
        pytest.raises(BrokenProcessPool) as caught,
    ):
        stratagem.run(calls, strategy=strategy)

    assert "give what makes one" in caught.value.__notes__[0]
    assert caught.value.report[0].status == "lost"


def test_executors_that_break_in_a_row_end_the_run():
    """One that cannot start its workers is not made again for ever."""
    made = []

    def make():
        executor = Answering(break_now)
        made.append(executor)
        return executor

    with ExecutorStrategy(make) as strategy, pytest.raises(BrokenExecutor, match="no worker"):
        stratagem.run(itertools.repeat(int), strategy=strategy)
    assert len(made) == 6


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda future: future.set_exception(OSError("gone")), "OSError: gone"),
        (lambda future: future.set_result("nonsense"), "its executor failed: "),
        (lambda future: future.cancel(), "the executor cancelled it"),
    ],
)
def test_what_an_executor_does_to_a_task_costs_that_task(answer, why):
    """Errors of the executor, odd answers and its cancels are ``lost``; the run goes on."""
    with ExecutorStrategy(Answering(answer)) as strategy:
        report = stratagem.map(tasks.square, range(3), strategy=strategy)

    assert statuses(report) == ["lost"] * 3
    assert why in str(report[0].error)


def test_an_executor_that_was_shut_down_ends_the_run():
    """A submit that is refused is no matter of the task."""
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with ExecutorStrategy(executor) as strategy, pytest.raises(RuntimeError, match="shutdown"):
        stratagem.map(tasks.square, range(3), strategy=strategy)


def test_closing_cancels_what_has_not_begun(tmp_path):
    """What the executor holds back is taken back; what runs has the grace, then is abandoned."""
    gate = tmp_path / "gate"
    calls = [int, *[partial(mischief.wait, tmp_path / "begun", gate)] * 4]
    with ThreadPoolExecutor(1) as executor, ExecutorStrategy(executor, grace=0.1) as strategy:
        with stratagem.stream(calls, strategy=strategy) as stream:
            next(stream)
            until((tmp_path / "begun").exists)
            (running,) = strategy.running()
            until(lambda: len(stream.run.snapshot().running) == 1)
        gate.touch()

    assert running.task.key == "1"
    assert running.worker.startswith("ThreadPoolExecutor")
    assert statuses(stream.report) == ["ok", "cancelled", "cancelled"]
    assert "did not end in time" in str(stream.report[1].error)
    assert "before it began" in str(stream.report[2].error)
    assert len(lines(tmp_path / "begun")) == 1


def test_closing_cancels_a_coroutine_at_once(tmp_path):
    """It runs its ``finally``, long before the grace is over."""
    calls = [int, partial(mischief.wait_async, tmp_path / "begun", tmp_path / "gate")]
    with stratagem.strategy(THREADS) as strategy:
        began = time.monotonic()
        with stratagem.stream(calls, strategy=strategy) as stream:
            next(stream)
            until((tmp_path / "begun").exists)
        seconds = time.monotonic() - began

    assert lines(tmp_path / "begun")[1:] == ["over"]
    assert statuses(stream.report) == ["ok", "cancelled"]
    assert seconds < strategy.grace


def test_close_does_not_wait_for_ever(tmp_path):
    """An executor whose task never ends is left to itself when the grace is over."""
    strategy = ExecutorStrategy(partial(ThreadPoolExecutor, 1), grace=0.1)
    stream = stratagem.stream(
        [partial(mischief.wait, tmp_path / "begun", tmp_path / "gate")], strategy=strategy
    )
    reader = threading.Thread(target=list, args=(stream,))
    reader.start()
    until((tmp_path / "begun").exists)
    strategy.close()
    reader.join(PATIENCE)
    (tmp_path / "gate").touch()

    assert not reader.is_alive()
    assert statuses(stream.report) == ["cancelled"]


@pytest.mark.parametrize("wrapper", ["{}", "retry({})", "hybrid({}, coroutines=None, cpu=None)"])
def test_children_run_where_their_parent_runs(wrapper):
    """They need no worker of the executor, so no depth and no wrapper deadlocks one worker."""

    def parent():
        return nested([threading.get_ident] * 3), threading.get_ident()

    one = "executor('concurrent.futures:ThreadPoolExecutor', max_workers=1)"
    with stratagem.strategy(wrapper.format(one)) as strategy:
        depth = stratagem.map(tasks.count_leaves, [3], strategy=strategy).values
        children, own = stratagem.run([parent], strategy=strategy).values[0]

    assert depth == [8]
    assert set(children) == {own} or "hybrid" in wrapper


def test_a_function_is_pickled_once_for_all_that_it_is_called_with():
    """``map`` sends its function with each task, and pickles it for the first alone."""
    Counted.pickled = 0
    with stratagem.strategy(PROCESSES) as strategy:
        report = stratagem.map(Counted(), range(20), strategy=strategy)

    assert report.values == [number * number for number in range(20)]
    assert Counted.pickled == 1


def test_what_cannot_be_pickled_costs_only_its_task():
    """A task that can't travel is an error of that task, found before it is submitted."""
    lock = threading.Lock()
    calls = [partial(tasks.square, 2), lambda: lock, partial(tasks.square, 3)]
    report = stratagem.run(calls, strategy=PROCESSES)

    assert statuses(report) == ["ok", "error", "ok"]
    assert isinstance(report[1].error, stratagem.TransportError)


def test_it_says_what_it_can_do():
    """Threads share memory; nothing is killed, isolated or timed by an executor."""
    with stratagem.strategy(THREADS) as threads, stratagem.strategy(PROCESSES) as processes:
        given = ExecutorStrategy(Answering(None))

        assert [s.shares_memory for s in (threads, processes, given)] == [True, False, False]
        assert [s.distributed for s in (threads, processes, given)] == [False, False, True]
        assert not any(s.can_kill or s.isolates_crashes for s in (threads, processes))
        with pytest.raises(CapabilityError, match="takes no timeout"):
            stratagem.run([int], strategy=threads, timeout=1)
        with pytest.raises(TypeError, match="stays in its process"):
            pickle.dumps(threads)


def test_there_and_back_again():
    """An executor over a strategy is an executor like any other, and knows where calls run."""
    for spec, shares in (("threads", True), ("processes(max_workers=1)", False)):
        with StrategyExecutor(spec) as executor, ExecutorStrategy(executor) as strategy:
            assert strategy.shares_memory is shares
            assert stratagem.map(tasks.square, range(9), strategy=strategy).values == [
                number * number for number in range(9)
            ]


def test_async_tasks_run_on_the_callers_loop():
    """From ``arun`` coroutines come back to the loop that awaits them."""

    async def loop_here():
        return asyncio.get_running_loop()

    async def main():
        report = await stratagem.arun([loop_here] * 3, strategy=THREADS)
        return set(report.values) == {asyncio.get_running_loop()}

    assert asyncio.run(main())


def test_a_strategy_that_nobody_holds_takes_its_executor_with_it():
    """No thread is left of an executor that was made for it."""
    stratagem.strategy(THREADS).run_tasks([int])
    gc.collect()
    before = take_stock()
    stratagem.strategy(THREADS).run_tasks([int])
    gc.collect()

    assert leftovers(before) == []


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("executor", "missing a required argument: 'place'"),
        ("executor(3)", "write executor(place=3)"),
        ("executor('nowhere')", "place must be written package.module:Class, not 'nowhere'"),
        ("executor('nowhere:Pool')", "nowhere:Pool cannot be imported: No module named 'nowhere'"),
        ("executor('os:Pool')", "os:Pool cannot be imported: module 'os' has no attribute 'Pool'"),
        ("executor('os:sep')", "os:sep is of type str, which makes no executor"),
        ("executor('os:getpid')", "a concurrent.futures.Executor was to be made, not int"),
        (THREADS.replace("workers", "hands"), "unexpected keyword argument 'max_hands'"),
        (THREADS.replace("2", "0"), "max_workers must be greater than 0"),
        (
            THREADS.replace("workers", "in_flight").replace("2", "0"),
            "max_in_flight must be a whole",
        ),
        (THREADS.replace("max_workers=2", "shares_memory='no'"), "True, False or None, not 'no'"),
    ],
)
def test_a_spec_that_makes_no_executor_says_why(spec, message):
    """What is named, what it gives and what it takes are told apart."""
    with pytest.raises(SpecError) as caught:
        stratagem.strategy(spec)

    assert message in str(caught.value)


@pytest.mark.parametrize(
    "spec",
    [
        THREADS,
        "executor(place='concurrent.futures:ThreadPoolExecutor', max_workers=2)",
        {"use": "executor", "place": "concurrent.futures:ThreadPoolExecutor", "max_workers": 2},
    ],
)
def test_the_place_is_the_first_text_or_has_its_name(spec):
    """It may be written first, as a spec is, or by name, or in a table."""
    with stratagem.strategy(spec) as strategy:
        assert strategy.max_in_flight == 4
