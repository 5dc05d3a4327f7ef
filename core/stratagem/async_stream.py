"""The stream of a run for a caller with a loop."""

import asyncio
from collections.abc import AsyncIterator
from contextvars import copy_context
from types import TracebackType
from typing import Self

from stratagem.async_reading import Pump, Reader, Visits
from stratagem.intake import input_read_here, outside_of_inputs
from stratagem.report import Report
from stratagem.scope import current_hold
from stratagem.stream import Stream
from stratagem.task import Outcome

__all__ = ["AsyncStream"]


class AsyncStream(AsyncIterator[Outcome]):
    """Be the outcomes of a run, for a caller with a loop.

    Iterate over it, in an ``async with`` block where you may leave early.

    Attributes:
        run: the run, as listeners see it.
    """

    def __init__(self, stream: Stream, loop: asyncio.AbstractEventLoop) -> None:
        self.run = stream.run
        self._stream = stream
        self._loop = loop
        self._reader: Reader | None = None

    def __aiter__(self) -> Self:
        """Give the stream itself."""
        return self

    async def __anext__(self) -> Outcome:
        """Give the next outcome; raises as ``Stream`` does."""
        reader = self._reader or self._begin()
        while not reader.outcomes:
            if not await reader.brings_more():
                raise StopAsyncIteration
        return reader.take()

    def _begin(self) -> Reader:
        stages = input_read_here()
        answers = self._stream.unwatched
        reader: Reader
        with outside_of_inputs():
            context = copy_context()
        # A task that waits lends its slot, and waits to have it back, which no loop can do.
        if answers is None or current_hold() is not None:
            reader = Pump(self._stream, self._loop, context)
        else:
            reader = Visits(self._stream, answers, self._loop, context)
        self._reader = reader
        if stages is not None:
            stages.stages.add(self._stream, reader.stop)
        return reader

    async def collect(self) -> Report:
        """Read the stream to its end; when this is cancelled, the run is over.

        Raises:
            BaseException: as iteration does.
        """
        reader = self._reader or self._begin()
        try:
            await reader.collect()
        except asyncio.CancelledError as error:
            await self.aclose()
            error.report = self.report  # type: ignore[attr-defined]
            raise
        return self.report

    async def aclose(self) -> None:
        """Stop the run and wait until everything announced is settled."""
        if self._reader is None:
            self._stream.close()
        else:
            self._reader.stop()
            await self._reader.ended()

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
