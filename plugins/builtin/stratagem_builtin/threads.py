"""The strategy that runs tasks in threads, which take for themselves."""

import threading
import time
import weakref
from collections.abc import Iterator
from functools import partial
from threading import current_thread
from time import monotonic
from typing import TYPE_CHECKING, Any

import attrs

from stratagem import (
    AbandonedThreadsError,
    Outcome,
    Running,
    Status,
    StreamingStrategy,
    Task,
    TaskCancelledError,
    TaskSource,
    TaskTimeoutError,
    Wait,
    invoke,
)
from stratagem.consuming import outcomes_of
from stratagem.invoke import failed
from stratagem.loop_thread import LoopThread
from stratagem.loops import calling_loop, is_cancel
from stratagem.options import require_count, require_seconds
from stratagem.outbox import UNREAD, Outbox
from stratagem.scope import current_hold
from stratagem.slots import Slot, Slots, depth_below
from stratagem.strategy import cancelled, stays_here
from stratagem.threads import Clock, Crew, stack_of

if TYPE_CHECKING:
    from stratagem.event_loops import LoopCall

__all__ = ["ThreadPoolStrategy"]

CANCEL_AGAIN = (0.05, 0.2, 0.75)
"""Seconds after which a coroutine that swallows its cancel is cancelled again, at last given up."""


class ThreadPoolStrategy(StreamingStrategy):
    """Run tasks in threads: for I/O, such as calls of an LLM's API.

    Threads and the event loop for async tasks are kept until ``close``.
    All streams of one object share its ``max_workers``, nested ones too.

    Args:
        max_workers: how many tasks run at once.
        grace: seconds that running tasks get to end when a run is stopped; then they are abandoned.
        max_abandoned: how many threads that could not be stopped may run on at once;
            one more ends the run with an ``AbandonedThreadsError``.

    Raises:
        ValueError: an option is out of range.
    """

    shares_memory = True
    enforces_timeouts = True
    __reduce__ = stays_here

    def __init__(
        self, max_workers: int = 8, *, grace: float = 5.0, max_abandoned: int = 64
    ) -> None:
        self.max_workers = require_count("max_workers", max_workers)
        self.grace = require_seconds("grace", grace)
        self.max_abandoned = require_count("max_abandoned", max_abandoned, least=0)
        self.abandoned: set[_Seat] = set()
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

    def running(self) -> list[Running]:
        """Tell which tasks have begun and not ended, on all streams, from any thread."""
        now = monotonic()
        return [
            Running(task, now - seat.began, "" if seat.thread is None else seat.thread.name)
            for stream in list(self._streams)
            for seat in list(stream._seats)
            if (task := seat.task) is not None
        ]

    def close(self) -> None:
        """Stop the streams that are open, and let threads and loop go."""
        for stream in list(self._streams):
            stream.tasks.close()
        _close_all(self.crew, self.clock, self.own_loop)


def _close_all(crew: Crew, clock: Clock, loop: LoopThread) -> None:
    crew.close()
    clock.close()
    loop.close()


@attrs.define(eq=False)
class _Seat:
    """Hold what one thread does for a stream, from when it is called until it leaves.

    Attributes:
        slot: the slot that it holds.
        task: what it runs; None between tasks.
        began: when that began, in ``time.monotonic()``.
        thread: the thread; None until it comes.
        awaited: what it waits for on the event loop; None for nothing.
        claim: the claim on its task; None where that has no timeout.
    """

    slot: Slot
    task: Task | None = None
    began: float = 0.0
    thread: threading.Thread | None = None
    awaited: "LoopCall | None" = None
    claim: "_Claim | None" = None


@attrs.define(eq=False)
class _Claim:
    """Be the right to answer for one timed task.

    Attributes:
        seat: where it runs.
        task: the task.
        deadline: when somebody should look at it next, in ``time.monotonic()``.
        awaited: what it waits for on the event loop; None for nothing.
        cancels: how often that was cancelled because the task is overdue.
    """

    seat: _Seat
    task: Task
    deadline: float
    awaited: "LoopCall | None" = None
    cancels: int = 0


class _ThreadStream:
    """Be one stream: threads that hold a slot take tasks from it and put outcomes into its box.

    A seat is given up, and a task with a timeout answered for, by who takes it out of its dict:
    the thread itself, or who abandons it. Each timed task has a claim of its own, so that a
    deadline that comes late cannot hit the next task of its thread.
    """

    def __init__(self, strategy: ThreadPoolStrategy, tasks: TaskSource) -> None:
        self.tasks = tasks
        self.depth = depth_below(current_hold())
        self._strategy = strategy
        self._slots = strategy.slots
        self._loop = calling_loop()
        self.outbox = Outbox(max(UNREAD, 2 * strategy.max_workers))
        self._lock = threading.Lock()
        self._seats: dict[_Seat, None] = {}
        self._timed: dict[_Claim, None] = {}
        self._over = False
        self._rousing = False
        self._awaits_room = False
        self._stopping = False
        self._gone = False
        self.failure: BaseException | None = None
        self._wake_at = float("inf")
        self._watch_at = float("inf")

    def begin(self) -> None:
        """Take the first tasks."""
        self._slots.join(self)
        self.tasks.subscribe(self._stir)
        self.wake()

    def stop(self, _give_up_at: float) -> None:
        """Cancel async tasks; others have the grace to end by themselves."""
        self._stopping = True
        for seat in list(self._seats):
            if (awaited := seat.awaited) is not None:
                awaited.cancel()

    def give_up(self) -> bool:
        """Abandon what still runs; what is taken only now will not be run."""
        self._gone = True
        for seat in list(self._seats):
            task = seat.task
            if task is not None:
                why = "the run was stopped, and it did not end in time"
                self._answer(seat, task, TaskCancelledError(task.key, why), Status.CANCELLED)
            self._abandon(seat)
        self._timed.clear()
        return True

    def end(self) -> None:
        """Take no part any more."""
        self._over = True
        self._slots.forget(self)

    @property
    def finished(self) -> bool:
        """Tell whether no further outcome will come."""
        return not self._seats and (self._over or self.tasks.closed)

    def _stir(self) -> None:
        if self.tasks.closed:
            self.outbox.ring()
        else:
            self.wake()

    def wake(self) -> None:
        """Have one more thread take tasks, if a slot is free and the consumer keeps up.

        It rouses the next one, if it finds a task.
        """
        if self._over or self.tasks.closed:
            self._slots.offer()
        elif self.outbox.full:
            self._wake_when_room()
            self._slots.offer()
        elif self._slots.start(self):
            seat = _Seat(Slot(self._slots, self.depth))
            self._seats[seat] = None
            self._rousing = True
            self._strategy.crew.run(partial(self._serve, seat))

    def _wake_when_room(self) -> None:
        if not self._awaits_room:
            self._awaits_room = True
            self.outbox.resume_when_room(self._wake_since_room)

    def _wake_since_room(self) -> None:
        self._awaits_room = False
        self.wake()

    def _serve(self, seat: _Seat) -> None:
        seat.thread = current_thread()
        left_for = "failure"
        try:
            left_for = self._take_and_run(seat)
        except BaseException as error:  # noqa: BLE001 - the source is broken; the consumer hears of it
            self.failure = error
            self.tasks.close()
        if not self._leave(seat):
            self._strategy.abandoned.discard(seat)
            return
        if left_for == "full":
            self._wake_when_room()
        elif left_for == "turn":
            self.wake()

    def _leave(self, seat: _Seat) -> bool:
        """Give a seat up; False where somebody else has done so."""
        if self._seats.pop(seat, self) is self:
            return False
        seat.slot.give_up()
        if self.finished:
            self.outbox.ring()
        return True

    def _take_and_run(self, seat: _Seat) -> str:
        """Take and run tasks while there are some; say why it left."""
        poll, outbox, slots = self.tasks.poll, self.outbox, self._slots
        slot, worker, finish = seat.slot, current_thread().name, partial(self._finish, seat)
        unread, bound = outbox.unread, outbox.bound
        full = outbox.full
        self._rousing = False
        if full:
            return "full"
        while isinstance(found := poll(), Task) and not self._gone:
            if slots.free and not self._rousing:
                self.wake()
            seat.task, seat.began = found, monotonic()
            if found.timeout is not None:
                seat.claim = self._watch(seat, found, found.timeout)
            outcome = invoke(found, finish=finish, hold=slot, worker=worker)
            claim = seat.claim
            if claim is not None and self._timed.pop(claim, self) is self:
                return "timeout"
            seat.task = seat.claim = None
            if outcome.error is not None and is_cancel(outcome.error):
                outcome = self._cancelled(claim, found, outcome)
            unread.append(outcome)
            if outbox.asleep or len(unread) >= bound:
                outbox.ring()
                if outbox.full:
                    return "full"
            if slots.contended and slots.must_yield(self):
                return "turn"
        return self._note_end(found)

    def _cancelled(self, claim: _Claim | None, task: Task, outcome: Outcome) -> Outcome:
        """Give the outcome of an async task that ended as cancelled: by us, or by itself."""
        if claim is not None and claim.cancels and task.timeout is not None:
            error: Exception = TaskTimeoutError(task.key, task.timeout)
            return attrs.evolve(outcome, status=Status.TIMEOUT, error=error)
        return cancelled(task) if self._stopping else outcome

    def _note_end(self, found: Task | Wait | None) -> str:
        if isinstance(found, Task):  # taken too late: the engine answers for it
            return "stop"
        if isinstance(found, Wait):
            self._wake_after(found.seconds)
            return "wait"
        self._over = True
        return "end"

    def _wake_after(self, seconds: float) -> None:
        when = monotonic() + seconds
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

    def _finish(self, seat: _Seat, awaitable: Any) -> Any:
        loop = self._loop or self._strategy.own_loop.loop
        from asyncio import CancelledError  # noqa: PLC0415 - slow to import, as all it brings

        from stratagem.event_loops import LoopCall, close_unbegun  # noqa: PLC0415

        if self._stopping:
            close_unbegun(awaitable, loop)
            raise CancelledError
        seat.awaited = call = LoopCall(awaitable, loop)
        if seat.claim is not None:
            seat.claim.awaited = call
        if self._stopping:
            call.cancel()
        try:
            return call.result()
        finally:
            seat.awaited = None

    def _watch(self, seat: _Seat, task: Task, timeout: float) -> _Claim:
        """Have the clock end a task in time."""
        claim = _Claim(seat, task, seat.began + timeout)
        self._timed[claim] = None
        self._look_at(claim.deadline)
        return claim

    def _look_at(self, deadline: float) -> None:
        with self._lock:
            if self._watch_at <= deadline:
                return
            self._watch_at = deadline
        self._strategy.clock.call_at(deadline, self._end_overdue)

    def _end_overdue(self) -> None:
        with self._lock:
            self._watch_at = float("inf")
        now = monotonic()
        for claim in list(self._timed):
            if claim.deadline > now:
                self._look_at(claim.deadline)
            elif claim.awaited is not None and claim.cancels < len(CANCEL_AGAIN):
                claim.deadline = now + CANCEL_AGAIN[claim.cancels]
                claim.cancels += 1
                claim.awaited.cancel()
                self._look_at(claim.deadline)
            elif self._timed.pop(claim, self) is not self:
                self._time_out(claim.seat, claim.task)

    def _time_out(self, seat: _Seat, task: Task) -> None:
        stack = "" if seat.awaited is not None else stack_of(seat.thread)
        error = TaskTimeoutError(task.key, task.timeout or 0.0, abandoned=True, stack=stack)
        self._answer(seat, task, error, Status.TIMEOUT)
        self._abandon(seat)
        count, most = len(self._strategy.abandoned), self._strategy.max_abandoned
        if count > most and self.failure is None:
            self.failure = AbandonedThreadsError(count, most)
            self.tasks.close()
        self.wake()

    def _answer(self, seat: _Seat, task: Task, error: BaseException, status: Status) -> None:
        seconds = monotonic() - seat.began
        worker = "" if seat.thread is None else seat.thread.name
        self.outbox.put(failed(task, error, status, time.time() - seconds, seconds, worker))

    def _abandon(self, seat: _Seat) -> None:
        """Have a seat be over without its thread, which may never come back."""
        abandoned = self._strategy.abandoned
        awaited = seat.awaited
        if awaited is not None:
            awaited.cancel()
        if seat.task is not None:
            abandoned.add(seat)
        if not self._leave(seat):
            abandoned.discard(seat)
        self.outbox.ring()
