"""The stream of a run for a caller with a loop."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from contextvars import copy_context
from types import TracebackType
from typing import Self

from stratagem.event_loops import call_in_thread
from stratagem.intake import input_read_here, outside_of_inputs
from stratagem.report import Report
from stratagem.stream import Stream
from stratagem.task import Outcome

__all__ = ["AsyncStream"]


class AsyncStream(AsyncIterator[Outcome]):
    """Be the outcomes of a run, for a caller with a loop.

    Iterate over it, in an ``async with`` block where you may leave early.

    Attributes:
        run: the run, as listeners see it.
    """

    _READ_AHEAD = 256

    def __init__(self, stream: Stream, loop: asyncio.AbstractEventLoop) -> None:
        self.run = stream.run
        self._stream = stream
        self._loop = loop
        self._arrived = asyncio.Event()
        self._outcomes: deque[Outcome] = deque()
        self._room = threading.Event()
        self._awaiting = False
        self._reader_waits = False
        self._leaving = False
        self._over = False
        self._failure: BaseException | None = None
        self._pump: asyncio.Task[None] | None = None

    def __aiter__(self) -> Self:
        """Give the stream itself."""
        return self

    async def __anext__(self) -> Outcome:
        """Give the next outcome; raises as ``Stream`` does."""
        if self._pump is None:
            self._begin()
        while not self._outcomes:
            self._arrived.clear()
            self._awaiting = True
            if self._outcomes:
                break
            if self._over:
                failure, self._failure = self._failure, None
                if failure is not None:
                    raise failure
                raise StopAsyncIteration
            await self._arrived.wait()
        outcome = self._outcomes.popleft()
        if self._reader_waits and len(self._outcomes) <= self._READ_AHEAD // 2:
            self._room.set()
        return outcome

    def _begin(self) -> None:
        reader = input_read_here()
        with outside_of_inputs():
            self._pump = self._loop.create_task(self._run_pump(), context=copy_context())
        if reader is not None:
            reader.stages.add(self._stream, self._stop_reading)

    async def _run_pump(self) -> None:
        try:
            await call_in_thread(self._read, on_cancel=self._stop_reading)
        finally:
            self._over = True
            self._arrived.set()

    def _read(self) -> None:
        try:
            for outcome in self._stream:
                if len(self._outcomes) >= self._READ_AHEAD:
                    self._wait_for_room()
                self._outcomes.append(outcome)
                if self._awaiting:
                    self._awaiting = False
                    self._loop.call_soon_threadsafe(self._arrived.set)
        except BaseException as error:  # noqa: BLE001 - raised where the outcomes are awaited
            self._failure = error

    def _wait_for_room(self) -> None:
        self._reader_waits = True
        while len(self._outcomes) >= self._READ_AHEAD and not self._leaving:
            self._room.clear()
            if len(self._outcomes) >= self._READ_AHEAD and not self._leaving:
                self._room.wait()
        self._reader_waits = False

    def _stop_reading(self) -> None:
        self._stream.stop()
        self._leaving = True
        self._room.set()

    async def aclose(self) -> None:
        """Stop the run and wait until everything announced is settled."""
        self._stop_reading()
        if self._pump is None:
            self._stream.close()
        else:
            await asyncio.wait([self._pump])

    @property
    def report(self) -> Report:
        """Report on the run, as ``Stream.report`` does."""
        return self._stream.report

    async def __aenter__(self) -> Self:
        """Give the stream itself."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the stream."""
        await self.aclose()
