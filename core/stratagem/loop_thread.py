"""A long-lived event loop in a thread of its own; asyncio is imported when that starts."""

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

__all__ = ["LoopThread"]

STUBBORN_GRACE = 0.2
"""Seconds that tasks which have swallowed a cancel get when their loop is closed."""


class LoopThread:
    """Own one event loop in a daemon thread, from the first use until ``close``.

    What is bound to a loop, an HTTP client say, lives from batch to batch.
    """

    def __init__(self, name: str = "stratagem-loop") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._replaced: list[asyncio.AbstractEventLoop] = []

    @property
    def loop(self) -> "asyncio.AbstractEventLoop":
        """Give the loop, started now if need be."""
        with self._lock:
            if self._loop is None:
                import asyncio  # noqa: PLC0415 - slow to import

                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop,), name=self._name, daemon=True
                )
                self._thread.start()
            return self._loop

    def replace(self, blocked: "asyncio.AbstractEventLoop") -> None:
        """Give a fresh loop from now on, if ``blocked`` is the one given so far.

        What runs on that goes on as soon as it turns again; it is closed with this object.
        """
        with self._lock:
            if self._loop is blocked:
                self._replaced.append(blocked)
                self._loop = self._thread = None

    def close(self, grace: float = 5.0) -> None:
        """Stop the loop, cancel what runs on it, and give its descriptors back.

        Waits up to ``grace`` seconds for what runs there, hardly for what was cancelled before
        and runs on regardless; then leaves the thread.
        """
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
            replaced, self._replaced = self._replaced, []
        for other in replaced:
            with suppress(RuntimeError):  # closed already
                other.call_soon_threadsafe(other.stop)
        if loop is None or thread is None:
            return
        import asyncio  # noqa: PLC0415 - it has been imported

        left = asyncio.all_tasks(loop)
        if left and all(task.cancelling() for task in left):
            grace = min(grace, STUBBORN_GRACE)
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join(grace)


def _serve(loop: "asyncio.AbstractEventLoop") -> None:
    import asyncio  # noqa: PLC0415 - it has been imported

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
