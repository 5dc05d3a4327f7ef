"""Event loops at work: what crosses over to one, and back.

Imported where a coroutine is about to run, since asyncio costs as much as all the rest.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from contextvars import copy_context
from inspect import CORO_CREATED, getcoroutinestate, iscoroutine
from typing import Any, TypeVar

from stratagem.loop_thread import LoopThread
from stratagem.loops import LOOK_UP, a_loop_runs, running_on
from stratagem.threads import not_an_end

__all__ = [
    "ContainedExit",
    "LoopCall",
    "call_in_thread",
    "close_unbegun",
    "finish_async",
    "run_alone",
    "run_on",
]

T = TypeVar("T")


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


class LoopCall:
    """Be an awaitable that runs on a loop, for one thread that waits for its result.

    Unlike a future of ``asyncio.run_coroutine_threadsafe``, one that was cancelled is over only
    when the coroutine is: it may swallow the cancel.
    """

    def __init__(self, awaitable: Awaitable[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._awaitable = awaitable
        self._loop = loop
        self._over: Future[Any] = Future()
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False
        loop.call_soon_threadsafe(self._start)

    def _start(self) -> None:
        if self._cancelled:
            _close_if_unbegun(self._awaitable)
            self._over.set_exception(asyncio.CancelledError())
            return
        self._task = self._loop.create_task(finish_async(self._awaitable))
        self._task.add_done_callback(self._end)

    def _end(self, task: "asyncio.Task[Any]") -> None:
        if task.cancelled():
            _close_if_unbegun(self._awaitable)
            self._over.set_exception(asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            self._over.set_exception(error)
        else:
            self._over.set_result(task.result())

    def cancel(self) -> None:
        """Cancel it, from any thread; again, if it has swallowed the last one."""
        self._cancelled = True
        with suppress(RuntimeError):  # the loop has closed
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def wait(self, seconds: float) -> bool:
        """Wait so long at the most; tell whether it is over."""
        return bool(wait([self._over], seconds).done)

    def result(self) -> Any:
        """Wait for it; give what it gave, or raise what it raised."""
        try:
            return self._over.result()
        except ContainedExit as contained:
            original = contained.original
        raise original


def close_unbegun(awaitable: Awaitable[Any], loop: asyncio.AbstractEventLoop) -> None:
    """Close, on its loop, a coroutine that nobody will await."""
    with suppress(RuntimeError):  # the loop has closed
        loop.call_soon_threadsafe(_close_if_unbegun, awaitable)


def _close_if_unbegun(awaitable: Awaitable[Any]) -> None:
    if iscoroutine(awaitable) and getcoroutinestate(awaitable) == CORO_CREATED:
        awaitable.close()


def run_on(loop: asyncio.AbstractEventLoop, awaitable: Awaitable[Any]) -> Any:
    """Run ``awaitable`` on ``loop`` from another thread, in this thread's context; wait for it."""
    call = LoopCall(awaitable, loop)
    try:
        while not call.wait(LOOK_UP):
            pass
    except BaseException:  # Ctrl-C: nobody waits for it any more
        call.cancel()
        raise
    return call.result()


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def run_alone(awaitable: Awaitable[Any]) -> Any:
    """Run ``awaitable`` on a loop made for it, also where a loop runs already."""
    if not a_loop_runs():
        return asyncio.run(_awaited(awaitable))
    loop_thread = LoopThread("stratagem-await")
    try:
        return run_on(loop_thread.loop, awaitable)
    finally:
        loop_thread.close()


async def call_in_thread(function: Callable[[], T], *, on_cancel: Callable[[], None]) -> T:
    """Run ``function`` in a daemon thread, in this context, while the loop goes on.

    Strategies started by it run async tasks on this loop.

    Args:
        function: what to run.
        on_cancel: called when this coroutine is cancelled; it must bring ``function`` to its end,
            which is waited for.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(value)
        else:
            done.set_exception(not_an_end(error))

    def run() -> None:
        value, failure = None, None
        try:
            with running_on(loop):
                value = function()
        except BaseException as error:  # noqa: BLE001 - handed to the one who awaits
            failure = error
        try:
            loop.call_soon_threadsafe(settle, value, failure)
        except RuntimeError:  # the loop has closed: nobody awaits any more
            return

    context = copy_context()
    threading.Thread(target=context.run, args=(run,), name="stratagem-bridge", daemon=True).start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        on_cancel()
        await asyncio.wait([done])
        if not done.cancelled():
            done.exception()
        raise
