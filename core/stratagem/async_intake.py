"""An async iterable as a source of tasks."""

import asyncio
import threading
from collections.abc import AsyncIterable
from contextvars import Context
from typing import Any, cast

from stratagem.batch import MakeBatch
from stratagem.intake import READ_AHEAD, MakeTask, ReadIntake
from stratagem.loops import calling_loop

__all__ = ["AsyncIntake"]


class AsyncIntake(ReadIntake):
    """Read an async iterable: on the caller's loop where there is one, else on one of its own."""

    def __init__(
        self,
        items: AsyncIterable[Any],
        make: MakeTask,
        context: Context,
        make_batch: MakeBatch | None = None,
    ) -> None:
        super().__init__(make, context, make_batch)
        self._items = items
        self._loop = calling_loop()
        self._room: asyncio.Event | None = None
        self._reader: asyncio.Task[None] | None = None
        self._cancelled = False

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
                self._add((index, item))
                index += 1
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
