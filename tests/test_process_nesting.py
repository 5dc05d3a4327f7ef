"""Tasks in worker processes that run children: on all workers, on one budget, each for itself."""

import asyncio
import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

import attrs
import cloudpickle
import psutil
import pytest

from stratagem import (
    Engine,
    TaskLostError,
    TransportError,
    current_task,
    nested,
    nested_async,
    run,
)
from stratagem.testing import EventRecorder, tasks
from stratagem_builtin import dispatcher

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no worker can import a test

PATIENCE = 30.0


def until(true, *arguments):
    """Wait until something is true."""
    give_up_at = time.monotonic() + PATIENCE
    while not true(*arguments):
        assert time.monotonic() < give_up_at, "it never became true"
        time.sleep(0.002)


@attrs.frozen
class Journal:
    """Note who comes and goes, in a file that all processes append to."""

    path: Path

    def note(self, word):
        with self.path.open("a") as file:
            file.write(f"{time.monotonic_ns()} {word}\n")

    def words(self):
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [line.split(" ", 1)[1] for line in sorted(lines)]

    def peak(self):
        now = most = 0
        for word in self.words():
            now += 1 if word == "comes" else -1
            most = max(most, now)
        return most


@pytest.fixture
def journal(tmp_path):
    """Give an empty journal."""
    return Journal(tmp_path / "journal")


def leaf(journal, number):
    journal.note("comes")
    time.sleep(0.01)  # a task takes its time
    journal.note("goes")
    return number


def branch(journal, depth):
    if depth == 0:
        return leaf(journal, 1)
    return sum(nested([partial(branch, journal, depth - 1) for _ in range(2)]))


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_parents_and_children_share_one_budget(engine, journal, limit):
    """Deeper than there are workers, nothing deadlocks, and never more run than the limit says."""
    report = engine.map(
        partial(branch, journal), [3, 3, 3], strategy=f"processes(max_workers={limit})"
    )

    assert report.values == [8] * 3
    assert 1 <= journal.peak() <= limit


def test_ten_runs_within_each_other_need_one_slot(engine):
    """At a limit of one, and ten deep, each parent waits for one child."""

    def descend(depth):
        return [os.getpid(), *(nested([partial(descend, depth - 1)])[0] if depth else [])]

    report = engine.map(descend, [10], strategy="processes(max_workers=1)")

    assert len(set(report.values[0])) == 11


def test_workers_that_took_the_place_of_parents_end_when_they_are_needed_no_more(monkeypatch):
    """Those beyond the limit go after a while, those within it stay, and nothing spins meanwhile."""
    monkeypatch.setattr(dispatcher, "SPARE_SECONDS", 0.3)

    def descend(depth):
        return [os.getpid(), *(nested([partial(descend, depth - 1)])[0] if depth else [])]

    with Engine("processes(max_workers=1)") as engine:
        used = set(engine.map(descend, [4]).values[0])
        until(lambda: len(used & set(psutil.pids())) == 1)
        used_cpu = time.process_time()
        time.sleep(0.5)  # what would spin, spins now
        used_cpu = time.process_time() - used_cpu
        (left,) = used & set(psutil.pids())
        again = engine.map(descend, [0]).values

    assert len(used) == 5
    assert again == [[left]]
    assert used_cpu < 0.25


def test_children_run_on_all_workers(engine, tmp_path):
    """Two children that wait for each other both get a worker, beside their parent's."""

    def meet(me, other):
        (tmp_path / me).touch()
        until((tmp_path / other).exists)
        return os.getpid()

    def parent(_item):
        return [os.getpid(), *nested([partial(meet, "a", "b"), partial(meet, "b", "a")])]

    report = engine.map(parent, [0], strategy="processes(max_workers=2)")

    assert len(set(report.values[0])) == 3


def test_a_child_that_takes_its_worker_with_it_leaves_its_parent(engine):
    """The parent hears that the child is lost, and may go on; nobody else hears of it."""

    def parent(number):
        try:
            return nested([partial(os._exit, 7) if number == 1 else partial(abs, number)])
        except TaskLostError as error:
            return error.exitcode

    report = engine.map(parent, range(4), strategy="processes(max_workers=2)")

    assert report.values == [[0], 7, [2], [3]]


def test_a_parent_past_its_deadline_takes_its_children_with_it(engine, journal):
    """Once the parent is killed no further child begins, and the slot is for others."""

    def child(number):
        journal.note(f"child {number}")
        time.sleep(0.05)

    def parent(number):
        return nested([partial(child, each) for each in range(1_000)]) if number == 0 else number

    with engine.stream_map(
        parent, range(3), strategy="processes(max_workers=1, grace=1)", timeout=1.0
    ) as stream:
        outcomes = {outcome.index: outcome.status for outcome in stream}
        begun = len(journal.words())
        engine.map(abs, range(50), strategy="processes(max_workers=1, grace=1)")

    assert outcomes == {0: "timeout", 1: "ok", 2: "ok"}
    assert 1 <= len(journal.words()) <= begun + 1 < 1_000


def test_a_parent_whose_worker_is_killed_is_lost_alone(engine, journal):
    """The children of the lost parent stop; another parent and its children go on."""

    def child(number):
        journal.note(f"child {number}")
        until((journal.path.parent / "go on").exists)
        return number

    def parent(number):
        journal.note(f"parent {number} {os.getpid()}")
        return nested([partial(child, number)])

    with engine.stream_map(parent, [1, 2], strategy="processes(max_workers=2)") as stream:
        killer = start(kill_parent, journal, 1)
        first = next(stream)
        killer.join(PATIENCE)
        (journal.path.parent / "go on").touch()
        second = next(stream)

    assert (first.index, first.status, first.error.exitcode) == (0, "lost", -signal.SIGKILL)
    assert (second.index, second.value) == (1, [2])


def start(function, *arguments):
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def kill_parent(journal, number):
    until(lambda: len(journal.words()) == 4)
    (line,) = [word for word in journal.words() if word.startswith(f"parent {number} ")]
    os.kill(int(line.split()[-1]), signal.SIGKILL)


def test_children_are_told_of_as_under_threads():
    """Each nested run and its tasks have the events that they have under any strategy."""

    def parent(number):
        return nested([partial(tasks.square, number)])

    told = []
    for spec in ("threads(max_workers=1)", "processes(max_workers=1)"):
        recorder = EventRecorder()
        with Engine(spec, plugins=[recorder]) as engine:
            assert engine.map(parent, [5]).values == [[25]]
        told.append([(event.hook, event.key) for event in recorder.events])

    assert told[0] == told[1]
    assert [hook for hook, _ in told[1]] == [
        "before_run",
        "before_task",
        "before_run",
        "before_task",
        "after_task",
        "after_run",
        "after_task",
        "after_run",
    ]


def test_a_child_knows_its_run_and_its_key(engine):
    """``current_task`` in a child tells of the child; in its parent, of the parent still."""

    def child():
        task = current_task()
        return task.run_id, task.key, task.parent

    def parent(_item):
        before = current_task()
        ((run_id, key, parent),) = nested([child])
        return before == current_task(), run_id != before.run_id, key, parent

    report = engine.map(parent, [0], strategy="processes(max_workers=1)")

    assert report.values == [(True, True, "0/0", "0")]


def test_a_snapshot_shows_parents_that_wait_and_children_at_work(engine, tmp_path):
    """Both are running, each in its worker, the children in a run below that of their parent."""

    def child(number):
        until((tmp_path / "go on").exists)
        return number

    def parent(number):
        return nested([partial(child, number), partial(child, number + 1)])

    stream = engine.stream_map(parent, [7], key=str, strategy="processes(max_workers=2)")
    reader = start(list, stream)
    until(lambda: sum(len(below.running) for below in stream.run.snapshot().descendants) == 2)
    during = stream.run.snapshot()
    (tmp_path / "go on").touch()
    reader.join(PATIENCE)
    (below,) = during.nested
    shown = [task.key for task in (*during.running, *below.running)]

    assert sorted(shown) == ["7", "7/0", "7/1"]
    assert len({*during.workers, *below.workers}) == 3
    assert (stream.run.snapshot().running, stream.run.snapshot().done) == ((), 1)


def test_a_wrapper_runs_the_children_too(engine, tmp_path):
    """A child that fails once is tried again, since ``retry`` runs the parent."""

    def fails_once():
        flag = tmp_path / "failed"
        if not flag.exists():
            flag.touch()
            raise ConnectionError
        return "good"

    def parent(_item):
        return nested([fails_once])

    spec = "retry(processes(max_workers=1), wait_initial=0, wait_jitter=0)"

    assert engine.map(parent, [0], strategy=spec).values == [["good"]]


def test_coroutines_in_workers_have_children(engine):
    """``nested_async`` in a worker runs its children on all workers, while the loop goes on."""

    async def parent(number):
        return await nested_async([partial(tasks.square_async, number), partial(abs, -number)])

    report = engine.map(parent, [2, 3], strategy="processes(max_workers=2)")

    assert report.values == [[4, 2], [9, 3]]


def test_an_awaitable_cannot_be_a_child_of_another_process(engine):
    """What was called too early is refused where it is given, saying what to pass instead."""

    async def parent(number):
        given = tasks.square_async(number)
        try:
            return await nested_async([given])
        except TransportError as error:
            given.close()
            return str(error)

    report = engine.map(parent, [2], strategy="processes(max_workers=1)")

    assert "pass what makes it, such as `functools.partial(ask, question)`" in report.values[0]


@pytest.mark.parametrize("spec", ["threads", "asyncio", "processes(max_workers=1)"])
def test_a_strategy_does_not_travel_and_says_what_to_do(engine, spec):
    """A task that holds a strategy object is told of ``nested`` before it is sent."""
    with engine.strategy(spec) as strategy:
        report = engine.map(
            lambda item: strategy.run_tasks([partial(abs, item)]), [1], strategy="processes"
        )

    assert isinstance(report[0].error, TransportError)
    assert "stays in its process" in str(report[0].error)
    assert "`stratagem.nested`" in str(report[0].error)


def test_another_strategy_within_a_worker_has_its_own_limit(engine, journal):
    """A task in a worker may run coroutines by ``asyncio``, as many at once as that says."""

    async def call(number):
        journal.note("comes")
        await asyncio.sleep(0.01)  # a call takes its time
        journal.note("goes")
        return number

    def parent(number):
        calls = [partial(call, number + each) for each in range(6)]
        return run(calls, strategy="asyncio(max_concurrency=2)").values

    report = engine.map(parent, [0, 10], strategy="processes(max_workers=1)")

    assert report.values == [list(range(6)), list(range(10, 16))]
    assert journal.peak() == 2


def test_leaving_early_ends_parents_and_children(engine, journal):
    """Closing the outer stream gives back the slots of all; the next run has them at once."""

    def child(number):
        journal.note(f"child {number}")
        time.sleep(60)

    def parent(number):
        return nested([partial(child, number)]) if number else number

    spec = "processes(max_workers=2, grace=0.2)"
    with engine.stream_map(parent, range(5), strategy=spec) as stream:
        first = next(stream)
        until(lambda: len(journal.words()) == 2)
        began = time.monotonic()
    seconds = time.monotonic() - began

    assert first.index == 0
    assert {outcome.status for outcome in stream.report if outcome.index} == {"cancelled"}
    assert seconds < 20
    assert engine.map(abs, [-1, -2], strategy=spec).values == [1, 2]
