"""Two ways to read a stream for a caller with a loop, which nothing may hold up.

What may take its time, listeners and the wait of a stop, goes on in a thread.
"""

import asyncio
import threading
from collections import deque
from contextlib import suppress
from contextvars import Context
from threading import get_ident
from typing import Protocol

from stratagem.consuming import Outcomes
from stratagem.event_loops import call_in_thread
from stratagem.stream import Stream
from stratagem.task import Outcome

__all__ = ["Pump", "Reader", "Visits"]

READ_AHEAD = 256


class Reader(Protocol):
    """Read one stream.

    Attributes:
        outcomes: what was read and not taken.
    """

    outcomes: deque[Outcome]

    def take(self) -> Outcome:
        """Take the first of the outcomes."""

    async def brings_more(self) -> bool:
        """Wait until there are outcomes; False at the end.

        Raises:
            BaseException: what ended the stream, once.
        """

    async def collect(self) -> None:
        """Read to the end what nobody takes, and raise what ended the stream."""

    def stop(self) -> None:
        """Ask the run to stop, from any thread, without waiting for it."""

    async def ended(self) -> None:
        """Wait for the end of a run that was asked to stop."""


class Pump:
    """Read in a thread, from the beginning to the end, a little ahead of who takes."""

    def __init__(self, stream: Stream, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        self.outcomes: deque[Outcome] = deque()
        self._stream = stream
        self._loop = loop
        self._arrived = asyncio.Event()
        self._room = threading.Event()
        self._is_awaited = False
        self._is_full = False
        self._leaving = False
        self._over = False
        self._failure: BaseException | None = None
        self._context = context
        self._work: asyncio.Task[None] | None = None

    async def collect(self) -> None:
        """Read to the end what nobody takes, and raise what ended the stream."""
        await call_in_thread(self._stream.collect, on_cancel=self._stream.stop)

    def take(self) -> Outcome:
        """Take the first of the outcomes."""
        outcome = self.outcomes.popleft()
        if self._is_full and len(self.outcomes) <= READ_AHEAD // 2:
            self._room.set()
        return outcome

    async def brings_more(self) -> bool:
        """Wait until there are outcomes; False at the end."""
        if self._work is None:
            self._work = self._loop.create_task(self._read_all(), context=self._context)
        while not self.outcomes:
            self._arrived.clear()
            self._is_awaited = True
            if self.outcomes:
                break
            if self._over:
                failure, self._failure = self._failure, None
                if failure is not None:
                    raise failure
                return False
            await self._arrived.wait()
        return True

    async def _read_all(self) -> None:
        try:
            await call_in_thread(self._read, on_cancel=self.stop)
        finally:
            self._over = True
            self._arrived.set()

    def _read(self) -> None:
        try:
            for outcome in self._stream:
                if len(self.outcomes) >= READ_AHEAD:
                    self._wait_for_room()
                self.outcomes.append(outcome)
                if self._is_awaited:
                    self._is_awaited = False
                    self._loop.call_soon_threadsafe(self._arrived.set)
        except BaseException as error:  # noqa: BLE001 - raised where the outcomes are awaited
            self._failure = error

    def _wait_for_room(self) -> None:
        self._is_full = True
        while len(self.outcomes) >= READ_AHEAD and not self._leaving:
            self._room.clear()
            if len(self.outcomes) >= READ_AHEAD and not self._leaving:
                self._room.wait()
        self._is_full = False

    def stop(self) -> None:
        """Ask the run to stop, from any thread, without waiting for it."""
        self._stream.stop()
        self._leaving = True
        self._room.set()

    async def ended(self) -> None:
        """Wait for the end of a run that was asked to stop."""
        if self._work is not None:
            await asyncio.wait([self._work])


class Visits:
    """Read on the loop what has succeeded, and in a thread, visit after visit, all else.

    It is for streams whose successes nobody is told of: settling one holds up nothing.
    """

    def __init__(
        self,
        stream: Stream,
        answers: Outcomes,
        loop: asyncio.AbstractEventLoop,
        context: Context,
    ) -> None:
        self.outcomes: deque[Outcome] = deque()
        self.take = self.outcomes.popleft
        self._stream = stream
        self._answers = answers
        answers.outbox.is_read_on_loop = True
        self._loop = loop
        self._thread = get_ident()
        self._context = context
        self._rung = asyncio.Event()
        self._waiting = 0
        self._visit: asyncio.Task[None] | None = None
        self._over = False
        self._failure: BaseException | None = None

    async def collect(self) -> None:
        """Read to the end what nobody takes, and raise what ended the stream."""
        while await self.brings_more():
            self.outcomes.clear()

    async def brings_more(self) -> bool:
        """Wait until there are outcomes; False at the end."""
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("a stream can be read only on the event loop that it was opened on")
        if self._visit is None:
            await self._visit_stream()
        else:
            await asyncio.sleep(0)  # who takes without a pause would keep the loop from others
        while not self.outcomes:
            if self._is_visited:
                await self._visit_stream()
            elif self._over:
                failure, self._failure = self._failure, None
                if failure is not None:
                    raise failure
                return False
            elif waiting := self._stream.take_waiting():
                self.outcomes.extend(waiting)
            elif not await self._is_rung():
                await self._visit_stream()
        return True

    async def _is_rung(self) -> bool:
        """Wait for an outcome; False, at once, where something is to be seen that takes a visit."""
        self._rung.clear()
        if not self._answers.sleep_until(self._ring):
            return False
        self._waiting += 1
        self._stream.is_awaited = True
        try:
            await self._rung.wait()
        finally:
            self._waiting -= 1
            if not self._waiting:  # else another coroutine wants to be roused
                self._stream.is_awaited = False
                self._answers.outbox.awake()
        return True

    def _ring(self) -> None:
        if get_ident() == self._thread:
            self._rung.set()
        else:
            with suppress(RuntimeError):  # the loop has closed: nobody waits
                self._loop.call_soon_threadsafe(self._rung.set)

    async def _visit_stream(self) -> None:
        """Wait for a visit: the one that goes on, or else a new one."""
        if self._visit is None or not self._is_visited:
            visit = call_in_thread(self._read_on, on_cancel=self.stop)
            self._visit = self._loop.create_task(visit, context=self._context)
            # For others, whom the visit has taken their bell, also if who waits here leaves.
            self._visit.add_done_callback(lambda _: self._rung.set())
        await asyncio.wait([self._visit])

    @property
    def _is_visited(self) -> bool:
        return self._visit is not None and not self._visit.done()

    def _read_on(self) -> None:
        outbox, ready = self._answers.outbox, self._stream.ready
        try:
            for outcome in self._stream:
                self.outcomes.append(outcome)
                if not (ready or outbox.unread) or len(self.outcomes) >= READ_AHEAD:
                    return
        except BaseException as error:  # noqa: BLE001 - raised where the outcomes are awaited
            self._failure = error
        self._over = True

    def stop(self) -> None:
        """Ask the run to stop, from any thread, without waiting for it."""
        self._stream.stop()

    async def ended(self) -> None:
        """Wait for the end of a run that was asked to stop."""
        while not self._over:
            await self._visit_stream()
