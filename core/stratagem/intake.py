"""The caller's input as a source of tasks: a sequence, or an iterable, plain or async.

A sequence is read in place.
Anything else is read by one reader of its own, a bounded read-ahead in front,
so that finished outcomes flow while the input blocks, and closing never waits for it.
"""

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from contextvars import Context
from typing import Any, cast

from stratagem.loops import calling_loop
from stratagem.source import TaskSource
from stratagem.task import Task, Wait

__all__ = ["AsyncIntake", "Intake", "IteratorIntake", "SequenceIntake", "open_intake"]

READ_AHEAD = 64
_FOREVER = Wait()

MakeTask = Callable[[int, Any], Task]


class Intake(TaskSource):
    """Be a source at the root, made of the caller's items.

    Attributes:
        failure: what the input raised, once it has; the run ends with it.
        exhausted: whether the input was read to its end, and all of it was taken.
    """

    def __init__(self, make: MakeTask) -> None:
        super().__init__()
        self._make = make
        self.failure: BaseException | None = None
        self.exhausted = False

    def _made(self, index: int, item: object) -> Task | None:
        try:
            return self._make(index, item)
        except BaseException as error:  # noqa: BLE001 - the run ends with it, on the consumer's side
            self.fail(error)
            return None

    def fail(self, error: BaseException) -> None:
        """Take no more: the input, or what makes tasks of it, raised ``error``."""
        if self.failure is None:
            self.failure = error
        self._end()

    def _end(self) -> None:
        raise NotImplementedError


class SequenceIntake(Intake):
    """Read a sequence in place."""

    def __init__(self, items: Sequence[Any], make: MakeTask) -> None:
        super().__init__(make)
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

    def __iter__(self) -> Iterator[Task]:
        """Take until there are no more; several threads may iterate at once."""
        while (task := self.poll()) is not None:
            yield task

    def _end(self) -> None:
        self._size = 0


class _ReadIntake(Intake):
    """Hold the read-ahead between one reader and any number of takers."""

    def __init__(self, make: MakeTask) -> None:
        super().__init__(make)
        self._read: deque[tuple[int, Any]] = deque()
        self._over = False
        self._reader_waits = False

    def poll(self) -> Task | Wait | None:
        """Give the task of the next item that was read."""
        if self._closed:
            return None
        over = self._over
        try:
            index, item = self._read.popleft()
        except IndexError:
            if not over:
                return _FOREVER
            self.exhausted = self.failure is None
            return None
        if self._reader_waits and len(self._read) <= READ_AHEAD // 2:
            self._resume_reader()
        return self._made(index, item)

    def _resume_reader(self) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        self._over = True
        self._read.clear()
        self._resume_reader()
        self.wake()

    def _finish(self, failure: BaseException | None) -> None:
        if failure is not None and self.failure is None:
            self.failure = failure
        self._over = True
        self.wake()

    def close(self) -> None:
        """Give nothing more, and let the reader go."""
        super().close()
        self._resume_reader()


class IteratorIntake(_ReadIntake):
    """Read an iterable in a thread of its own."""

    def __init__(self, items: Iterable[Any], make: MakeTask, context: Context) -> None:
        super().__init__(make)
        self._items = items
        self._room = threading.Event()
        reader = threading.Thread(
            target=context.run, args=(self._read_all,), name="stratagem-reader", daemon=True
        )
        self._start: Callable[[], None] | None = reader.start
        self._starting = threading.Lock()

    def poll(self) -> Task | Wait | None:
        """Give the task of the next item that was read; the first poll starts the reader."""
        if self._start is not None:
            with self._starting:
                start, self._start = self._start, None
            if start is not None and not self._closed:
                start()
        return super().poll()

    def _read_all(self) -> None:
        failure: BaseException | None = None
        try:
            iterator = iter(self._items)
            try:
                for entry in enumerate(iterator):
                    self._read.append(entry)
                    self.wake()
                    if not self._has_room():
                        break
            finally:
                _close_quietly(iterator)
        except BaseException as error:  # noqa: BLE001 - handed to the consumer
            failure = _explained(error)
        self._finish(failure)

    def _has_room(self) -> bool:
        while len(self._read) >= READ_AHEAD and not (self._closed or self._over):
            self._room.clear()
            self._reader_waits = True
            if len(self._read) >= READ_AHEAD and not (self._closed or self._over):
                self._room.wait()
            self._reader_waits = False
        return not (self._closed or self._over)

    def _resume_reader(self) -> None:
        self._room.set()


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


class AsyncIntake(_ReadIntake):
    """Read an async iterable: on the caller's loop where there is one, else on one of its own."""

    def __init__(self, items: AsyncIterable[Any], make: MakeTask, context: Context) -> None:
        super().__init__(make)
        self._items = items
        self._context = context
        self._loop = calling_loop()
        self._room: asyncio.Event | None = None
        self._reader: asyncio.Task[None] | None = None
        self._started = False
        self._cancelled = False
        self._starting = threading.Lock()

    def poll(self) -> Task | Wait | None:
        """Give the task of the next item that was read; the first poll starts the reader."""
        if not self._started:
            with self._starting:
                started, self._started = self._started, True
            if not started and not self._closed:
                self._start()
        return super().poll()

    def _start(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._start_on_loop)
        else:
            threading.Thread(
                target=self._context.run,
                args=(asyncio.run, self._read_all()),
                name="stratagem-reader",
                daemon=True,
            ).start()

    def _start_on_loop(self) -> None:
        assert self._loop is not None
        self._reader = self._loop.create_task(self._read_all(), context=self._context)

    async def _read_all(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = cast("asyncio.Task[None]", asyncio.current_task())
        self._room = asyncio.Event()
        failure: BaseException | None = None
        try:
            await self._read_until_closed(self._room)
        except asyncio.CancelledError as error:
            failure = None if self._closed else error
        except BaseException as error:  # noqa: BLE001 - handed to the consumer
            failure = error
        self._finish(failure)

    async def _read_until_closed(self, room: asyncio.Event) -> None:
        iterator = aiter(self._items)
        index = 0
        try:
            while not (self._closed or self._over):
                try:
                    item = await anext(iterator)
                except StopAsyncIteration:
                    return
                self._read.append((index, item))
                index += 1
                self.wake()
                await self._wait_for_room(room)
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()

    async def _wait_for_room(self, room: asyncio.Event) -> None:
        while len(self._read) >= READ_AHEAD and not (self._closed or self._over):
            room.clear()
            self._reader_waits = True
            if len(self._read) >= READ_AHEAD and not (self._closed or self._over):
                await room.wait()
            self._reader_waits = False

    def _resume_reader(self) -> None:
        loop, room = self._loop, self._room
        if loop is None or room is None:
            return
        try:
            loop.call_soon_threadsafe(room.set)
        except RuntimeError:  # the reader's loop has ended, and the reader with it
            return

    def close(self) -> None:
        """Give nothing more, and cancel the reader, once: a second time would cut its end short."""
        super().close()
        with self._starting:
            cancelled, self._cancelled = self._cancelled, True
        loop, reader = self._loop, self._reader
        if cancelled or loop is None or reader is None:
            return
        try:
            loop.call_soon_threadsafe(reader.cancel)
        except RuntimeError:  # the reader's loop has ended, and the reader with it
            return


def open_intake(
    items: Iterable[Any] | AsyncIterable[Any], make: MakeTask, context: Context
) -> Intake:
    """Give the intake that fits ``items``.

    Args:
        items: a sequence, any other iterable, or an async iterable.
        make: called with index and item, gives the task.
        context: what the code that reads the items runs in, a copy of it.

    Raises:
        TypeError: ``items`` can't be iterated.
    """
    if isinstance(items, Sequence) and not isinstance(items, str | bytes | bytearray):
        return SequenceIntake(items, make)
    if isinstance(items, AsyncIterable):
        return AsyncIntake(items, make, context.copy())
    if isinstance(items, Iterable):
        return IteratorIntake(items, make, context.copy())
    raise TypeError(
        f"the input must be iterable, plainly or asynchronously, not {type(items).__name__!r}"
    )
