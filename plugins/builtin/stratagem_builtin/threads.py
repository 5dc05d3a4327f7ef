"""The strategy that runs tasks in threads, which take for themselves."""

import asyncio
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any

import attrs

from stratagem import (
    Outcome,
    Status,
    StreamingStrategy,
    Task,
    TaskSource,
    TaskTimeoutError,
    Wait,
    invoke,
)
from stratagem.consuming import outcomes_of
from stratagem.invoke import failed
from stratagem.loops import (
    LoopThread,
    calling_loop,
    close_unbegun,
    finish_async,
    result_of,
)
from stratagem.options import require_count, require_seconds
from stratagem.outbox import Outbox
from stratagem.scope import current_hold
from stratagem.slots import Slot, Slots, depth_below
from stratagem.strategy import cancelled
from stratagem.threads import Clock, Crew

__all__ = ["ThreadPoolStrategy"]


class ThreadPoolStrategy(StreamingStrategy):
    """Run tasks in threads: for I/O, such as calls of an LLM's API.

    Threads and the event loop for async tasks are kept until ``close``.
    All streams of one object share its ``max_workers``, nested ones too.

    Args:
        max_workers: how many tasks run at once.
        grace: seconds that running tasks get to end when a run is stopped; then they are abandoned.

    Raises:
        ValueError: an option is out of range.
    """

    shares_memory = True
    enforces_timeouts = True

    def __init__(self, max_workers: int = 8, *, grace: float = 5.0) -> None:
        self.max_workers = require_count("max_workers", max_workers)
        self.grace = require_seconds("grace", grace)
        self.slots = Slots(max_workers)
        self.crew = Crew("threads")
        self.clock = Clock("stratagem-threads-clock")
        self.own_loop = LoopThread("stratagem-threads-loop")
        self._streams: weakref.WeakSet[_ThreadStream] = weakref.WeakSet()
        self._finalizer = weakref.finalize(self, _close_all, self.crew, self.clock, self.own_loop)

    def stream(self, tasks: TaskSource) -> Iterator[Outcome]:
        """Take tasks in as many threads as are free, and yield outcomes as they end."""
        stream = _ThreadStream(self, tasks)
        self._streams.add(stream)
        return outcomes_of(stream, self.grace)

    def close(self) -> None:
        """Stop the streams that are open, and let threads and loop go."""
        for stream in list(self._streams):
            stream.tasks.close()
        _close_all(self.crew, self.clock, self.own_loop)


def _close_all(crew: Crew, clock: Clock, loop: LoopThread) -> None:
    crew.close()
    clock.close()
    loop.close()


NOTHING = Task(-1, "", "", tuple)


@attrs.define(eq=False)
class _Running:
    """Hold what a thread runs: one object a thread, a new one for each task with a timeout."""

    slot: Slot
    worker: str
    task: Task = NOTHING
    began: float = 0.0
    awaited: "Future[Any] | None" = None


class _ThreadStream:
    """Be one stream: threads that hold a slot take tasks from it and put outcomes into its box."""

    def __init__(self, strategy: ThreadPoolStrategy, tasks: TaskSource) -> None:
        self.tasks = tasks
        self.depth = depth_below(current_hold())
        self._strategy = strategy
        self._slots = strategy.slots
        self._loop = calling_loop()
        self.outbox = Outbox(max(256, 2 * strategy.max_workers))
        self._lock = threading.Lock()
        self._serving = 0
        self._over = False
        self._stopping = False
        self._gone = False
        self.failure: BaseException | None = None
        self._wake_at = float("inf")
        self._watch_at = float("inf")
        self._running: dict[_Running, None] = {}

    def begin(self) -> None:
        """Take the first tasks."""
        self._slots.join(self)
        self.tasks.subscribe(self._stir)
        self.wake()

    def stop(self, _give_up_at: float) -> None:
        """Cancel async tasks; others have the grace to end by themselves."""
        self._stopping = True
        self._cancel_async()

    def give_up(self) -> bool:
        """Abandon what still runs; what is taken only now will not be run."""
        self._gone = True
        self._abandon_all()
        return True

    def end(self) -> None:
        """Take no part any more."""
        self._over = True
        self._slots.forget(self)

    @property
    def finished(self) -> bool:
        """Tell whether no further outcome will come."""
        return not self._serving and (self._over or self.tasks.closed)

    def _stir(self) -> None:
        if self.tasks.closed:
            self.outbox.ring()
        else:
            self.wake()

    def wake(self) -> None:
        """Have one more thread take tasks, if a slot is free and the consumer keeps up."""
        if self._over or self.tasks.closed:
            self._slots.offer()
        elif self.outbox.full:
            self.outbox.resume_when_room(self.wake)
            self._slots.offer()
        elif self._slots.start(self):
            with self._lock:
                self._serving += 1
            self._strategy.crew.run(self._serve)

    def _serve(self) -> None:
        slot = Slot(self._slots, self.depth)
        left_for = self._take_and_run(slot)
        if left_for == "abandoned":
            return
        slot.give_up()
        with self._lock:
            self._serving -= 1
        if self.finished:
            self.outbox.ring()
        if left_for == "full":
            self.outbox.resume_when_room(self.wake)
        elif left_for == "turn":
            self.wake()

    def _take_and_run(self, slot: Slot) -> str:
        """Take and run tasks while there are some; say why it left."""
        put, slots = self.outbox.put, self._slots
        running = _Running(slot, threading.current_thread().name)
        found = self._poll()
        while isinstance(found, Task) and not self._gone:
            if slots.free:
                self.wake()
            if found.timeout is not None:
                running = _Running(slot, running.worker)
            outcome = self._run(found, running)
            if outcome is None:
                return "abandoned"
            if put(outcome):
                return "full"
            if slots.contended and slots.must_yield(self):
                return "turn"
            found = self._poll()
        if isinstance(found, Task):  # taken too late: the engine answers for it
            return "gone"
        if isinstance(found, Wait):
            self._wake_after(found.seconds)
            return "empty"
        self._over = True
        return "over"

    def _poll(self) -> Task | Wait | None:
        try:
            return self.tasks.poll()
        except BaseException as error:  # noqa: BLE001 - the source is broken; the consumer hears of it
            self.failure = error
            self.tasks.close()
            return None

    def _wake_after(self, seconds: float) -> None:
        when = time.monotonic() + seconds
        if when == float("inf"):
            return
        with self._lock:
            if self._wake_at <= when:
                return
            self._wake_at = when
        self._strategy.clock.call_at(when, self._wake_on_time)

    def _wake_on_time(self) -> None:
        with self._lock:
            self._wake_at = float("inf")
        self.wake()

    def _run(self, task: Task, running: _Running) -> Outcome | None:
        """Run ``task``; None when it was abandoned. Who takes it out of the dict answers for it."""
        running.task, running.began = task, time.monotonic()
        self._running[running] = None
        if task.timeout is not None:
            self._watch(running.began + task.timeout)
        finish = partial(self._finish, running)
        outcome = invoke(task, finish=finish, hold=running.slot, worker=running.worker)
        if self._running.pop(running, self) is self:
            return None
        if self._stopping and isinstance(outcome.error, asyncio.CancelledError):
            return cancelled(task)
        return outcome

    def _finish(self, running: _Running, awaitable: Any) -> Any:
        loop = self._loop or self._strategy.own_loop.loop
        if self._stopping:
            close_unbegun(awaitable, loop)
            raise asyncio.CancelledError
        running.awaited = asyncio.run_coroutine_threadsafe(finish_async(awaitable), loop)
        if self._stopping:
            running.awaited.cancel()
        try:
            return result_of(running.awaited)
        except asyncio.CancelledError:
            close_unbegun(awaitable, loop)
            raise
        finally:
            running.awaited = None

    def _watch(self, deadline: float) -> None:
        with self._lock:
            if self._watch_at <= deadline:
                return
            self._watch_at = deadline
        self._strategy.clock.call_at(deadline, self._end_overdue)

    def _end_overdue(self) -> None:
        with self._lock:
            self._watch_at = float("inf")
        now = time.monotonic()
        for running in list(self._running):
            if running.task.timeout is None:
                continue
            deadline = running.began + running.task.timeout
            if deadline > now:
                self._watch(deadline)
                continue
            abandoned = running.awaited is None
            error = TaskTimeoutError(running.task.key, running.task.timeout, abandoned=abandoned)
            self._abandon(running, error, Status.TIMEOUT)

    def _cancel_async(self) -> None:
        for running in list(self._running):
            if running.awaited is not None:
                running.awaited.cancel()

    def _abandon_all(self) -> None:
        """Answer for what still runs; what a thread is about to take is settled by the engine."""
        for running in list(self._running):
            error = cancelled(running.task, "the run was stopped, and it did not end in time").error
            self._abandon(running, error, Status.CANCELLED)

    def _abandon(self, running: _Running, error: BaseException | None, status: Status) -> None:
        if self._running.pop(running, self) is self or error is None:
            return
        seconds = time.monotonic() - running.began
        started_at = time.time() - seconds
        outcome = failed(running.task, error, status, started_at, seconds, running.worker)
        if running.awaited is not None:
            running.awaited.cancel()
        self.outbox.put(outcome)
        running.slot.give_up()
        with self._lock:
            self._serving -= 1
        self.outbox.ring()
        self.wake()
