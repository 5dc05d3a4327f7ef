"""The strategy that runs tasks one after another, in the thread that reads the outcomes."""

from collections.abc import Iterator
from threading import current_thread
from typing import TYPE_CHECKING, Any

from stratagem import Outcome, StreamingStrategy, TaskSource, invoke
from stratagem.loop_thread import LoopThread
from stratagem.loops import calling_loop

if TYPE_CHECKING:
    import asyncio

__all__ = ["SequentialStrategy"]


class SequentialStrategy(StreamingStrategy):
    """Run tasks one after another: for debugging, deterministic tests and small jobs.

    A running task cannot be stopped, so a timeout is refused.
    """

    shares_memory = True
    max_workers = 1

    def __init__(self) -> None:
        self._own_loop = LoopThread("stratagem-sequential-loop")

    def stream(self, tasks: TaskSource) -> Iterator[Outcome]:
        """Take a task, run it, yield its outcome, and so on."""
        return self._run(tasks, calling_loop())

    def _run(
        self, tasks: TaskSource, loop: "asyncio.AbstractEventLoop | None"
    ) -> Iterator[Outcome]:
        def finish(awaitable: Any) -> Any:
            from stratagem.event_loops import run_on  # noqa: PLC0415 - asyncio is slow to import

            return run_on(loop or self._own_loop.loop, awaitable)

        worker = current_thread().name
        try:
            for task in tasks:
                yield invoke(task, finish=finish, worker=worker)
        finally:
            tasks.close()

    def close(self) -> None:
        """Close the event loop, if async tasks ran."""
        self._own_loop.close()
