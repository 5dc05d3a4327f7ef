"""The caller's input as a source: read in place, read ahead, and let go of when the run ends."""

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import Sequence
from contextvars import ContextVar, copy_context

import pytest

from stratagem import Task, Wait
from stratagem.intake import READ_AHEAD
from stratagem.loops import running_on
from stratagem.opening import open_intake

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


def test_an_iterator_is_read_by_one_thread_of_its_own():
    """Whoever takes, and however many, the input sees one thread, which is none of theirs."""
    readers = set()

    def items():
        for item in range(2000):
            readers.add(threading.get_ident())
            yield item

    intake = opened(items())
    shares = [[] for _ in range(4)]
    together = threading.Barrier(4, timeout=PATIENCE)

    def take_all(share):
        together.wait()
        share.extend(names_of(intake))

    takers = [threading.Thread(target=take_all, args=(share,), daemon=True) for share in shares]
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


class Racing(deque):
    """Have the reader bring the last item and end just after a taker found nothing."""

    def popleft(self):
        try:
            return super().popleft()
        except IndexError:
            if not self.intake._over:
                self.intake._read.append((0, "late"))
                self.intake._finish(None)
            raise


def test_an_item_that_comes_with_the_end_is_not_missed():
    """When item and end come between a look for items and a look for the end, the item counts."""
    intake = opened(iter(()))
    intake._started = True  # the test is the reader
    intake._read = Racing()
    intake._read.intake = intake

    found = intake.poll()

    assert found.name == "late"
    assert list(intake) == []


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


@pytest.mark.parametrize("items", [None, 5, object()])
def test_what_cannot_be_iterated_is_refused_at_once(items):
    """Input that is no iterable is a TypeError that names its type."""
    with pytest.raises(TypeError) as caught:
        opened(items)

    assert str(caught.value) == (
        f"the input must be iterable, plainly or asynchronously, not '{type(items).__name__}'"
    )
