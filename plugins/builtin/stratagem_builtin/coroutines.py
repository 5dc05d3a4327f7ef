"""The strategy that runs tasks on an event loop: N runners that take for themselves."""

import asyncio
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextvars import copy_context
from functools import partial
from typing import Any

import attrs

from stratagem import Outcome, Status, StreamingStrategy, Task, TaskSource, TaskTimeoutError
from stratagem.consuming import outcomes_of
from stratagem.invoke import enter, failed, is_async, is_awaitable, leave, without_own_frames
from stratagem.loops import LoopThread, calling_loop, close_unbegun
from stratagem.options import require_count, require_seconds
from stratagem.outbox import Outbox
from stratagem.scope import current_hold
from stratagem.slots import Slot, Slots, depth_below
from stratagem.strategy import cancelled
from stratagem.threads import Crew

__all__ = ["AsyncStrategy"]

CANCEL_AGAIN = (0.05, 0.2, 0.75)


class AsyncStrategy(StreamingStrategy):
    """Run tasks on an event loop: for agents and APIs that are async.

    Tasks run on the loop of the caller of ``arun`` or ``astream``,
    else on one that this object owns until ``close``.
    Callables that are no coroutine functions are called in threads, as many as the limit says;
    an awaitable that they return is awaited on the loop.
    All streams of one object share its ``max_concurrency``, nested ones too.

    Args:
        max_concurrency: how many tasks run at once.
        grace: seconds that running tasks get to end when a run is stopped;
            they are cancelled at once, and abandoned when the grace is over.

    Raises:
        ValueError: an option is out of range.
    """

    shares_memory = True
    enforces_timeouts = True

    def __init__(self, max_concurrency: int = 100, *, grace: float = 5.0) -> None:
        self.max_concurrency = require_count("max_concurrency", max_concurrency)
        self.grace = require_seconds("grace", grace)
        self.slots = Slots(max_concurrency)
        self.crew = Crew("asyncio-sync")
        self.own_loop = LoopThread("stratagem-asyncio-loop")
        self._streams: weakref.WeakSet[_LoopStream] = weakref.WeakSet()
        self._finalizer = weakref.finalize(self, _close_all, self.crew, self.own_loop)

    def stream(self, tasks: TaskSource) -> Iterator[Outcome]:
        """Take tasks on the loop while there is room, and yield outcomes as they end."""
        stream = _LoopStream(self, tasks, calling_loop())
        self._streams.add(stream)
        return outcomes_of(stream, self.grace)

    def close(self) -> None:
        """Stop the streams that are open, and let loop and threads go."""
        for stream in list(self._streams):
            stream.tasks.close()
        _close_all(self.crew, self.own_loop)


def _close_all(crew: Crew, loop: LoopThread) -> None:
    crew.close()
    loop.close()


@attrs.define(eq=False)
class _Running:
    """Hold what a runner runs; a runner whose task was cancelled takes no other."""

    key: int
    slot: Slot
    runner: "asyncio.Task[None]"
    task: Task
    started_at: float = 0.0
    began: float = 0.0
    status: Status | None = None
    timer: asyncio.TimerHandle | None = None
    cancels: int = 0
    in_thread: bool = False
    abandoned: bool = False


class _LoopStream:
    """Be one stream: runners that hold a slot take tasks and put outcomes into its box."""

    def __init__(
        self, strategy: AsyncStrategy, tasks: TaskSource, loop: asyncio.AbstractEventLoop | None
    ) -> None:
        self.tasks = tasks
        self.depth = depth_below(current_hold())
        self._strategy = strategy
        self._slots = strategy.slots
        self._callers_loop = loop
        self._loop: asyncio.AbstractEventLoop
        self._base = copy_context()
        self.outbox = Outbox(max(256, 2 * strategy.max_concurrency))
        self._lock = threading.Lock()
        self._serving = 0
        self._over = False
        self._stopping = False
        self._gone = False
        self._pump_due = False
        self.failure: BaseException | None = None
        self._known_function: object = None
        self._known_async = False
        self._wake_timer: asyncio.TimerHandle | None = None
        self._running: dict[int, _Running] = {}
        self._keys = iter(range(2**63))

    def begin(self) -> None:
        """Take the first tasks."""
        self._loop = self._callers_loop or self._strategy.own_loop.loop
        self._slots.join(self)
        self.tasks.subscribe(self._stir)
        self.wake()

    def stop(self, _give_up_at: float) -> None:
        """Cancel async tasks; others have the grace to end by themselves."""
        self._stopping = True
        self._on_loop(self._cancel_all)

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

    def _on_loop(self, callback: Callable[..., None], *args: object) -> bool:
        try:
            self._loop.call_soon_threadsafe(callback, *args, context=self._base)
        except RuntimeError:  # the loop is closed, and nothing runs on it any more
            return False
        return True

    def wake(self) -> None:
        """Have runners take tasks while slots are free and the consumer keeps up."""
        if not self._pump_due:
            self._pump_due = True
            if not self._on_loop(self._pump):
                self._over = True
                self.outbox.ring()

    def _pump(self) -> None:
        """Start a runner for each task that is ready and has a slot. Runs on the loop."""
        self._pump_due = False
        while not (self._over or self.tasks.closed or self.outbox.full):
            if not self._slots.start(self):
                return
            with self._lock:
                self._serving += 1
            slot = Slot(self._slots, self.depth)
            task = self._take(slot)
            if task is None:
                return
            self._start_runner(task, slot)
        if self.outbox.full:
            self.outbox.resume_when_room(self.wake)
        self._slots.offer()

    def _take(self, slot: Slot) -> Task | None:
        try:
            found = self.tasks.poll()
        except BaseException as error:  # noqa: BLE001 - the source is broken; the consumer hears of it
            self.failure, found = error, None
            self.tasks.close()
        if isinstance(found, Task):
            return found
        if found is None:
            self._over = True
        elif found.seconds < float("inf"):
            self._wake_after(found.seconds)
        self._leave(slot)
        return None

    def _leave(self, slot: Slot) -> None:
        slot.give_up()
        with self._lock:
            self._serving -= 1
        if self.finished:
            self.outbox.ring()

    def _wake_after(self, seconds: float) -> None:
        when = self._loop.time() + seconds
        if self._wake_timer is not None:
            if self._wake_timer.when() <= when and not self._wake_timer.cancelled():
                return
            self._wake_timer.cancel()
        self._wake_timer = self._loop.call_at(when, self._wake_on_time)

    def _wake_on_time(self) -> None:
        self._wake_timer = None
        self.wake()

    def _start_runner(self, task: Task, slot: Slot) -> None:
        context = (self._base if task.context is None else task.context).copy()
        self._loop.create_task(self._run(task, slot), context=context)

    async def _run(self, task: Task, slot: Slot) -> None:
        """Run ``task`` and what can be taken after it, until this context differs or it must go."""
        runner = asyncio.current_task()
        assert runner is not None
        base, clean = task.context, copy_context()
        running = _Running(next(self._keys), slot, runner, task)
        while not self._gone:
            self._running[running.key] = running
            outcome = await self._attempt(running)
            if self._running.pop(running.key, None) is None:
                return
            if self.outbox.put(outcome):
                self._leave(slot)
                self.outbox.resume_when_room(self.wake)
                return
            if self._slots.contended and self._slots.must_yield(self):
                self._leave(slot)
                self.wake()
                return
            if running.cancels or copy_context() != clean:
                self._loop.call_soon(self._go_on, slot, context=self._base)
                return
            following = self._take(slot)
            if following is None:
                return
            if following.context is not base:
                self._start_runner(following, slot)
                return
            running.task = following
        self._leave(slot)  # taken too late: the engine answers for the task

    def _go_on(self, slot: Slot) -> None:
        """Take the next task outside of the context that the last one has changed."""
        task = self._take(slot)
        if task is not None:
            self._start_runner(task, slot)

    async def _attempt(self, running: _Running) -> Outcome:
        task = running.task
        running.started_at, running.began = time.time(), time.perf_counter()
        if task.timeout is not None:
            running.timer = self._loop.call_later(task.timeout, self._cancel_overdue, running)
        if self._stopping:
            self._cancel(running)
        entered = enter(task, running.slot)
        try:
            if self._is_async(task.call):
                value, raised = await task.call(), None
            else:
                value, raised = await self._call_sync(running)
        except BaseException as error:  # noqa: BLE001 - whatever a task raises is its outcome
            value, raised = None, error
        leave(entered)
        if running.timer is not None:
            running.timer.cancel()
            running.timer = None
        if raised is not None:
            return self._failed(running, raised)
        return Outcome(
            task.index,
            task.key,
            task.name,
            Status.OK,
            value,
            None,
            running.started_at,
            time.perf_counter() - running.began,
            "asyncio",
            task.attempt,
        )

    def _is_async(self, call: Callable[[], Any]) -> bool:
        function = call.func if type(call) is partial else call
        if function is not self._known_function:
            self._known_function, self._known_async = function, is_async(function)
        return self._known_async

    async def _call_sync(self, running: _Running) -> tuple[Any, BaseException | None]:
        """Give the value, or what the call raised: a coroutine can't raise StopIteration."""
        running.in_thread = True
        value, raised = await self._call_in_thread(running.task.call)
        running.in_thread = False
        if raised is not None or not is_awaitable(value):
            return value, raised
        if self._stopping:
            running.status = running.status or Status.CANCELLED
            close_unbegun(value, self._loop)
            return None, asyncio.CancelledError()
        return await value, None

    async def _call_in_thread(self, call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
        done: asyncio.Future[tuple[Any, BaseException | None]] = self._loop.create_future()
        context = copy_context()

        def settle(value: Any, error: BaseException | None) -> None:
            if not done.done():
                done.set_result((value, error))

        def work() -> None:
            value, error = None, None
            try:
                value = context.run(call)
            except BaseException as raised:  # noqa: BLE001 - raised again where it is awaited
                error = raised
            self._on_loop(settle, value, error)

        self._strategy.crew.run(work)
        return await done

    def _failed(self, running: _Running, error: BaseException) -> Outcome:
        task, status = running.task, Status.ERROR
        seconds = time.perf_counter() - running.began
        if running.status is not None and isinstance(error, asyncio.CancelledError):
            status = running.status
            error = self._reason(running)
        error = without_own_frames(error)
        return failed(task, error, status, running.started_at, seconds, "asyncio")

    def _reason(self, running: _Running) -> BaseException:
        task = running.task
        abandoned = running.abandoned or running.in_thread
        if running.status is Status.TIMEOUT:
            assert task.timeout is not None
            return TaskTimeoutError(task.key, task.timeout, abandoned=abandoned)
        why = "the run was stopped" + ", and it did not end in time" * abandoned
        error = cancelled(task, why).error
        assert error is not None
        return error

    def _cancel_overdue(self, running: _Running) -> None:
        running.status = running.status or Status.TIMEOUT
        self._cancel(running)

    def _cancel_all(self) -> None:
        for running in list(self._running.values()):
            self._cancel(running)

    def _cancel(self, running: _Running) -> None:
        """Cancel a task; one that goes on regardless is cancelled again, and at last abandoned."""
        if self._running.get(running.key) is not running:
            return
        if running.status is None:
            if running.in_thread:  # it cannot be cancelled, and has the grace to end by itself
                return
            running.status = Status.CANCELLED
        if running.cancels < len(CANCEL_AGAIN):
            running.runner.cancel()
            self._loop.call_later(CANCEL_AGAIN[running.cancels], self._cancel, running)
            running.cancels += 1
        elif running.status is Status.TIMEOUT:
            self._abandon(running)

    def _abandon_all(self) -> None:
        for running in list(self._running.values()):
            running.status = running.status or Status.CANCELLED
            self._abandon(running)

    def _abandon(self, running: _Running) -> None:
        if self._running.pop(running.key, None) is None:
            return
        running.abandoned = True
        self.outbox.put(self._failed(running, asyncio.CancelledError()))
        self._leave(running.slot)
        self.outbox.ring()
        self.wake()
