"""The caller's input as a source: read in place, read ahead, and let go of when the run ends."""

import asyncio
import itertools
import sqlite3
import threading
from collections.abc import Sequence
from contextvars import ContextVar, copy_context

import pytest

from stratagem import DuplicateKeyError, Engine, Task, Wait
from stratagem.intake import READ_AHEAD, open_intake
from stratagem.loops import running_on

PATIENCE = 20.0
word = ContextVar("word", default="unset")


def make_task(index, item):
    return Task(index, str(index), str(item), lambda: item)


def opened(items, make=make_task):
    return open_intake(items, make, copy_context())


def names_of(intake):
    return [task.name for task in intake]


class Lazy(Sequence):
    """Note which positions are read, and raise at one of them."""

    def __init__(self, size, broken_at=None):
        self.size = size
        self.broken_at = broken_at
        self.reads = []

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        self.reads.append(index)
        if index == self.broken_at:
            raise OSError("the page is gone")
        return index


class WatchedEvent(threading.Event):
    """Say when somebody waits for it."""

    def __init__(self):
        super().__init__()
        self.awaited = threading.Semaphore(0)

    def wait(self, timeout=None):
        self.awaited.release()
        return super().wait(timeout)


def test_a_sequence_is_read_in_place_and_lazily():
    """Each poll reads the one item that it gives, and no copy is made."""
    items = Lazy(1000)
    intake = opened(items)
    before = list(items.reads)

    taken = [intake.poll().name for _ in range(3)]

    assert (before, taken, items.reads) == ([], ["0", "1", "2"], [0, 1, 2])


def test_a_sequence_ends_with_none_for_good():
    """After the last item a sequence has no more, however often one asks."""
    intake = opened([10, 20])

    assert names_of(intake) == ["10", "20"]
    assert [intake.poll(), intake.take(), intake.failure] == [None, None, None]


def test_a_sequence_that_raises_ends_with_its_error():
    """An item that can't be read ends the input as a failing generator does."""
    intake = opened(Lazy(10, broken_at=2))

    assert names_of(intake) == ["0", "1"]
    assert repr(intake.failure) == "OSError('the page is gone')"


@pytest.mark.parametrize("strategy", ["sequential", "threads", "asyncio"])
def test_a_run_over_a_sequence_that_raises_ends_with_its_error(strategy):
    """A sequence that raises midway ends the run, with that error and what was done till then."""
    with Engine() as engine, pytest.raises(OSError, match="the page is gone") as caught:
        engine.map(str, Lazy(10, broken_at=2), strategy=strategy)

    assert [outcome.value for outcome in caught.value.report] == ["0", "1"]
    assert caught.value.report.stopped == "input_failed"


def test_an_iterator_is_read_by_one_thread_of_its_own():
    """Whoever takes, and however many, the input sees one thread, which is none of theirs."""
    readers = set()

    def items():
        for item in range(2000):
            readers.add(threading.get_ident())
            yield item

    intake = opened(items())
    shares = [[] for _ in range(4)]
    takers = [
        threading.Thread(target=lambda share=share: share.extend(names_of(intake)), daemon=True)
        for share in shares
    ]
    idents = {threading.get_ident()}
    for taker in takers:
        taker.start()
        idents.add(taker.ident)
    for taker in takers:
        taker.join(PATIENCE)

    assert sorted(map(int, itertools.chain(*shares))) == list(range(2000))
    assert len(readers) == 1
    assert not readers & idents


def test_an_iterator_is_read_no_further_than_the_read_ahead():
    """With nobody taking, the reader stops after the read-ahead, and goes on when half is taken."""
    read = []
    intake = opened(read.append(n) or n for n in itertools.count())
    room = intake._room = WatchedEvent()

    intake.poll()
    assert room.awaited.acquire(timeout=PATIENCE)
    first = len(read)
    taken = [intake.take().name for _ in range(READ_AHEAD // 2 + 1)]
    assert room.awaited.acquire(timeout=PATIENCE)
    second = len(read)
    intake.close()

    assert READ_AHEAD <= first <= READ_AHEAD + 1
    assert taken[:3] in (["0", "1", "2"], ["1", "2", "3"])  # the first poll may have met one
    assert first + READ_AHEAD // 2 <= second <= first + READ_AHEAD // 2 + 2


def test_an_endless_input_gives_as_much_as_is_taken():
    """A generator without end can be taken from and closed like any other."""
    intake = opened(itertools.count())

    taken = [task.name for task in itertools.islice(intake, 500)]
    intake.close()

    assert taken == [str(n) for n in range(500)]
    assert intake.take() is None


def test_closing_does_not_wait_for_an_input_that_blocks():
    """A close returns, and frees who takes, while the input hangs in its next item."""
    hanging, release = threading.Event(), threading.Event()

    def items():
        yield 1
        hanging.set()
        release.wait(PATIENCE)
        yield 2

    intake = opened(items())
    first = intake.take()
    assert hanging.wait(PATIENCE)
    ends = []
    taker = threading.Thread(target=lambda: ends.append(intake.take()), daemon=True)
    taker.start()

    intake.close()
    taker.join(PATIENCE)

    assert not release.is_set()
    assert (first.name, ends) == ("1", [None])
    release.set()


def test_a_poll_does_not_wait_for_an_input_that_blocks():
    """While the input hangs, polling says to wait."""
    release = threading.Event()
    intake = opened(release.wait(PATIENCE) for _ in range(1))

    found = intake.poll()

    assert not release.is_set()
    assert found == Wait()
    release.set()
    intake.close()


def test_items_before_a_failure_are_delivered():
    """An input that raises midway gives what came before, and then says what it raised."""

    def items():
        yield from range(100)
        raise ValueError("line 101 is torn")

    intake = opened(items())

    assert names_of(intake) == [str(n) for n in range(100)]
    assert repr(intake.failure) == "ValueError('line 101 is torn')"


def test_closing_runs_the_end_of_a_generator():
    """The generator that was read is closed, by the thread that read it."""
    closed = threading.Event()
    threads = []

    def items():
        threads.append(threading.get_ident())
        try:
            yield from itertools.count()
        finally:
            threads.append(threading.get_ident())
            closed.set()

    intake = opened(items())
    intake.take()

    intake.close()

    assert closed.wait(PATIENCE)
    assert threads == [threads[0]] * 2


def test_a_closed_input_is_never_begun():
    """An input that nobody polled before the close is not touched."""
    begun = []
    intake = opened(begun.append(n) for n in range(3))

    intake.close()

    assert intake.poll() is None
    assert begun == []


def test_what_makes_the_tasks_may_fail_like_the_input():
    """An error in the making of a task ends the input with it, for all who take."""

    def make(index, item):
        if item == 2:
            raise KeyError("no such agent")
        return make_task(index, item)

    intake = opened((n for n in range(10)), make)

    assert names_of(intake) == ["0", "1"]
    assert repr(intake.failure) == "KeyError('no such agent')"
    assert intake.take() is None


def test_an_async_iterable_is_read_on_a_loop_of_its_own():
    """Without a loop of the caller's, async input is read on one in another thread."""
    threads = set()

    async def items():
        for n in range(200):
            threads.add(threading.get_ident())
            await asyncio.sleep(0)
            yield n

    intake = opened(items())

    assert names_of(intake) == [str(n) for n in range(200)]
    assert len(threads - {threading.get_ident()}) == 1


def test_an_async_iterable_is_read_on_the_loop_of_the_caller():
    """Where the caller has a loop, async input is read on it, between its other tasks."""
    loops = set()

    async def items():
        for n in range(100):
            loops.add(asyncio.get_running_loop())
            yield n

    async def main():
        with running_on(asyncio.get_running_loop()):
            intake = opened(items())
        names = await asyncio.to_thread(names_of, intake)
        return asyncio.get_running_loop(), names

    loop, names = asyncio.run(main())

    assert names == [str(n) for n in range(100)]
    assert loops == {loop}


def test_an_async_iterable_that_raises_delivers_what_came_before():
    """Async input that raises midway ends as plain input does."""

    async def items():
        for n in range(70):
            yield n
        raise ValueError("the feed broke")

    intake = opened(items())

    assert names_of(intake) == [str(n) for n in range(70)]
    assert repr(intake.failure) == "ValueError('the feed broke')"


def test_closing_lets_an_async_generator_clean_up():
    """A close cancels the async input once: however often it comes, the cleaning up is not cut."""
    hanging, cleaning, go_on, cleaned = (threading.Event() for _ in range(4))

    async def items():
        try:
            yield 1
            hanging.set()
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await asyncio.to_thread(go_on.wait, PATIENCE)
            cleaned.set()

    intake = opened(items())
    intake.take()
    assert hanging.wait(PATIENCE)

    intake.close()
    assert cleaning.wait(PATIENCE)
    intake.close()
    go_on.set()

    assert cleaned.wait(PATIENCE)
    assert intake.failure is None


def test_a_database_cursor_of_another_thread_says_what_to_do():
    """The error of a cursor that is bound to its thread comes with a note that names two ways out."""
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


@pytest.mark.parametrize("items", [None, 5, object()])
def test_what_cannot_be_iterated_is_refused_at_once(items):
    """Input that is no iterable is a TypeError that names its type."""
    with pytest.raises(TypeError) as caught:
        opened(items)

    assert str(caught.value) == (
        f"the input must be iterable, plainly or asynchronously, not '{type(items).__name__}'"
    )


def said_in_plain_input():
    yield word.get()
    word.set("changed by the input")
    yield word.get()


async def said_in_async_input():
    yield word.get()
    word.set("changed by the input")
    yield word.get()


@pytest.mark.parametrize("items", [said_in_plain_input, said_in_async_input])
def test_the_input_sees_the_context_of_the_caller_and_keeps_its_changes_to_itself(items):
    """A generator runs in the caller's context variables; what it sets reaches no task."""
    word.set("of the caller")

    with Engine() as engine:
        report = engine.map(lambda said: (said, word.get()), items(), strategy="threads")

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
        if next(ran) > 4 * READ_AHEAD:
            too_many.set()

    with (
        Engine() as engine,
        engine.stream_map(work, itertools.count(), strategy="threads") as stream,
    ):
        next(stream)

        assert not too_many.wait(0.3)
