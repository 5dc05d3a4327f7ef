"""The table of what each strategy can do, cell by cell, under every start method."""

import asyncio
import itertools
import os
import re
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

import cloudpickle
import pytest

from stratagem import CapabilityError, Engine, TaskLostError, TaskTimeoutError
from stratagem.testing import mischief, tasks
from stratagem.testing.conformance.answers import answers, statuses
from stratagem.testing.waiting import PATIENCE, is_running, lines, note, until

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test


PAGE = Path(__file__).resolve().parents[1] / "docs" / "strategies.md"
CAPABILITIES = [
    "enforces_timeouts",
    "can_kill",
    "isolates_crashes",
    "shares_memory",
    "distributed",
]
STATED = {
    "sequential": {"shares_memory"},
    "threads": {"shares_memory", "enforces_timeouts"},
    "asyncio": {"shares_memory", "enforces_timeouts"},
    "processes": {"can_kill", "isolates_crashes", "enforces_timeouts"},
}
OF_ITS_EXECUTOR = {"executor": set()}
"""What it states besides is that of the executor that it was given."""
METHODS = [
    pytest.param("fork", marks=pytest.mark.once),
    "forkserver",  # the default
    pytest.param("spawn", marks=pytest.mark.once),
]
SOON = 0.2
ENOUGH = 2.0


def processes(method, grace=0.2):
    return f"processes(max_workers=1, start_method='{method}', grace={grace})"


@pytest.mark.parametrize("form", ["{}", "retry({})", "retry(retry({}))"])
@pytest.mark.parametrize("name", STATED)
def test_a_strategy_states_what_it_can_do_and_a_wrapper_states_the_same(name, form):
    """The object says what the table says, however deep it is wrapped."""
    with Engine() as engine, engine.strategy(form.format(name)) as strategy:
        stated = {capability for capability in CAPABILITIES if getattr(strategy, capability)}

    assert stated == STATED[name]


def test_the_page_of_the_strategies_has_the_same_table():
    """What the documentation tells of each strategy is what the objects state."""
    text = PAGE.read_text(encoding="utf-8")
    names = re.findall(r"`(\w+)`", re.search(r"^\| capability .*$", text, re.MULTILINE)[0])
    rows = re.findall(r"^\| `(\w+)`: [^|]*\|(.*)\|$", text, re.MULTILINE)
    told = {name: set() for name in names}
    for capability, cells in rows:
        for name, cell in zip(names, cells.split("|"), strict=True):
            if cell.strip() == "yes":
                told[name].add(capability)

    assert [capability for capability, _ in rows] == CAPABILITIES
    assert told == STATED | OF_ITS_EXECUTOR


# A task crashes its interpreter.

CRASHING = """
import os, sys
from stratagem import Engine

def work(number):
    if number == 3:
        os._exit(7)
    return number

with Engine(sys.argv[1]) as engine:
    print(engine.map(work, range(10)).counts)
print("the program went on")
"""


@pytest.mark.parametrize("name", [name for name in STATED if name != "processes"])
def test_a_crash_ends_the_program_where_memory_is_shared(start_script, name):
    """``isolates_crashes`` is honestly false: the whole program goes with the task."""
    process = start_script(CRASHING, name)
    printed, _ = process.communicate(timeout=2 * PATIENCE)

    assert (process.returncode, printed) == (7, "")


@pytest.mark.parametrize("method", METHODS)
def test_a_crash_loses_its_task_and_replaces_its_worker(method):
    """The only worker is killed by its task: that one is ``lost``, a new worker does the rest."""
    calls = [os.getpid, mischief.kill_own_process, os.getpid, os.getpid]
    with Engine(processes(method)) as engine:
        report = engine.run(calls)

    assert statuses(report) == ["ok", "lost", "ok", "ok"]
    assert isinstance(report[1].error, TaskLostError)
    assert report[1].error.exitcode == -signal.SIGKILL
    assert "SIGKILL" in str(report[1].error)
    before, *after = [report[index].value for index in (0, 2, 3)]
    assert before not in after
    assert len(set(after)) == 1


# A task never returns.


def test_sequential_refuses_a_timeout_and_names_who_keeps_one(engine):
    """Nothing runs; the error names every strategy that can."""
    ran = []
    with pytest.raises(CapabilityError, match="use one that can: asyncio, processes, threads$"):
        engine.run([partial(ran.append, 1)], strategy="sequential", timeout=ENOUGH)

    assert ran == []


@pytest.mark.parametrize("spec", ["threads(max_workers=1)", "asyncio(max_concurrency=1)"])
def test_an_overdue_thread_is_abandoned_and_its_slot_replaced(spec, stratagem_gate, tmp_path):
    """The next task runs while the overdue one still does: for once two threads, and it is said."""
    begun = tmp_path / "begun"
    running_beside = []

    def look():
        running_beside.append(int(lines(begun)[0]) == os.getpid() and not stratagem_gate.exists())

    with Engine() as engine, engine.strategy(spec) as strategy:
        endless = partial(mischief.wait, begun, stratagem_gate)
        outcomes = answers(strategy, [endless, look], timeouts={0: SOON})
        stratagem_gate.touch()

    assert statuses(outcomes) == ["timeout", "ok"]
    assert running_beside == [True]
    assert isinstance(outcomes[0].error, TaskTimeoutError)
    assert outcomes[0].error.abandoned
    assert "abandoned" in str(outcomes[0].error)


@pytest.mark.parametrize("spec", ["threads(max_workers=1)", "asyncio(max_concurrency=1)"])
def test_an_overdue_coroutine_is_cancelled(spec, stratagem_gate, tmp_path):
    """It runs its ``finally``, and nothing of it is abandoned."""
    begun = tmp_path / "begun"
    with Engine() as engine, engine.strategy(spec) as strategy:
        endless = partial(mischief.wait_async, begun, stratagem_gate)
        outcomes = answers(strategy, [endless, partial(tasks.square, 3)], timeouts={0: SOON})
        until(lambda: lines(begun)[1:] == ["over"])

    assert statuses(outcomes) == ["timeout", "ok"]
    assert not outcomes[0].error.abandoned


def test_asyncio_abandons_a_coroutine_that_swallows_its_cancel(stratagem_gate, tmp_path):
    """It is cancelled again and again, then left, and the error says so."""
    begun = tmp_path / "begun"
    with Engine() as engine, engine.strategy("asyncio(max_concurrency=1)") as strategy:
        endless = partial(mischief.swallow_cancel, begun, stratagem_gate)
        outcomes = answers(strategy, [endless, partial(tasks.square, 3)], timeouts={0: SOON})
        stratagem_gate.touch()

    assert statuses(outcomes) == ["timeout", "ok"]
    assert lines(begun)[1:4] == ["cancelled"] * 3
    assert outcomes[0].error.abandoned


@pytest.mark.parametrize("endless", [mischief.wait, mischief.block_loop])
@pytest.mark.parametrize("method", METHODS)
def test_an_overdue_process_is_killed(method, endless, stratagem_gate, tmp_path):
    """Whatever its threads and its loop do, it is gone when its outcome is there."""
    endless = partial(endless, tmp_path / "begun", stratagem_gate)
    with Engine() as engine, engine.strategy(processes(method)) as strategy:
        outcomes = answers(strategy, [os.getpid, endless, os.getpid], timeouts={1: SOON})

    assert statuses(outcomes) == ["ok", "timeout", "ok"]
    assert not outcomes[1].error.abandoned
    assert outcomes[2].value != outcomes[0].value
    assert not is_running(outcomes[0].value)


# A run is stopped.


@pytest.mark.parametrize(
    "spec", ["sequential", "threads(max_workers=1)", "asyncio(max_concurrency=1)"]
)
def test_a_thread_is_stopped_between_tasks(engine, spec, tmp_path):
    """The task that runs comes to its end and keeps its value; no other begins."""
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    endless = (partial(mischief.wait, begun, gate) for _ in itertools.count())
    stream = engine.stream(endless, strategy=spec)
    consumer = threading.Thread(target=list, args=(stream,))
    consumer.start()
    until(begun.exists)
    stream.stop()
    gate.touch()
    stream.close()
    consumer.join(PATIENCE)

    assert not consumer.is_alive()
    assert (stream.report[0].status, stream.report[0].value) == ("ok", "let go")
    assert set(statuses(stream.report[1:])) <= {"cancelled"}
    assert len(lines(begun)) == 1


@pytest.mark.parametrize(
    "spec", ["threads(max_workers=2, grace=60)", "asyncio(max_concurrency=2, grace=60)"]
)
def test_coroutines_are_cancelled_at_once(engine, spec, stratagem_gate, tmp_path):
    """They do not have the grace: both end, their ``finally`` done, long before it is over."""
    notes = [tmp_path / "one", tmp_path / "two"]
    calls = [partial(mischief.wait_async, begun, stratagem_gate) for begun in notes]
    stream = engine.stream(calls, strategy=spec)
    consumer = threading.Thread(target=list, args=(stream,))
    consumer.start()
    until(lambda: all(begun.exists() for begun in notes))
    began = time.monotonic()
    stream.close()
    seconds = time.monotonic() - began
    consumer.join(PATIENCE)

    assert seconds < PATIENCE
    assert statuses(stream.report) == ["cancelled", "cancelled"]
    until(lambda: [lines(begun)[1:] for begun in notes] == [["over"], ["over"]])


def test_asyncio_begins_nothing_once_it_is_asked_to_stop(engine, tmp_path):
    """What was taken and waits for its turn on the loop never begins, and is ``cancelled``."""
    begun, gate, ran = tmp_path / "begun", tmp_path / "gate", tmp_path / "ran"
    waiting = [partial(tasks.square_and_note, ran, number) for number in range(5)]
    calls = [partial(mischief.block_loop, begun, gate), *waiting]
    stream = engine.stream(calls, strategy="asyncio(max_concurrency=6)")
    consumer = threading.Thread(target=list, args=(stream,))
    consumer.start()
    until(begun.exists)
    stream.stop()
    gate.touch()
    stream.close()
    consumer.join(PATIENCE)

    assert lines(ran) == []
    assert set(statuses(stream.report[1:])) <= {"cancelled"}


@pytest.mark.parametrize("method", METHODS)
def test_processes_are_killed_when_their_grace_is_over(method, stratagem_gate, tmp_path):
    """The task that runs is ``cancelled``, its process gone when ``close`` returns."""
    begun = tmp_path / "begun"
    endless = (partial(mischief.wait, begun, stratagem_gate) for _ in itertools.count())
    with Engine(processes(method)) as engine:
        stream = engine.stream(endless)
        consumer = threading.Thread(target=list, args=(stream,))
        consumer.start()
        until(begun.exists)
        stream.close()
        is_gone = not is_running(int(lines(begun)[0]))
        consumer.join(PATIENCE)
        after = engine.map(tasks.square, [3]).values

    assert is_gone
    assert set(statuses(stream.report)) == {"cancelled"}
    assert "its worker was killed" in str(stream.report[0].error)
    assert (len(lines(begun)), after) == (1, [9])


# As many at once as the limit says.


@pytest.mark.parametrize(
    "spec",
    [
        "threads(max_workers=60)",
        "asyncio(max_concurrency=60)",
        "retry(asyncio(max_concurrency=60), attempts=1)",
    ],
)
@pytest.mark.parametrize("form", ["map", "amap"])
def test_sync_callables_run_in_as_many_threads_as_the_limit_says(engine, spec, form):
    """Sixty that wait for each other all run at once, also for a caller with a loop."""
    meet = threading.Barrier(60)

    def work(_item):
        return meet.wait(PATIENCE)

    async def caller():
        return await engine.amap(work, range(60), strategy=spec)

    report = asyncio.run(caller()) if form == "amap" else engine.map(work, range(60), strategy=spec)

    assert sorted(report.values) == list(range(60))


@pytest.mark.parametrize("method", METHODS)
def test_as_many_processes_run_at_once_as_the_limit_says(method, tmp_path):
    """Two workers run two tasks that wait for each other, and never a third."""
    met = tmp_path / "met"

    def meet(number):
        note(met, os.getpid())
        until(lambda: len(lines(met)) >= 2)
        return os.getpid()

    with Engine(f"processes(max_workers=2, start_method='{method}')") as engine:
        pids = engine.map(meet, range(6)).values

    assert set(map(int, lines(met)[:2])) == set(pids)
    assert len(set(pids)) == 2
