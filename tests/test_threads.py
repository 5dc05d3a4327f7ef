"""The threads strategy: deadlines, warm threads, one budget, and programs that end."""

import asyncio
import gc
import threading
import time
import warnings
from functools import partial

import pytest

from stratagem import TaskTimeoutError, current_task
from stratagem_builtin import ThreadPoolStrategy

PATIENCE = 20.0


def test_a_deadline_is_kept_while_the_consumer_reads_nothing(engine):
    """With nobody reading, a task past its timeout loses its slot to the next one in time."""
    next_runs, release = threading.Event(), threading.Event()

    def work(name):
        if name == "endless":
            return release.wait(PATIENCE)
        if name == "next":
            next_runs.set()
        return name

    with engine.stream_map(
        work, ["first", "endless", "next"], strategy="threads(max_workers=1)", timeout=0.1
    ) as stream:
        first = next(stream)
        ran_meanwhile = next_runs.wait(PATIENCE)  # the consumer is here, and not reading
        outcomes = [first, *stream]
        release.set()

    assert ran_meanwhile
    assert [(o.value, o.status) for o in outcomes] == [
        ("first", "ok"),
        (None, "timeout"),
        ("next", "ok"),
    ]
    error = outcomes[1].error
    assert isinstance(error, TaskTimeoutError)
    assert (error.key, error.timeout, error.abandoned) == ("1", 0.1, True)
    assert 0.1 <= outcomes[1].seconds < PATIENCE


def test_an_abandoned_task_costs_no_slot(engine):
    """Though every thread is stuck, each slot is replaced and the whole batch runs."""
    release = threading.Event()

    def work(number):
        return release.wait(PATIENCE) if number < 4 else number

    report = engine.map(work, range(12), strategy="threads(max_workers=2)", timeout=0.05)
    release.set()

    assert [o.status for o in report] == ["timeout"] * 4 + ["ok"] * 8


def test_an_async_task_past_its_timeout_is_cancelled(engine):
    """A coroutine is stopped, not abandoned, and says so."""
    cancelled = threading.Event()

    async def work(_item):
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    report = engine.map(work, [0], strategy="threads(max_workers=1)", timeout=0.05)

    assert report[0].status == "timeout"
    assert not report[0].error.abandoned
    assert cancelled.wait(PATIENCE)


def test_threads_stay_warm_from_batch_to_batch():
    """A second batch runs in threads of the first, and none is added."""
    meet = threading.Barrier(3)

    def who(_item):
        meet.wait(PATIENCE)
        return threading.get_ident()

    with ThreadPoolStrategy(max_workers=3) as strategy:
        first = set(strategy.run_tasks([partial(who, n) for n in range(3)]))
        second = set(strategy.run_tasks([partial(who, n) for n in range(3)]))

    assert len(first) == 3
    assert second == first


def test_as_many_run_at_once_as_the_limit_says(engine):
    """Sixty tasks that wait for each other all get their thread."""
    meet = threading.Barrier(60)
    report = engine.map(
        lambda _: meet.wait(PATIENCE), range(60), strategy="threads(max_workers=60)"
    )

    assert sorted(report.values) == list(range(60))


class Peak:
    """Measure, inside tasks, how many of them run at once."""

    def __init__(self):
        self.lock = threading.Lock()
        self.running = self.most = 0

    def work(self, _item):
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(0.002)  # a task takes its time
        with self.lock:
            self.running -= 1


@pytest.mark.parametrize("spec", ["threads(max_workers=3)", "asyncio(max_concurrency=3)"])
def test_two_streams_share_one_budget(engine, spec):
    """However many streams of one object are read at once, no more tasks run than its limit."""
    peak = Peak()
    with engine.strategy(spec) as strategy:
        threads = [
            threading.Thread(
                target=engine.map, args=(peak.work, range(60)), kwargs={"strategy": strategy}
            )
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)

    assert peak.most == 3
    assert peak.running == 0


def test_a_stream_that_nobody_reads_leaves_the_slots_to_others(engine):
    """A second batch of the strategy runs though a first one is full and unread."""
    with (
        ThreadPoolStrategy(max_workers=2) as strategy,
        engine.stream_map(abs, iter(range(10**9)), strategy=strategy) as unread,
    ):
        next(unread)
        report = engine.map(abs, range(500), strategy=strategy)

    assert report.values == list(range(500))


def test_closing_the_strategy_ends_a_run_of_another_thread(engine):
    """The run of a strategy that is closed under it ends, partial, with what was done."""
    begun, release = threading.Event(), threading.Event()
    reports = []

    def work(_item):
        begun.set()
        return release.wait(PATIENCE)

    strategy = ThreadPoolStrategy(max_workers=1)
    runner = threading.Thread(
        target=lambda: reports.append(engine.map(work, range(1_000), strategy=strategy))
    )
    runner.start()
    assert begun.wait(PATIENCE)
    strategy.close()
    release.set()
    runner.join(PATIENCE)

    assert [(o.status, o.value) for o in reports[0]] == [("ok", True)]
    assert reports[0].partial


def test_run_tasks_of_a_strategy_that_is_closed_raises(engine):
    """Results that never came are not passed for results: ``run_tasks`` raises."""
    begun, release = threading.Event(), threading.Event()
    raised = []

    def work():
        begun.set()
        return release.wait(PATIENCE)

    strategy = ThreadPoolStrategy(max_workers=1)

    def run():
        try:
            strategy.run_tasks([work] * 100)
        except Exception as error:
            raised.append(error)

    runner = threading.Thread(target=run)
    runner.start()
    assert begun.wait(PATIENCE)
    strategy.close()
    release.set()
    runner.join(PATIENCE)

    assert [type(error).__name__ for error in raised] == ["TaskCancelledError"]


def test_a_coroutine_that_comes_after_the_stop_is_closed_unbegun(engine):
    """What a callable returns once its run is being stopped never begins, and is not complained of."""
    begun, stopping = threading.Semaphore(0), threading.Event()

    async def until_cancelled():
        try:
            begun.release()
            await asyncio.Event().wait()
        finally:
            stopping.set()

    def come_late():
        begun.release()
        stopping.wait(PATIENCE)
        return until_cancelled()

    with (
        warnings.catch_warnings(record=True, action="always") as caught,
        engine.stream([until_cancelled, come_late], strategy="threads(max_workers=2)") as stream,
    ):
        reader = threading.Thread(target=lambda: list(stream))
        reader.start()
        for _ in range(2):
            assert begun.acquire(timeout=PATIENCE)
        stream.close()
        reader.join(PATIENCE)
        engine.close()
        gc.collect()

    assert [outcome.status for outcome in stream.report] == ["cancelled", "cancelled"]
    assert caught == []
    assert not begun.acquire(blocking=False)


def test_tasks_know_themselves_whatever_thread_they_are_in(engine):
    """Thousands of tasks over few threads each see their own key, and none of it afterwards."""
    keys = engine.map(lambda _: current_task().key, range(2_000), strategy="threads(max_workers=4)")

    assert keys.values == [str(number) for number in range(2_000)]
    assert current_task() is None


def test_a_program_with_a_task_that_never_returns_ends(run_script):
    """Threads are daemons: after close the program ends, whatever a task still does."""
    began = time.monotonic()
    printed = run_script("""
import threading
from stratagem import Engine

def work(number):
    if number == 1:
        threading.Event().wait()
    return number

with Engine("threads(max_workers=2)") as engine:
    report = engine.map(work, range(3), timeout=0.1)
print([outcome.status.value for outcome in report])
""")

    assert printed == "['ok', 'timeout', 'ok']\n"
    assert time.monotonic() - began < PATIENCE
