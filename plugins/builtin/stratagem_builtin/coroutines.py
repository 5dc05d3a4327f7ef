"""The strategy that runs tasks on an event loop: N runners that take for themselves."""

import asyncio
import threading
import weakref
from collections.abc import Callable, Iterator
from contextvars import copy_context
from functools import partial
from sys import modules as _modules
from time import perf_counter as _clock
from time import time as _now
from typing import Any

import attrs

from stratagem import (
    Outcome,
    Running,
    Status,
    StreamingStrategy,
    Task,
    TaskCancelledError,
    TaskSource,
    TaskTimeoutError,
    Wait,
)
from stratagem.consuming import outcomes_of
from stratagem.event_loops import close_unbegun
from stratagem.invoke import (
    bind_for_structlog,
    failed,
    is_async,
    is_awaitable,
    succeeded,
    without_own_frames,
)
from stratagem.loop_thread import LoopThread
from stratagem.loops import calling_loop
from stratagem.options import require_count, require_seconds
from stratagem.outbox import UNREAD, Outbox
from stratagem.scope import current_hold, enter_task
from stratagem.slots import Slot, Slots, depth_below
from stratagem.strategy import cancelled, stays_here
from stratagem.threads import Clock, Crew
from stratagem_builtin.loop_watch import LoopWatch, log_blocked

__all__ = ["AsyncStrategy"]

CANCEL_AGAIN = (0.05, 0.2, 0.75)
WORKER = "asyncio"
GIVE_WAY = 0.001
LULL = 0.002
"""Seconds that an outcome waits at the most for others, while each turn of the loop brings some."""
BEFORE_IT_BEGAN = "the run was stopped before it began"


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
    __reduce__ = stays_here

    def __init__(self, max_concurrency: int = 100, *, grace: float = 5.0) -> None:
        self.max_concurrency = require_count("max_concurrency", max_concurrency)
        self.grace = require_seconds("grace", grace)
        self.slots = Slots(max_concurrency)
        self.crew = Crew("asyncio-sync")
        self.clock = Clock("stratagem-asyncio-clock")
        self.own_loop = LoopThread("stratagem-asyncio-loop")
        self._streams: weakref.WeakSet[_LoopStream] = weakref.WeakSet()
        self._finalizer = weakref.finalize(self, _close_all, self.crew, self.clock, self.own_loop)

    def stream(self, tasks: TaskSource) -> Iterator[Outcome]:
        """Take tasks on the loop while there is room, and yield outcomes as they end."""
        stream = _LoopStream(self, tasks, calling_loop())
        self._streams.add(stream)
        return outcomes_of(stream, self.grace)

    def running(self) -> list[Running]:
        """Tell which tasks have begun and not ended, on all streams, from any thread."""
        now = _clock()
        return [
            Running(task, now - runner.began, WORKER)
            for stream in list(self._streams)
            for runner in list(stream._runners)
            if (task := runner.task) is not None
        ]

    def close(self) -> None:
        """Stop the streams that are open, and let loop and threads go."""
        for stream in list(self._streams):
            stream.tasks.close()
        _close_all(self.crew, self.clock, self.own_loop)


def _close_all(crew: Crew, clock: Clock, loop: LoopThread) -> None:
    crew.close()
    clock.close()
    loop.close()


@attrs.define(eq=False)
class _Runner:
    """Hold what one coroutine does for a stream, from when it is started until it leaves.

    Attributes:
        slot: the slot that it holds.
        task: what it runs; None between tasks.
        due: what it is to run first, until its job begins.
        job: the asyncio task that it is.
        started_at: when its task began, in seconds since the epoch.
        began: the same in ``time.perf_counter()``.
        status: how its task ends if it ends by our cancelling; None while we do not.
        timer: what cancels its task at the timeout.
        cancels: how often its task was cancelled; then it takes no other.
        in_thread: whether its task is a call in a thread, which cannot be cancelled.
        abandoned: whether somebody else has answered for its task.
        stack: where its task holds up the loop; empty where it does not.
    """

    slot: Slot
    task: Task | None = None
    due: Task | None = None
    job: "asyncio.Task[None] | None" = None
    started_at: float = 0.0
    began: float = 0.0
    status: Status | None = None
    timer: asyncio.TimerHandle | None = None
    cancels: int = 0
    in_thread: bool = False
    abandoned: bool = False
    stack: str = ""

    def runs_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Tell whether it has begun on ``loop``."""
        return self.job is not None and self.job.get_loop() is loop


class _Raised(Exception):
    """Carry what a call in a thread raised through a coroutine, which can't raise StopIteration."""

    def __init__(self, original: BaseException) -> None:
        super().__init__(original)
        self.original = original


class _LoopStream:
    """Be one stream: runners that hold a slot take tasks and put outcomes into its box.

    A runner's slot is given up by who takes the runner out of the dict:
    the runner itself, or who abandons it.
    """

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
        self.outbox = Outbox(max(UNREAD, 2 * strategy.max_concurrency))
        self._runners: dict[_Runner, None] = {}
        self._over = False
        self._stopping = False
        self._gone = False
        self._pump_due = False
        self._rouse_due = False
        self._rouse_by = 0.0
        self._brought = 0
        self._awaits_room = False
        self.failure: BaseException | None = None
        self._known: tuple[object, bool] = (None, False)
        self._wake_timer: asyncio.TimerHandle | None = None
        self._told_of: tuple[object, Task | None] | None = None
        self._ended = False
        self._claiming = threading.Lock()

    def begin(self) -> None:
        """Take the first tasks."""
        self._use_loop()
        self._slots.join(self)
        self.tasks.subscribe(self._stir)
        self.wake()

    def _use_loop(self) -> None:
        self._loop = self._callers_loop or self._strategy.own_loop.loop
        clock = self._strategy.clock
        LoopWatch(self._loop, clock, lambda: not self._ended, self._note_blocked).start()

    def stop(self, _give_up_at: float) -> None:
        """Cancel async tasks; others have the grace to end by themselves."""
        self._stopping = True
        jobs = [runner.job for runner in list(self._runners)]
        for loop in {self._loop, *(job.get_loop() for job in jobs if job is not None)}:
            self._post(loop, self._cancel_all)

    def give_up(self) -> bool:
        """Abandon what still runs; what is taken only now will not be run."""
        self._gone = True
        for runner in list(self._runners):
            runner.status = runner.status or Status.CANCELLED
            self._abandon(runner, runner.task)
        return True

    def end(self) -> None:
        """Take no part any more."""
        self._over = self._ended = True
        self._slots.forget(self)

    @property
    def finished(self) -> bool:
        """Tell whether no further outcome will come."""
        return not self._runners and (self._over or self.tasks.closed)

    def _stir(self) -> None:
        if self.tasks.closed:
            self.outbox.ring()
        else:
            self.wake()

    def _post(
        self, loop: asyncio.AbstractEventLoop, callback: Callable[..., Any], *args: object
    ) -> bool:
        try:
            loop.call_soon_threadsafe(callback, *args, context=self._base)
        except RuntimeError:  # the loop is closed, and nothing runs on it any more
            return False
        return True

    def wake(self) -> None:
        """Have runners take tasks while slots are free and the consumer keeps up."""
        if not self._pump_due:
            self._pump_due = True
            if not self._post(self._loop, self._pump):
                self._over = True
                self.outbox.ring()

    def _wake_when_room(self) -> None:
        if not self._awaits_room:
            self._awaits_room = True
            self.outbox.resume_when_room(self._wake_since_room)

    def _wake_since_room(self) -> None:
        self._awaits_room = False
        self.wake()

    def _pump(self) -> None:
        """Start a runner for each task that is ready and has a slot. Runs on the loop."""
        if asyncio.get_running_loop() is not self._loop:  # one that was given up, and came back
            return
        self._pump_due = False
        while not (self._over or self.tasks.closed or self.outbox.full):
            if not self._slots.start(self):
                return
            runner = _Runner(Slot(self._slots, self.depth))
            self._runners[runner] = None
            if not self._go_on(runner):
                return
        if self.outbox.full:
            self._wake_when_room()
        self._slots.offer()

    def _go_on(self, runner: _Runner) -> bool:
        """Have a runner take a task in a fresh context; False when there is none."""
        task = self._take(runner)
        if task is not None:
            self._start(runner, task)
        return task is not None

    def _take(self, runner: _Runner) -> Task | None:
        """Give the next task; without one, the runner leaves."""
        try:
            found = self.tasks.poll()
        except BaseException as error:  # noqa: BLE001 - the source is broken
            found = self._end_broken(error)
        if isinstance(found, Task):
            return found
        self._pause(runner, found)
        return None

    def _end_broken(self, error: BaseException) -> Wait | None:
        """End the stream with an error of its source, of which the consumer hears."""
        self.failure = error
        self.tasks.close()
        return None

    def _pause(self, runner: _Runner, found: Wait | None) -> None:
        """Have a runner leave that found no task."""
        if found is None:
            self._over = True
        elif found.seconds < float("inf"):
            self._wake_after(found.seconds)
        self._leave(runner)

    def _leave(self, runner: _Runner) -> None:
        if self._runners.pop(runner, self) is self:
            return
        runner.slot.give_up()
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

    def _start(self, runner: _Runner, task: Task) -> None:
        context = (self._base if task.context is None else task.context).copy()
        runner.cancels, runner.status, runner.due = 0, None, task
        runner.job = self._loop.create_task(self._run(runner, task), context=context)

    async def _run(self, runner: _Runner, task: Task) -> None:  # noqa: C901, PLR0911, PLR0912, PLR0915
        """Run ``task`` and what can be taken after it, until this context differs or it must go.

        It is one function, since a second frame for each task would cost as much again.
        """
        base, slot, slots, outbox = task.context, runner.slot, self._slots, self.outbox
        unread, many, bound = outbox.unread, outbox.many, outbox.bound
        poll = self.tasks.poll
        known, is_known_async = self._known
        loop = asyncio.get_running_loop()
        with self._claiming:
            if runner.job is not asyncio.current_task():  # it has moved to another loop
                return
            runner.due = None
        if self.tasks.closed:
            outbox.put(cancelled(task, BEFORE_IT_BEGAN))
            self._leave(runner)
            return
        while not self._gone:
            runner.task, runner.started_at, runner.began = task, _now(), _clock()
            if task.timeout is not None or self._stopping:
                self._limit(runner, task)
            entered = None
            try:
                enter_task((task, slot))
                if "structlog.contextvars" in _modules:
                    bind_for_structlog(task)
                entered = copy_context()
                call = task.call
                function = call.func if type(call) is partial else call
                if function is not known:
                    known, is_known_async = self._known = (function, is_async(function))
                value = await (call() if is_known_async else self._call_sync(runner, task))
                outcome = succeeded(task, value, runner.started_at, _clock() - runner.began, WORKER)
            except BaseException as error:  # noqa: BLE001 - whatever a task raises is its outcome
                outcome = self._failed(runner, task, error)
                if not runner.cancels and self._ends_with_its_loop():
                    self.tasks.close()
            if (task.timeout is not None and not self._claims(runner)) or runner.abandoned:
                return
            runner.task = None
            unread.append(outcome)
            if outbox.asleep and (len(unread) >= many or not self._rouse_due):
                self._rouse_soon()
            if len(unread) >= bound and not self._give_way():
                self._leave(runner)
                self._wake_when_room()
                return
            if loop is not self._loop or (slots.contended and slots.must_yield(self)):
                self._leave(runner)
                self.wake()
                return
            if runner.cancels or copy_context() != entered:
                self._loop.call_soon(self._go_on, runner, context=self._base)
                return
            try:
                following = poll()
            except BaseException as error:  # noqa: BLE001 - the source is broken
                following = self._end_broken(error)
            if not isinstance(following, Task):
                self._pause(runner, following)
                return
            if following.context is not base:
                self._start(runner, following)
                return
            task = following
        self._leave(runner)  # taken too late: the engine answers for the task

    def _ends_with_its_loop(self) -> bool:
        """Tell whether the loop that the consumer is on ends, for which all on it is cancelled."""
        return self.outbox.is_read_on_loop and all(
            task.cancelling() for task in asyncio.all_tasks()
        )

    def _rouse_soon(self) -> None:
        """Rouse the consumer for many at once, or when the loop brings nothing more right now.

        One who is roused for each outcome takes the interpreter away in the midst of a turn.
        """
        outbox = self.outbox
        on_its_loop = asyncio.get_running_loop() is self._loop
        if outbox.is_read_on_loop or len(outbox.unread) >= outbox.many or not on_its_loop:
            outbox.ring()
        elif not self._rouse_due:
            self._rouse_due = True
            self._rouse_by, self._brought = _clock() + LULL, len(outbox.unread)
            self._loop.call_soon(self._rouse, context=self._base)

    def _rouse(self) -> None:
        outbox = self.outbox
        brought, self._brought = self._brought, len(outbox.unread)
        if outbox.asleep and brought < self._brought and _clock() < self._rouse_by:
            self._loop.call_soon(self._rouse, context=self._base)
            return
        self._rouse_due = False
        outbox.rouse()

    def _claims(self, runner: _Runner) -> bool:
        """Tell whether a runner may answer for its timed task, which the clock may do as well."""
        with self._claiming:
            if runner.abandoned:
                return False
            runner.task = None
        if runner.timer is not None:
            runner.timer.cancel()
            runner.timer = None
        return True

    def _give_way(self) -> bool:
        """Let the consumer read, who may else wait for the interpreter; tell whether it did."""
        outbox = self.outbox
        if outbox.is_read_on_loop or self._awaits_room:
            return False
        return outbox.wait_for_room(GIVE_WAY)

    def _limit(self, runner: _Runner, task: Task) -> None:
        if task.timeout is not None:
            overdue = self._cancel_overdue
            loop = asyncio.get_running_loop()
            runner.timer = loop.call_later(task.timeout, overdue, runner, task)
        if self._stopping:
            self._cancel(runner, task)

    async def _call_sync(self, runner: _Runner, task: Task) -> Any:
        runner.in_thread = True
        value, raised = await self._call_in_thread(runner, task.call)
        runner.in_thread = False
        if raised is not None:
            raise _Raised(raised)
        if not is_awaitable(value):
            return value
        if self._stopping:
            runner.status = runner.status or Status.CANCELLED
            close_unbegun(value, self._loop)
            raise asyncio.CancelledError
        return await value

    async def _call_in_thread(
        self, runner: _Runner, call: Callable[[], Any]
    ) -> tuple[Any, BaseException | None]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
        context = copy_context()

        def settle(value: Any, error: BaseException | None) -> None:
            if not done.done():
                done.set_result((value, error))

        def work() -> None:
            value, error = None, None
            if self.tasks.closed:
                runner.status = runner.status or Status.CANCELLED
                runner.started_at, runner.began = 0.0, _clock()
                self._post(loop, settle, None, asyncio.CancelledError())
                return
            try:
                value = context.run(call)
            except BaseException as raised:  # noqa: BLE001 - raised again where it is awaited
                error = raised
            self._post(loop, settle, value, error)

        self._strategy.crew.run(work)
        return await done

    def _failed(self, runner: _Runner, task: Task, error: BaseException) -> Outcome:
        status = Status.ERROR
        seconds = _clock() - runner.began
        if isinstance(error, _Raised):
            error = error.original
        if runner.status is not None and isinstance(error, asyncio.CancelledError):
            status = runner.status
            error = self._reason(runner, task)
        error = without_own_frames(error)
        return failed(task, error, status, runner.started_at, seconds, WORKER)

    def _reason(self, runner: _Runner, task: Task) -> BaseException:
        abandoned = runner.abandoned or runner.in_thread
        if runner.status is Status.TIMEOUT:
            assert task.timeout is not None
            return TaskTimeoutError(task.key, task.timeout, abandoned=abandoned, stack=runner.stack)
        why = "the run was stopped" + ", and it did not end in time" * abandoned
        return TaskCancelledError(task.key, why)

    def _cancel_overdue(self, runner: _Runner, task: Task) -> None:
        if runner.task is task:
            runner.status = runner.status or Status.TIMEOUT
            self._cancel(runner, task)

    def _note_blocked(self, watch: LoopWatch) -> None:
        """Name what holds up the loop, and keep the deadlines that it would break."""
        job = watch.job
        runners = [runner for runner in list(self._runners) if runner.runs_on(watch.loop)]
        held_up_by = next((runner for runner in runners if runner.job is job), None)
        task = None if held_up_by is None else held_up_by.task
        if self._told_of != (job, task):
            self._told_of = (job, task)
            self.outbox.rouse()
            log_blocked(None if task is None else task.key, watch.blocked_for, watch.stack)
        for runner in runners:
            task = runner.task
            if task is None or task.timeout is None or _clock() - runner.began < task.timeout:
                continue
            runner.status = Status.TIMEOUT
            if runner is held_up_by:
                runner.stack = watch.stack
                if self._callers_loop is None:
                    self._strategy.own_loop.replace(watch.loop)
            self._abandon(runner, task)
        self._follow(watch.loop)

    def _follow(self, blocked: asyncio.AbstractEventLoop) -> None:
        """Go on with a fresh loop where ours was given up, by this stream or by another."""
        ours = self._callers_loop is None and self._loop is blocked
        if ours and self._strategy.own_loop.loop is not blocked:
            self._use_loop()
            self._pump_due, self._rouse_due, self._wake_timer = False, False, None
            for runner in list(self._runners):
                if runner.due is not None and runner.runs_on(blocked):
                    self._post(self._loop, self._start_here, runner, runner.due)
            self.wake()

    def _start_here(self, runner: _Runner, task: Task) -> None:
        """Begin on this loop what has not begun on one that is held up."""
        with self._claiming:
            if runner.due is task:
                self._start(runner, task)

    def _cancel_all(self) -> None:
        loop = asyncio.get_running_loop()
        for runner in list(self._runners):
            if runner.task is not None and runner.runs_on(loop):
                self._cancel(runner, runner.task)

    def _cancel(self, runner: _Runner, task: Task) -> None:
        """Cancel a task; one that goes on regardless is cancelled again, and at last abandoned."""
        if runner.task is not task or runner.abandoned or runner.job is None:
            return
        if runner.status is None:
            if runner.in_thread:  # it cannot be cancelled, and has the grace to end by itself
                return
            runner.status = Status.CANCELLED
        if runner.cancels < len(CANCEL_AGAIN):
            runner.job.cancel()
            again = CANCEL_AGAIN[runner.cancels]
            runner.job.get_loop().call_later(again, self._cancel, runner, task)
            runner.cancels += 1
        elif runner.status is Status.TIMEOUT:
            self._abandon(runner, task)

    def _abandon(self, runner: _Runner, task: Task | None) -> None:
        """Answer for a task that will not be cancelled, and have its runner be over."""
        with self._claiming:
            if runner.abandoned or runner.task is not task:
                return
            runner.abandoned = True
        if task is not None:
            self.outbox.put(self._failed(runner, task, asyncio.CancelledError()))
        self._leave(runner)
        self.outbox.ring()
        self.wake()
