"""Snapshots: what a run is doing, asked from outside while it does it."""

import threading
import time

import pytest

import stratagem
from stratagem import Engine, Run, RunningTask, Snapshot, Status, StreamingStrategy, hookimpl

PATIENCE = 20.0
TELLING = ["threads(max_workers=2)", "asyncio(max_concurrency=2)"]


def until(condition):
    """Wait for what another thread brings about; fail if it does not."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Gate:
    """Hold tasks, by key, until they are let go."""

    def __init__(self):
        self.go = threading.Event()

    def work(self, key):
        if key.startswith("wait"):
            assert self.go.wait(PATIENCE)
        if key.startswith("fail"):
            raise ValueError(key)
        return key


@pytest.mark.parametrize("spec", [*TELLING, "retry(threads(max_workers=2), attempts=1)"])
def test_a_snapshot_tells_what_runs_what_waits_and_what_is_done(engine, spec):
    """Keys and ages of what runs, oldest first; the rest as numbers."""
    gate, read = Gate(), []
    keys = ["ok", "fail", "wait-1", "wait-2", "last"]
    stream = engine.stream_map(gate.work, keys, key=str, strategy=spec, log="error")
    reader = threading.Thread(target=lambda: read.extend(stream))
    before = stream.run.snapshot()
    reader.start()
    until(lambda: stream.run.snapshot().done == 2 and len(stream.run.snapshot().running) == 2)
    during = stream.run.snapshot()
    gate.go.set()
    reader.join(PATIENCE)
    after = stream.run.snapshot()

    assert (before.waiting, before.running, before.done, before.seconds) == (5, (), 0, 0.0)
    assert (during.total, during.waiting, during.taken, during.in_flight) == (5, 1, 0, 2)
    assert (during.done, during.failed) == (2, 1)
    assert during.counts == {Status.OK: 1, Status.ERROR: 1}
    assert sorted(task.key for task in during.running) == ["wait-1", "wait-2"]
    ages = [task.seconds for task in during.running]
    assert ages == sorted(ages, reverse=True)
    assert 0 < ages[-1] <= ages[0] <= during.seconds < PATIENCE
    assert all(task.name.endswith("Gate.work") and task.worker for task in during.running)
    assert sorted(sum(during.workers.values(), ())) == ["wait-1", "wait-2"]
    assert (during.awaits_reader, during.awaits_input, during.stopped) == (False, False, None)
    assert (after.done, after.running, after.taken, after.waiting) == (5, (), 0, 0)
    assert after.seconds == stream.report.seconds


def test_a_run_of_unknown_length_waits_for_nobody_knows_how_many(engine):
    """Without a total there is no number of those that wait."""
    gate = Gate()

    def items():
        yield "wait"
        assert gate.go.wait(PATIENCE)

    with engine.stream_map(gate.work, items(), strategy="threads(max_workers=2)") as stream:
        reader = threading.Thread(target=lambda: list(stream))
        reader.start()
        until(lambda: stream.run.snapshot().running and stream.run.snapshot().awaits_input)
        during = stream.run.snapshot()
        gate.go.set()
        reader.join(PATIENCE)

    assert (during.total, during.waiting, during.in_flight) == (None, None, 1)
    assert not stream.run.snapshot().awaits_input


def test_nested_runs_are_seen_below_their_parent(engine):
    """What a task has started is a snapshot of its own, as deep as it goes."""
    gate = Gate()

    def leaf():
        gate.work("wait")

    def inner():
        stratagem.nested([leaf, leaf])

    stream = engine.stream_map(lambda _: stratagem.nested([inner]), [0], strategy="threads")
    reader = threading.Thread(target=lambda: list(stream))
    reader.start()
    until(lambda: sum(len(s.running) for s in stream.run.snapshot().descendants) == 3)
    during = stream.run.snapshot()
    gate.go.set()
    reader.join(PATIENCE)

    (child,) = during.nested
    (grandchild,) = child.nested
    assert [len(s.running) for s in (during, child, grandchild)] == [1, 1, 2]
    assert list(during.descendants) == [child, grandchild]
    assert stream.run.snapshot().nested == ()


def test_two_runs_on_one_strategy_are_told_apart():
    """Each shows its own tasks, though one pool runs both."""
    gate = Gate()
    with Engine("threads(max_workers=2)") as engine:
        streams = [engine.stream_map(gate.work, [f"wait-{n}"], key=str) for n in range(2)]
        readers = [threading.Thread(target=lambda s=s: list(s)) for s in streams]
        for reader in readers:
            reader.start()
        until(lambda: all(s.run.snapshot().running for s in streams))
        shown = [[task.key for task in s.run.snapshot().running] for s in streams]
        gate.go.set()
        for reader in readers:
            reader.join(PATIENCE)

    assert shown == [["wait-0"], ["wait-1"]]


@pytest.mark.parametrize("spec", ["sequential", "processes(max_workers=1)"])
def test_what_was_taken_is_never_lost_from_sight(engine, spec):
    """Whether or not a strategy tells what it has begun, taken, waiting and done make the total."""
    shown = []

    class Looking:
        @hookimpl
        def stratagem_after_task(self, run):
            shown.append(run.snapshot())

    with Engine(spec, plugins=[Looking()]) as own:
        own.map(abs, range(5))

    assert all(one.waiting + one.in_flight + one.done == 5 for one in shown)
    assert [one.done for one in shown] == [1, 2, 3, 4, 5]


def test_a_run_that_is_being_stopped_says_why_and_how_long_it_may_take(engine):
    """The grace is that of the strategy, also below a wrapper."""
    gate = Gate()
    spec = "retry(threads(max_workers=1, grace=7))"
    stream = engine.stream_map(gate.work, ["wait"], strategy=spec)
    reader = threading.Thread(target=lambda: list(stream))
    reader.start()
    until(lambda: stream.run.snapshot().running)
    stream.stop()
    during = stream.run.snapshot()
    gate.go.set()
    reader.join(PATIENCE)

    assert (during.stopped, during.grace, during.in_flight) == ("closed", 7.0, 1)


def test_a_stream_that_nobody_reads_says_so(engine):
    """Between two reads nobody does."""
    with engine.stream_map(abs, range(5), strategy="threads") as stream:
        next(stream)
        between = stream.run.snapshot()

    assert between.awaits_reader
    assert not stream.run.snapshot().awaits_reader


def test_a_run_that_nothing_runs_has_an_empty_snapshot(engine):
    """A record made by hand, or one whose stream is gone, tells what it knows."""
    run = engine.stream_map(abs, range(3), strategy="threads").run

    assert Run("threads", total=2).snapshot().waiting == 2
    assert run.snapshot() == Snapshot(run.id, "abs", 3)


def test_a_strategy_whose_streams_change_while_it_tells_is_asked_again(engine):
    """A set that changes while it is gone through is no error for who looks."""

    class Restless(StreamingStrategy):
        asked = 0

        def stream(self, tasks):
            for task in tasks:
                yield stratagem.invoke(task)

        def running(self):
            self.asked += 1
            raise RuntimeError("Set changed size during iteration")

    strategy = Restless()
    with engine.stream_map(abs, range(3), strategy=strategy) as stream:
        next(stream)
        assert stream.run.snapshot().running == ()

    assert strategy.asked > 1


def test_a_snapshot_is_cheap(engine):
    """A display that looks ten times a second costs a thousandth of one CPU."""
    with engine.stream_map(abs, range(3), strategy="threads") as stream:
        next(stream)
        began = time.perf_counter()
        for _ in range(1_000):
            stream.run.snapshot()
        seconds = time.perf_counter() - began

    assert seconds < 1.0


def test_workers_are_those_that_run_something():
    """Several tasks of one worker stand together."""
    tasks = [
        RunningTask(key, "n", 1.0, worker) for key, worker in [("a", "w"), ("b", "v"), ("c", "w")]
    ]

    assert Snapshot("r", running=tuple(tasks)).workers == {"w": ("a", "c"), "v": ("b",)}
