"""The caller's input as a source of tasks: a sequence, or an iterable.

A sequence is read in place.
Anything else is read by one reader of its own, a bounded read-ahead in front,
so that finished outcomes flow while the input blocks, and closing never waits for it.
"""

import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar
from functools import partial
from typing import Any

from stratagem.batch import MakeBatch, as_range
from stratagem.scope import hold_nothing
from stratagem.source import AT_ONCE, TaskSource
from stratagem.stages import Stage, Stages
from stratagem.task import Task, Wait

__all__ = [
    "Intake",
    "IteratorIntake",
    "ReadIntake",
    "SequenceIntake",
    "input_read_here",
    "outside_of_inputs",
]

READ_AHEAD = 192
"""How many items to read ahead: more than a hundred coroutines take, with a half of it left,
in one turn of their loop, which keeps the interpreter from the reader as long."""
GIVE_WAY = 0.001
"""Seconds that a taker waits at the most for a reader that has kept up so far."""
_FOREVER = Wait()

MakeTask = Callable[[int, Any], Task]

_read_here: "ContextVar[ReadIntake | None]" = ContextVar("stratagem_input", default=None)


def input_read_here() -> "ReadIntake | None":
    """Give the intake whose input is the code that runs here; None where that is no input."""
    return _read_here.get()


@contextmanager
def outside_of_inputs() -> Iterator[None]:
    """Have the code inside be no part of the input that is read here."""
    token = _read_here.set(None)
    try:
        yield
    finally:
        _read_here.reset(token)


class Intake(TaskSource):
    """Be a source at the root, made of the caller's items.

    Attributes:
        failure: what the input raised, once it has; the run ends with it.
        exhausted: whether the input was read to its end, and all of it was taken.
        bound: the bound that kept it from that; None for none.
    """

    def __init__(self, make: MakeTask, make_batch: MakeBatch | None = None) -> None:
        super().__init__()
        self._make = make
        self._make_batch = make_batch
        self.failure: BaseException | None = None
        self.exhausted = False
        self.bound: str | None = None

    @property
    def unfollowed(self) -> Counter[str]:
        """Count, by why, the items that tasks have led to and that are not run."""
        return Counter()

    def fail(self, error: BaseException) -> None:
        """Take no more: the input, or what makes tasks of it, raised ``error``."""
        if self.failure is None:
            self.failure = error
        self._end()

    def _end(self) -> None:
        raise NotImplementedError

    def settle_stages(self) -> None:
        """Wait, once this is closed, until the streams that it read are settled."""

    def is_read_in(self, _ident: int) -> bool:
        """Tell whether that thread is busy with the input, or with one further up."""
        return False


class SequenceIntake(Intake):
    """Read a sequence in place."""

    def __init__(
        self, items: Sequence[Any], make: MakeTask, make_batch: MakeBatch | None = None
    ) -> None:
        super().__init__(make, make_batch)
        self._items = items
        self._size = len(items)
        self._positions = itertools.count()

    def poll(self) -> Task | None:
        """Give the task of the next item."""
        if self._closed:
            return None
        index = next(self._positions)
        if index >= self._size:
            self.exhausted = self.failure is None
            return None
        try:
            return self._make(index, self._items[index])
        except BaseException as error:  # noqa: BLE001 - the run ends with it, on the consumer's side
            self.fail(error)
            return None

    def poll_some(self, most: int) -> tuple[Sequence[Task], Wait | None]:
        """Give the tasks of up to ``most`` items, and None with them when there are no more."""
        if self._make_batch is None:
            return super().poll_some(most)
        if self._closed:
            return (), None
        indices = as_range(list(itertools.islice(self._positions, most)))
        is_end = indices[-1] >= self._size
        if is_end:
            indices = indices[: max(0, self._size - indices[0])]
        items: list[Any] = []
        try:
            items.extend(map(self._items.__getitem__, indices))
        except BaseException as error:  # noqa: BLE001 - as in poll
            self.fail(error)
            indices, is_end = indices[: len(items)], True
        if is_end:
            self.exhausted = self.failure is None
        return self._make_batch(indices, items), None if is_end else AT_ONCE

    def __iter__(self) -> Iterator[Task]:
        """Take until there are no more; several threads may iterate at once."""
        items, make = self._items, self._make
        for index in self._positions:
            if self._closed:
                return
            if index >= self._size:
                self.exhausted = self.failure is None
                return
            try:
                task = make(index, items[index])
            except BaseException as error:  # noqa: BLE001 - as in poll
                self.fail(error)
                return
            yield task

    def _end(self) -> None:
        self._size = 0


class ReadIntake(Intake):
    """Hold the read-ahead between one reader and any number of takers.

    Attributes:
        stages: the streams that the reader reads.
    """

    def __init__(
        self, make: MakeTask, context: Context, make_batch: MakeBatch | None = None
    ) -> None:
        super().__init__(make, make_batch)
        self._context = context
        context.run(hold_nothing)
        context.run(_read_here.set, self)
        self.stages = Stages()
        self._read: deque[tuple[int, Any]] = deque()
        self._over = False
        self._starved = False
        self._reader_waits = False
        self._started = False
        self._starting = threading.Lock()

    def poll(self) -> Task | Wait | None:
        """Give the task of the next item that was read; the first poll starts the reader."""
        if self._closed:
            return None
        try:
            index, item = self._read.popleft()
        except IndexError:
            if not self._started:
                self._start_once()
            self._starved = True  # first, else what is read now would wake nobody
            over = self._over
            try:
                index, item = self._read.popleft()
            except IndexError:
                if not over:
                    return _FOREVER
                self.exhausted = self.failure is None
                return None
        self._refill()
        try:
            return self._make(index, item)
        except BaseException as error:  # noqa: BLE001 - the run ends with it, on the consumer's side
            self.fail(error)
            return None

    def poll_some(self, most: int) -> tuple[Sequence[Task], Wait | None]:
        """Give the tasks of up to ``most`` items that were read, or what else a poll gives."""
        entries: list[tuple[int, Any]] = []
        if self._make_batch is not None and not self._closed:
            with suppress(IndexError):  # another takes, too, or the input has failed
                entries.extend(self._read.popleft() for _ in range(min(most, len(self._read))))
        if not entries or self._make_batch is None:
            return super().poll_some(most)
        self._refill()
        indices, items = zip(*entries, strict=True)
        return self._make_batch(as_range(indices), items), AT_ONCE

    def _refill(self) -> None:
        """Have the reader read on when a half of what it may read ahead was taken."""
        if self._reader_waits and len(self._read) <= READ_AHEAD // 2:
            self._reader_waits = False
            self._let_read_on()

    def _start_once(self) -> None:
        with self._starting:
            started, self._started = self._started, True
        if not (started or self._closed):
            self._start()

    def _start(self) -> None:
        raise NotImplementedError

    def _add(self, entry: tuple[int, Any]) -> None:
        self._read.append(entry)
        if self._starved:
            self._starved = False
            self.wake()

    def _resume_reader(self) -> None:
        raise NotImplementedError

    def _let_read_on(self) -> None:
        self._resume_reader()

    def _end(self) -> None:
        self._over = True
        self._read.clear()
        self._resume_reader()
        self.wake()

    def _finish(self, failure: BaseException | None) -> None:
        if not (self._closed or self._over):
            self.stages.forget()  # read as far as they were wanted
        if failure is not None and self.failure is None:
            self.failure = failure
        self._over = True
        self.wake()

    def close(self) -> None:
        """Give nothing more, stop the streams that are read, and let the reader go."""
        super().close()
        self.stages.stop()
        self._resume_reader()

    def settle_stages(self) -> None:
        """Wait, once this is closed, until the streams that it read are settled."""
        self.stages.settle()

    def is_read_in(self, ident: int) -> bool:
        """Tell whether that thread is busy with the input, or with one further up."""
        return self.stages.is_read_in(ident)


class IteratorIntake(ReadIntake):
    """Read an iterable in a thread of its own."""

    def __init__(
        self,
        items: Iterable[Any],
        make: MakeTask,
        context: Context,
        make_batch: MakeBatch | None = None,
    ) -> None:
        super().__init__(make, context, make_batch)
        self._items = items
        self._room = threading.Event()
        self._is_full = threading.Event()

    def _start(self) -> None:
        work = partial(self._context.run, self._read_all)
        threading.Thread(target=work, name="stratagem-reader", daemon=True).start()

    def _read_all(self) -> None:
        failure: BaseException | None = None
        try:
            iterator = iter(self._items)
            if isinstance(self._items, Stage):
                self.stages.add(self._items, self._items.stop)
            try:
                self._add_all(enumerate(iterator))
            finally:
                _close_quietly(iterator)
        except BaseException as error:  # noqa: BLE001 - handed to the consumer
            failure = _explained(error)
        self._finish(failure)
        self._is_full.set()

    def _add_all(self, entries: Iterator[tuple[int, Any]]) -> None:
        read = self._read
        for entry in entries:
            read.append(entry)
            if self._starved:
                self._starved = False
                self.wake()
            if len(read) >= READ_AHEAD:
                self._wait_for_room()
            if self._closed or self._over:
                return

    def _wait_for_room(self) -> None:
        while len(self._read) >= READ_AHEAD and not (self._closed or self._over):
            self._room.clear()
            self._reader_waits = True
            self._is_full.set()
            if len(self._read) >= READ_AHEAD and not (self._closed or self._over):
                self._room.wait()
            self._reader_waits = False

    def _resume_reader(self) -> None:
        self._room.set()

    def _let_read_on(self) -> None:
        """Have the reader read on, and give way: who never waits would keep the interpreter."""
        self._is_full.clear()
        self._room.set()
        self._is_full.wait(GIVE_WAY)


def _close_quietly(iterator: object) -> None:
    close = getattr(iterator, "close", None)
    if close is not None and hasattr(iterator, "send"):
        close()


def _explained(error: BaseException) -> BaseException:
    if type(error).__name__ == "ProgrammingError" and "thread" in str(error):
        error.add_note(
            "stratagem reads its input in a thread of its own: pass a list "
            "(`cursor.fetchall()`), or connect with `check_same_thread=False`"
        )
    return error
