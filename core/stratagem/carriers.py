"""How tasks get to the workers of an executor, and what became of them back."""

import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Executor, Future
from contextvars import ContextVar
from threading import current_thread
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from stratagem.invoke import invoke
from stratagem.loop_thread import LoopThread
from stratagem.parcels import Answer, Packer, open_answer, run_parcel
from stratagem.scope import current_hold
from stratagem.slots import depth_below
from stratagem.snapshot import Running
from stratagem.strategy import ExecutionStrategy, cancelled
from stratagem.task import Outcome, Task

if TYPE_CHECKING:
    import asyncio

__all__ = ["Carrier", "Here", "Loops", "There", "hosts_this"]

_hosts: ContextVar[tuple[ExecutionStrategy, ...]] = ContextVar("stratagem_hosts", default=())


def hosts_this(strategy: ExecutionStrategy) -> bool:
    """Tell whether what runs here occupies a worker of the executor of ``strategy``."""
    return any(host is strategy for host in _hosts.get())


class Carrier(Protocol):
    """Bring tasks to an executor, and what became of them back."""

    def submit(self, executor: Executor, task: Task) -> "Future[Any]":
        """Hand a task to the executor.

        Raises:
            TransportError: it cannot be pickled.
        """

    def open(self, task: Task, answer: object) -> Outcome:
        """Give the outcome, of what the executor gave."""

    def stop(self) -> None:
        """Cancel what can be cancelled while it runs."""

    def running(self) -> list[Running]:
        """Tell what has begun and not ended, as far as it is known."""


class There:
    """Bring tasks to workers in other processes, as data."""

    def __init__(self) -> None:
        self._packer = Packer()

    def submit(self, executor: Executor, task: Task) -> "Future[Any]":
        """Pickle the task, and hand it over."""
        return executor.submit(run_parcel, self._packer.pack(task))

    def open(self, task: Task, answer: object) -> Outcome:
        """Unpickle what came back."""
        assert isinstance(answer, Answer)
        return open_answer(task, answer)

    def stop(self) -> None:
        """Leave them: no way of ours leads there."""

    def running(self) -> list[Running]:
        """Tell nothing: it is not known."""
        return []


@attrs.define(eq=False)
class _Seat:
    """Be the worker of an executor that a task holds, and can't lend."""

    depth: int

    def lend(self) -> bool:
        return False

    def reclaim(self) -> None:
        return


class Here:
    """Bring tasks to workers that are threads of this process, as they are."""

    def __init__(
        self,
        strategy: ExecutionStrategy,
        loop: "asyncio.AbstractEventLoop | None",
        loops: "Loops",
    ) -> None:
        self._strategy = strategy
        self._loop = loop
        self._loops = loops
        self._seat = _Seat(depth_below(current_hold()))
        self._begun: dict[int, tuple[Task, float, str]] = {}
        self._awaited: set[Any] = set()
        self._is_stopped = False

    def submit(self, executor: Executor, task: Task) -> "Future[Any]":
        """Hand the task over."""
        return executor.submit(self._run, task)

    def _run(self, task: Task) -> Outcome:
        self._begun[task.index] = (task, time.monotonic(), current_thread().name)
        hosted = attrs.evolve(task, call=_Hosted(self._strategy, task.call))
        outcome = invoke(hosted, finish=self._finish, hold=self._seat)
        del self._begun[task.index]
        return outcome

    def _finish(self, awaitable: Any) -> Any:
        from stratagem.event_loops import LoopCall, close_unbegun  # noqa: PLC0415 - asyncio is slow

        loop = self._loop or self._loops.loop()
        if self._is_stopped:
            close_unbegun(awaitable, loop)
            raise CancelledError
        call = LoopCall(awaitable, loop)
        self._awaited.add(call)
        if self._is_stopped:
            call.cancel()
        try:
            return call.result()
        finally:
            self._awaited.discard(call)

    def open(self, task: Task, answer: object) -> Outcome:
        """Give what came back, which is the outcome."""
        assert isinstance(answer, Outcome)
        was_cancelled = type(answer.error).__name__ == "CancelledError"
        return cancelled(task) if self._is_stopped and was_cancelled else answer

    def stop(self) -> None:
        """Cancel coroutines."""
        self._is_stopped = True
        for call in list(self._awaited):
            call.cancel()

    def running(self) -> list[Running]:
        """Tell what has begun and not ended."""
        now = time.monotonic()
        begun = list(self._begun.values())
        return [Running(task, now - since, worker) for task, since, worker in begun]


class _Hosted:
    """Call what a task calls, and have it know whose worker it occupies."""

    def __init__(self, strategy: ExecutionStrategy, call: Callable[[], Any]) -> None:
        self._strategy = strategy
        self._call = call

    def __call__(self) -> Any:
        _hosts.set((*_hosts.get(), self._strategy))
        return self._call()


class Loops:
    """Have the event loop for async tasks of this process, when one comes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None

    def loop(self) -> "asyncio.AbstractEventLoop":
        """Give the loop, started now if need be."""
        with self._lock:
            if self._thread is None:
                self._thread = LoopThread("stratagem-executor-loop")
            return self._thread.loop

    def finish(self, awaitable: Awaitable[Any]) -> Any:
        """Run an awaitable there, and wait for it."""
        from stratagem.event_loops import run_on  # noqa: PLC0415 - asyncio is slow to import

        return run_on(self.loop(), awaitable)

    def close(self) -> None:
        """Close it, if it was started."""
        if self._thread is not None:
            self._thread.close()
