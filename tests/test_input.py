"""What a run makes of its input: failing, empty, blocking, endless, with keys, with context."""

import asyncio
import itertools
import sqlite3
import threading
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from stratagem import DuplicateKeyError, Engine
from stratagem.intake import READ_AHEAD

PATIENCE = 20.0
word = ContextVar("word", default="unset")


class Lazy(Sequence):
    """Raise where one of the items is read."""

    def __init__(self, size, broken_at):
        self.size = size
        self.broken_at = broken_at

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if index == self.broken_at:
            raise OSError("the page is gone")
        return index


@pytest.mark.parametrize("strategy", ["sequential", "threads", "asyncio"])
def test_a_run_over_a_sequence_that_raises_ends_with_its_error(strategy):
    """A sequence that raises midway ends the run, with that error and what was done till then."""
    with Engine() as engine, pytest.raises(OSError, match="the page is gone") as caught:
        engine.map(str, Lazy(10, broken_at=2), strategy=strategy)

    assert [outcome.value for outcome in caught.value.report] == ["0", "1"]
    assert caught.value.report.stopped == "input_failed"


def test_a_database_cursor_of_another_thread_says_what_to_do():
    """The error of a cursor bound to its thread comes with a note that names two ways out."""
    with sqlite3.connect(":memory:") as connection, Engine() as engine:
        rows = connection.execute("values (1), (2)")
        with pytest.raises(sqlite3.ProgrammingError) as caught:
            engine.map(str, rows, strategy="threads")
    connection.close()

    assert caught.value.__notes__ == [
        "stratagem reads its input in a thread of its own: pass a list "
        "(`cursor.fetchall()`), or connect with `check_same_thread=False`"
    ]


def test_a_database_cursor_that_may_change_threads_works():
    """The way out that the note names is one."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    rows = connection.execute("values (1), (2)")

    with Engine() as engine:
        report = engine.map(str, rows, strategy="threads")
    connection.close()

    assert report.values == ["(1,)", "(2,)"]


def said_in_plain_input():
    yield word.get()
    word.set("changed by the input")
    yield word.get()


async def said_in_async_input():
    yield word.get()
    word.set("changed by the input")
    yield word.get()


def mapped(engine, function, items):
    return engine.map(function, items, strategy="threads")


def mapped_on_a_loop(engine, function, items):
    return asyncio.run(engine.amap(function, items, strategy="threads"))


@pytest.mark.parametrize("items", [said_in_plain_input, said_in_async_input])
@pytest.mark.parametrize("run", [mapped, mapped_on_a_loop])
def test_the_input_sees_the_context_of_the_caller_and_keeps_its_changes_to_itself(items, run):
    """A generator runs in the caller's context variables; what it sets reaches no task."""
    word.set("of the caller")

    with Engine() as engine:
        report = run(engine, lambda said: (said, word.get()), items())

    assert report.values == [
        ("of the caller", "of the caller"),
        ("changed by the input", "of the caller"),
    ]
    assert word.get() == "of the caller"


@pytest.mark.parametrize("items", [[], (), iter(()), (n for n in ())])
def test_an_empty_input_is_a_success_of_no_tasks(items):
    """A run of nothing gives a whole report of no tasks."""
    with Engine() as engine:
        report = engine.map(str, items, strategy="threads")

    assert (report.values, report.ok, report.stopped, len(report)) == ([], True, None, 0)


def test_a_key_that_comes_twice_in_a_sequence_is_refused_before_anything_runs():
    """Keys of a sequence are all looked at first, and both positions are named."""
    ran = []

    with Engine() as engine, pytest.raises(DuplicateKeyError) as caught:
        engine.map(ran.append, ["a", "b", "a"], key=str, strategy="sequential")

    assert (caught.value.key, caught.value.positions, ran) == ("a", (0, 2), [])


def test_a_key_that_comes_twice_in_a_generator_ends_the_run_there():
    """Keys of a generator are looked at as they come; what ran before is in the report."""
    ran = []

    with Engine() as engine, pytest.raises(DuplicateKeyError) as caught:
        engine.map(ran.append, iter("abac"), key=str, strategy="sequential")

    assert (caught.value.key, caught.value.positions, ran) == ("a", (0, 2), ["a", "b"])
    assert len(caught.value.report) == 2


def test_finished_outcomes_flow_while_the_input_blocks():
    """What was read is run and handed out while the input still waits for its next item."""
    release = threading.Event()

    def items():
        yield 1
        yield 2
        release.wait(PATIENCE)
        yield 3

    with Engine() as engine, engine.stream_map(str, items(), strategy="threads") as stream:
        early = sorted(next(stream).value for _ in range(2))
        was_released = release.is_set()
        release.set()
        late = [outcome.value for outcome in stream]

    assert (early, was_released, late) == (["1", "2"], False, ["3"])


def test_a_consumer_that_does_not_read_holds_the_run_back():
    """With one outcome read, the tasks of an endless input begun stay within the bounds."""
    ran, too_many = itertools.count(), threading.Event()

    def work(_item):
        if next(ran) > 6 * READ_AHEAD:
            too_many.set()

    with (
        Engine() as engine,
        engine.stream_map(work, itertools.count(), strategy="threads") as stream,
    ):
        next(stream)

        assert not too_many.wait(0.3)
