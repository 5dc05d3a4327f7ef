"""The strategy that runs tasks in worker processes, each behind a pipe of its own."""

import multiprocessing
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context
from functools import partial
from multiprocessing.context import BaseContext
from multiprocessing.util import Finalize
from typing import Any

import attrs

from stratagem import (
    Outcome,
    Running,
    Status,
    StreamingStrategy,
    Task,
    TaskSource,
    TransportError,
)
from stratagem.batch import Batch
from stratagem.consuming import outcomes_of
from stratagem.invoke import failed
from stratagem.options import require_count, require_seconds
from stratagem.outbox import Outbox
from stratagem.scope import current_hold, run_scope
from stratagem.slots import depth_below
from stratagem.strategy import cancelled, stays_here
from stratagem.transport import encode, without_frames
from stratagem_builtin.dispatcher import Dispatcher
from stratagem_builtin.forking import warn_of_threads
from stratagem_builtin.handle import Handle, Sending
from stratagem_builtin.initializer import initializer_of
from stratagem_builtin.memory_limit import memory_limit_of
from stratagem_builtin.worker import PLAIN, Common, Settings, Shipment

__all__ = ["ProcessPoolStrategy"]

WINDOW = 512
WIDEST_WINDOW = 2_048
READING_SECONDS = 0.02
"""In flight or unread may be as many as were read in so long a time, and ``WINDOW`` at least."""
BATCH_SECONDS = 0.005
LARGEST_BATCH = 512


class ProcessPoolStrategy(StreamingStrategy):
    """Run tasks in worker processes: for CPU-heavy work, and for tasks that may crash.

    Workers are kept until ``close``.
    A worker that dies costs only the task that it was running.
    All streams of one object share its workers.

    Args:
        max_workers: how many tasks run at once; as many as there are usable CPUs by default.
        start_method: ``"forkserver"``, ``"spawn"`` or ``"fork"``; the first that there is.
        grace: seconds that running tasks get to end when a run is stopped; then they are killed.
        max_result_bytes: a result that is larger when pickled is an error.
        start_timeout: seconds that a worker gets to start; then it is killed.
        max_memory: bytes of address space that each worker has; a task that wants more fails with
            MemoryError. None for no bound.
        max_tasks_per_worker: after so many tasks a worker is replaced; None for never.
        initializer: called once in each worker before its first task, or where it is, as text:
            ``"package.module:function"``. What it returns is what ``worker_state()`` gives there.

    Raises:
        ValueError: an option is out of range.
        TypeError: ``initializer`` can be neither called nor looked up.
        TransportError: ``initializer`` cannot be pickled.
    """

    can_kill = True
    isolates_crashes = True
    enforces_timeouts = True
    __reduce__ = stays_here

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        start_method: str | None = None,
        grace: float = 5.0,
        max_result_bytes: int = 67_108_864,
        start_timeout: float = 60.0,
        max_tasks_per_worker: int | None = None,
        max_memory: int | None = None,
        initializer: Callable[[], Any] | str | None = None,
    ) -> None:
        self.max_workers = require_count(
            "max_workers", usable_cpus() if max_workers is None else max_workers
        )
        self.grace = require_seconds("grace", grace)
        self.start_method = _start_method(start_method)
        self.max_result_bytes = require_count("max_result_bytes", max_result_bytes)
        self.start_timeout = require_seconds("start_timeout", start_timeout, zero=False)
        self.max_tasks_per_worker = _require_count_or_none(
            "max_tasks_per_worker", max_tasks_per_worker
        )
        settings = Settings(
            self.max_result_bytes,
            self.start_timeout,
            max_tasks=self.max_tasks_per_worker or 0,
            max_memory=memory_limit_of(max_memory),
            initializer=initializer_of(initializer),
        )
        self._dispatcher = Dispatcher(self.max_workers, _context(self.start_method), settings)
        self._forked = False
        self._streams: weakref.WeakSet[ProcessStream] = weakref.WeakSet()
        # Runs before multiprocessing joins its children when the interpreter exits.
        self._finalizer = Finalize(self, self._dispatcher.close, exitpriority=100)

    def stream(self, tasks: TaskSource) -> Iterator[Outcome]:
        """Send tasks to workers that have room, and yield outcomes as they come back."""
        if self.start_method == "fork" and not self._forked:
            self._forked = True
            warn_of_threads()
        stream = ProcessStream(tasks, self._dispatcher)
        self._streams.add(stream)
        return outcomes_of(stream, self.grace)

    def running(self) -> list[Running]:
        """Tell which tasks run in workers now; those that wait there in a batch do not."""
        return list(self._dispatcher.running())

    def close(self) -> None:
        """Stop the streams that are open, and end every worker."""
        for stream in list(self._streams):
            stream.tasks.close()
        self._dispatcher.close()


def usable_cpus() -> int:
    """Count the CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _require_count_or_none(option: str, count: int | None) -> int | None:
    return None if count is None else require_count(option, count)


def _start_method(wanted: str | None) -> str:
    there_are = multiprocessing.get_all_start_methods()
    if wanted is None:
        return "forkserver" if "forkserver" in there_are else "spawn"
    if wanted not in there_are:
        raise ValueError(f"start_method must be one of {', '.join(there_are)}, not {wanted!r}")
    return wanted


def _context(start_method: str) -> BaseContext:
    context = multiprocessing.get_context(start_method)
    if start_method == "forkserver":
        # Workers are then forked with what they need imported. Nothing happens if the server runs.
        context.set_forkserver_preload(["stratagem_builtin.worker"])
    return context


@attrs.frozen(eq=False)
class SentOnce:
    """Hold a function that tasks share: every worker gets it once."""

    number: int
    function: Callable[[Any], Any]
    pickled: bytes


class ProcessStream:
    """Be one stream: the dispatcher takes tasks from it and puts outcomes into its box.

    Attributes:
        tasks: where its tasks come from.
        mean_seconds: the run time of its recent tasks; None before the first.
        ready: whether polling may pay.
        retry_at: when polling pays at the latest, in ``time.monotonic()``.
        out: how many tasks are with the dispatcher.
        depth: how many runs it is nested in.
        function: what its tasks call; None before the first of them that is a ``partial``.
        over: whether no further task will come.
    """

    def __init__(self, tasks: TaskSource, dispatcher: Dispatcher) -> None:
        self.tasks = tasks
        self.depth = depth_below(current_hold())
        self._run: tuple[Context | None, str] = (None, "")
        self.mean_seconds: float | None = None
        self.ready = True
        self.retry_at = float("inf")
        self.out = 0
        self.over = False
        self._dispatcher = dispatcher
        self.outbox = Outbox(WINDOW)
        self.function: SentOnce | None = None
        self._awaiting_room = False
        self._window = WINDOW
        self._answered = self._read = 0
        self._looked_at = 0.0
        self.failure: BaseException | None = None
        self.returned: deque[Task] = deque()

    def begin(self) -> None:
        """Take the first tasks."""
        self.tasks.subscribe(self._stir)
        self._dispatcher.add(self)

    def stop(self, give_up_at: float) -> None:
        """Take back what has not begun; what runs on is killed at ``give_up_at``."""
        self._dispatcher.stop(self, give_up_at)

    def give_up(self) -> bool:
        """Leave it to the dispatcher, which kills."""
        return False

    def end(self) -> None:
        """Take no part any more."""
        self._dispatcher.remove(self)

    @property
    def finished(self) -> bool:
        """Tell whether no further outcome will come."""
        return self.failure is not None or (
            self.out == 0 and (self.over or self.tasks.closed) and not self.returned
        )

    @property
    def room(self) -> int:
        """Tell how many of its tasks a worker may have at once: more than one if they are short."""
        mean = self.mean_seconds
        if mean is None or mean >= BATCH_SECONDS:
            return 1
        return max(1, min(LARGEST_BATCH, int(BATCH_SECONDS / max(mean, 1e-6))))

    def _stir(self) -> None:
        self.ready = True
        if self.tasks.closed:
            self.outbox.ring()
        self._dispatcher.wake()

    def take(self, most: int) -> Sequence[Task]:
        """Give tasks to send, ``most`` at the most, if there are some now.

        Only the dispatcher calls it.
        """
        if self.failure is not None:  # the consumer is about to hear of it
            return ()
        if self.returned:
            count = min(most, len(self.returned))
            self.out += count  # first: what is in neither would pass for the end of the stream
            return [self.returned.popleft() for _ in range(count)]
        if self.ready or self.retry_at <= time.monotonic():
            return self._poll(min(most, self._window_left()))
        return ()

    def _window_left(self) -> int:
        unread = len(self.outbox)
        self._look_at_reader(unread)
        left = self._window - self.out - unread
        # Where it is the workers that have the window, their answers bring the next look.
        if left <= 0 and unread > self.outbox.half and not self._awaiting_room:
            self._awaiting_room = True
            self.outbox.resume_when_room(self._room)
        return left

    def _look_at_reader(self, unread: int) -> None:
        """Have the window as wide as the consumer reads in a short time."""
        now = time.monotonic()
        seconds = now - self._looked_at
        if seconds < READING_SECONDS:
            return
        read = self._answered - unread
        pace = (read - self._read) / seconds
        self._window = max(WINDOW, min(WIDEST_WINDOW, int(pace * READING_SECONDS)))
        self._looked_at, self._read = now, read

    def _poll(self, most: int) -> Sequence[Task]:
        tasks: Sequence[Task] = ()
        if self.over or most <= 0:
            return tasks
        self.ready, self.retry_at = False, float("inf")  # first: a wake from now on must count
        self.out += most  # first: what is in neither would pass for the end of the stream
        try:
            tasks, rest = self.tasks.poll_some(most)
            if rest is None:
                self.over = True
            elif rest.seconds:
                self.retry_at = time.monotonic() + rest.seconds
            else:
                self.ready = True
        finally:
            self.out -= most - len(tasks)
            if self.over:
                self.outbox.ring()
        return tasks

    def _room(self) -> None:
        self._awaiting_room = False
        self._dispatcher.wake()

    def pack(self, tasks: Sequence[Task], sent: dict[int, Sending]) -> list[Shipment]:
        """Prepare tasks for sending, and note them in ``sent``; settle those that can't be sent."""
        if isinstance(tasks, Batch) and (shipment := self._pack_batch(tasks, sent)):
            return [shipment]
        shipments: list[tuple[Common, list[int], list[int], list[str], list[Any]]] = []
        for task in tasks:
            try:
                function, given = self._parts(task.call)
            except TransportError as error:
                self.settle([failed(task, without_frames(error), Status.ERROR)])
                continue
            common = self._common(task, function)
            if not shipments or shipments[-1][0] != common:
                shipments.append((common, [], [], [], []))
            _, sendings, indices, keys, calls = shipments[-1]
            number = self._dispatcher.next_number()
            sendings.append(number)
            indices.append(task.index)
            keys.append(task.key)
            calls.append(given)
            sent[number] = Sending(self, [task], number)
        return [*shipments]

    def _pack_batch(self, batch: Batch, sent: dict[int, Sending]) -> Shipment | None:
        """Pack as ``pack`` does, without a step for each, what is called with plain values.

        None where that cannot be, and before the function of the stream was sent.
        """
        function = self.function
        if function is None or batch.function is not function.function:
            return None
        if not PLAIN.issuperset(map(type, batch.items)):
            return None
        numbers = self._dispatcher.next_numbers(len(batch))
        sent.update(dict.fromkeys(numbers, Sending(self, batch, numbers.start)))
        common = self._common(batch.template, function.number)
        return common, numbers, batch.indices, None, batch.items

    def _common(self, task: Task, function: int) -> Common:
        return self._run_id(task), task.name, task.attempt, task.tags, task.parent, function

    def _parts(self, call: Callable[[], Any]) -> tuple[int, Any]:
        """Give the number of the function to call and what with; 0 and the call for another.

        Raises:
            TransportError: it cannot be pickled.
        """
        once = self._sent_once_for(call) if self.function is None else self.function
        if (
            once is not None
            and type(call) is partial
            and call.func is once.function
            and len(call.args) == 1
            and not call.keywords
        ):
            number, given = once.number, call.args[0]
        else:
            number, given = 0, call
        return number, given if type(given) in PLAIN else encode(given, "encode_task")

    def _sent_once_for(self, call: Callable[[], Any]) -> SentOnce | None:
        """Have the function of the first ``partial`` sent once; None for another call.

        Raises:
            TransportError: it cannot be pickled.
        """
        if type(call) is not partial or call.keywords or len(call.args) != 1:
            return None
        pickled = encode(call.func, "encode_task")
        self.function = SentOnce(self._dispatcher.next_number(), call.func, pickled)
        return self.function

    def functions_for(self, worker: Handle) -> dict[int, bytes]:
        """Give the function of its tasks, to be sent now, if a worker does not have it."""
        function = self.function
        if function is None or function.number in worker.functions:
            return {}
        worker.functions.add(function.number)
        return {function.number: function.pickled}

    def _run_id(self, task: Task) -> str:
        """Give the id of the run of a task; the tasks of a run share their context."""
        context, run_id = self._run
        if context is not task.context:
            scope = None if task.context is None else task.context.get(run_scope)
            run_id = "" if scope is None else scope.run_id
            self._run = (task.context, run_id)
        return run_id

    def settle(self, outcomes: list[Outcome]) -> None:
        """Lay outcomes out for the consumer, whom the dispatcher rouses when it has done all.

        One that is roused earlier takes the interpreter away from who keeps the workers busy.
        """
        self.outbox.unread.extend(outcomes)
        self._answered += len(outcomes)
        self.out -= len(outcomes)
        if self.out == 0 and self.finished:
            self.outbox.ring()

    def note_seconds(self, tasks: int, seconds: float) -> None:
        """Take the run time of so many tasks, all together, into the mean."""
        old = 0.0 if self.mean_seconds is None else 0.8**tasks
        self.mean_seconds = old * (self.mean_seconds or 0.0) + (1 - old) * seconds / tasks

    def take_back(self, task: Task) -> None:
        """Keep a task that was not begun, for the next worker with room."""
        if self.tasks.closed:
            self.settle([cancelled(task, "the run was stopped before it began")])
        else:
            self.returned.append(task)
            self.out -= 1

    def fail(self, error: BaseException) -> None:
        """End the stream with an error of the strategy itself."""
        self.failure = error
        self.outbox.ring()
