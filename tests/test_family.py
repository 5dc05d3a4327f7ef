"""Nested runs and the run that they are nested in: they stop together, whatever stops it."""

import itertools
import threading
import time
from functools import partial

import pytest

import stratagem
from stratagem import Engine, TaskCancelledError, nested, nested_async
from stratagem_builtin import ThreadPoolStrategy

PATIENCE = 20.0
SHARED = ["threads(max_workers=3, grace=0.1)", "asyncio(max_concurrency=3, grace=0.1)"]


def refuse(number):
    raise ValueError(number)


class Children:
    """Count children that begin, each of which blocks until it is let go."""

    def __init__(self):
        self.begun = threading.Semaphore(0)
        self.count = itertools.count()
        self.seen = 0
        self.go = threading.Event()

    def child(self):
        self.seen = next(self.count) + 1
        self.begun.release()
        self.go.wait(PATIENCE)

    def parent(self, _item):
        return nested([self.child] * 1_000)

    def mapping_parent(self, _item):
        return stratagem.map(lambda _: self.child(), range(1_000), strategy="threads").values


def settled(read, patience=1.0):
    """Give a count once it has not changed for a moment."""
    deadline = time.monotonic() + PATIENCE
    last, since = read(), time.monotonic()
    while time.monotonic() - since < patience and time.monotonic() < deadline:
        if read() != last:
            last, since = read(), time.monotonic()
        time.sleep(0.01)
    return last


@pytest.mark.parametrize("spec", SHARED)
@pytest.mark.parametrize("form", ["parent", "mapping_parent"])
def test_closing_a_run_stops_what_its_tasks_have_started(spec, form):
    """No child begins once the run of its parent is closed, by ``nested`` or a run of its own."""
    children = Children()
    with Engine(spec) as engine:
        stream = engine.stream_map(getattr(children, form), [0])
        reader = threading.Thread(target=lambda: list(stream))
        reader.start()
        assert children.begun.acquire(timeout=PATIENCE)
        assert children.begun.acquire(timeout=PATIENCE)
        stream.close()
        seen = children.seen
        children.go.set()
        reader.join(PATIENCE)
        after = settled(lambda: children.seen)

    assert after <= seen + 1
    assert [outcome.status for outcome in stream.report] == ["cancelled"]


@pytest.mark.parametrize("spec", SHARED)
def test_a_parent_over_its_timeout_takes_its_children_along(spec):
    """What a task has started stops when the task is given up."""
    children = Children()
    with Engine(spec) as engine:
        report = engine.map(children.parent, [0], timeout=0.3)
        seen = children.seen
        children.go.set()
        after = settled(lambda: children.seen)

    assert [outcome.status for outcome in report] == ["timeout"]
    assert after <= seen + 3


def test_an_async_parent_over_its_timeout_takes_its_children_along():
    """As a sync one does: the cancel of the parent stops its children."""
    children = Children()

    async def parent(_item):
        return await nested_async([children.child] * 1_000)

    with Engine("asyncio(max_concurrency=3, grace=0.1)") as engine:
        report = engine.map(parent, [0], timeout=0.3)
        seen = children.seen
        children.go.set()
        after = settled(lambda: children.seen)

    assert [outcome.status for outcome in report] == ["timeout"]
    assert after <= seen + 3


def test_a_run_of_its_own_goes_on_while_its_task_may():
    """What a task runs by an engine is its own affair as long as the grace lasts."""
    inside, go = threading.Event(), threading.Event()

    def hold(number):
        inside.set()
        assert go.wait(PATIENCE)
        return number

    with Engine("threads(max_workers=1, grace=30)") as engine:
        stream = engine.stream_map(
            lambda _: stratagem.map(hold, range(20), strategy="sequential").values, [0]
        )
        reader = threading.Thread(target=lambda: list(stream))
        reader.start()
        assert inside.wait(PATIENCE)
        stream.stop()
        go.set()
        reader.join(PATIENCE)

    assert [outcome.value for outcome in stream.report] == [list(range(20))]


def test_a_new_attempt_ends_what_the_last_one_started():
    """Children of an attempt that timed out do not run beside those of the next."""
    attempts, began, go = [], threading.Semaphore(0), threading.Event()

    def child(attempt):
        attempts.append(attempt)
        began.release()
        go.wait(PATIENCE if attempt == 1 else 0)

    def parent(_item):
        attempt = stratagem.current_task().attempt
        calls = [lambda attempt=attempt: child(attempt)] * (100 if attempt == 1 else 1)
        return len(nested(calls))

    spec = "retry(threads(max_workers=3, grace=0.1), wait_initial=0, wait_jitter=0)"
    with Engine(spec) as engine:
        report = engine.map(parent, [0], timeout=1.0)
        go.set()
        seen = settled(lambda: len(attempts))

    assert report.values == [1]
    assert attempts.count(2) == 1
    assert seen < 10


def test_a_run_inside_a_stopped_task_says_so():
    """Its report would lack tasks, so it raises where it is read, and the parent is cancelled."""
    raised, inside, go = [], threading.Event(), threading.Event()

    def parent(_item):
        def child(number):
            inside.set()
            go.wait(PATIENCE)
            return number

        try:
            return nested([partial(child, number) for number in range(100)])
        except TaskCancelledError as error:
            raised.append((error.key, error.report.stopped, len(error.report)))
            raise

    with Engine("threads(max_workers=1, grace=30)") as engine:
        stream = engine.stream_map(parent, [0])
        reader = threading.Thread(target=lambda: list(stream))
        reader.start()
        assert inside.wait(PATIENCE)
        stream.stop()
        go.set()
        reader.join(PATIENCE)

    assert raised == [("0", "parent_stopped", 1)]
    assert [outcome.status for outcome in stream.report] == ["cancelled"]


def test_what_a_given_up_task_starts_later_does_not_run():
    """A thread that nobody waits for any more can start no further work."""
    go, said, ran = threading.Event(), [], []

    def parent(_item):
        go.wait(PATIENCE)
        try:
            nested([lambda: ran.append(1)])
        except TaskCancelledError as error:
            said.append(str(error))

    with Engine("threads(max_workers=1)") as engine:
        report = engine.map(parent, [0], timeout=0.1)
        go.set()
        settled(lambda: len(said), patience=0.5)

    assert [outcome.status for outcome in report] == ["timeout"]
    assert said == ["task '0' was cancelled: the task that started this run was stopped"]
    assert ran == []


def test_a_batch_without_an_engine_stops_its_children_too():
    """``run_tasks`` of a strategy object has families as an engine has."""
    children = Children()

    def fail():
        assert children.begun.acquire(timeout=PATIENCE)
        raise ZeroDivisionError

    with ThreadPoolStrategy(4, grace=0.1) as strategy:
        with pytest.raises(ZeroDivisionError):
            strategy.run_tasks([lambda: children.parent(0), fail])
        seen = children.seen
        children.go.set()
        after = settled(lambda: children.seen)

    assert after <= seen + 3


@pytest.mark.parametrize("spec", ["threads(grace={})", "asyncio(grace={})", "processes(grace={})"])
def test_a_grace_that_no_clock_can_count_is_a_long_one(spec):
    """A grace of ages stops a run as another does, also one inside a task."""
    with Engine(spec.format("1e300")) as engine:
        report = engine.map(refuse, itertools.count(), max_errors=1)
        assert report.stopped == "max_errors"
