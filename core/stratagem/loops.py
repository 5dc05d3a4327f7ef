"""Event loops: the one that a caller brings, and a long-lived one in a thread of its own."""

import asyncio
import threading
from collections.abc import Awaitable, Iterator
from concurrent.futures import CancelledError, Future, wait
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from inspect import CORO_CREATED, getcoroutinestate, iscoroutine
from typing import Any

__all__ = ["LoopThread", "calling_loop", "running_on"]

LOOK_UP = 0.5
"""Seconds after which whoever waits looks up: a signal that strikes just before the main thread
begins to wait for a lock is handled only when that wait is over."""

_calling_loop: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar(
    "stratagem_calling_loop", default=None
)


def calling_loop() -> asyncio.AbstractEventLoop | None:
    """Give the loop of the caller of ``arun`` or ``astream``; None for a caller without one.

    Strategies run async tasks there, wherever their ``stream`` itself runs.
    """
    return _calling_loop.get()


@contextmanager
def running_on(loop: asyncio.AbstractEventLoop | None) -> Iterator[None]:
    """Name ``loop`` as the caller's for the code inside."""
    token = _calling_loop.set(loop)
    try:
        yield
    finally:
        _calling_loop.reset(token)


class ContainedExit(Exception):
    """Carry an exception that would end the event loop, such as SystemExit, out of it."""

    def __init__(self, original: BaseException) -> None:
        super().__init__(original)
        self.original = original


async def finish_async(awaitable: Awaitable[Any]) -> Any:
    """Await ``awaitable`` as a coroutine that never raises what would end its loop."""
    try:
        return await awaitable
    except (SystemExit, KeyboardInterrupt) as error:
        contained = ContainedExit(error)
    raise contained


def result_of(future: "Future[Any]") -> Any:
    """Wait for what ``finish_async`` gives, and raise what was truly raised there."""
    try:
        return future.result()
    except ContainedExit as contained:
        original = contained.original
    except CancelledError:
        original = asyncio.CancelledError()
    raise original


def close_unbegun(awaitable: Awaitable[Any], loop: asyncio.AbstractEventLoop) -> None:
    """Close, on its loop, a coroutine that was cancelled before it began: nobody will await it."""

    def close() -> None:
        if iscoroutine(awaitable) and getcoroutinestate(awaitable) == CORO_CREATED:
            awaitable.close()

    with suppress(RuntimeError):  # the loop has closed
        loop.call_soon_threadsafe(close)


class LoopThread:
    """Own one event loop in a daemon thread, from the first use until ``close``.

    What is bound to a loop, an HTTP client say, lives from batch to batch.
    """

    def __init__(self, name: str = "stratagem-loop") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Give the loop, started now if need be."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop,), name=self._name, daemon=True
                )
                self._thread.start()
            return self._loop

    def close(self, grace: float = 5.0) -> None:
        """Stop the loop, cancel what runs on it, and give its descriptors back.

        Waits up to ``grace`` seconds for tasks that will not be cancelled, then leaves the thread.
        """
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join(grace)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def run_on(loop: asyncio.AbstractEventLoop, awaitable: Awaitable[Any]) -> Any:
    """Run ``awaitable`` on ``loop`` from another thread, in this thread's context; wait for it."""
    future = asyncio.run_coroutine_threadsafe(finish_async(awaitable), loop)
    while not future.done():
        wait([future], LOOK_UP)
    return result_of(future)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def run_alone(awaitable: Awaitable[Any]) -> Any:
    """Run ``awaitable`` on a loop made for it, also where a loop runs already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_awaited(awaitable))
    loop_thread = LoopThread("stratagem-await")
    try:
        return run_on(loop_thread.loop, awaitable)
    finally:
        loop_thread.close()
