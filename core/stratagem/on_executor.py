"""The strategy that runs tasks on an executor of the standard library, whoever wrote that."""

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from typing import Any

from stratagem.carriers import Carrier, Here, Loops, There, hosts_this
from stratagem.consuming import outcomes_of
from stratagem.errors import TaskCancelledError, TaskLostError, TransportError
from stratagem.hosts import Given, Host, Made, is_of, runs_here, workers_of
from stratagem.invoke import failed
from stratagem.loops import calling_loop
from stratagem.options import require_count, require_seconds
from stratagem.outbox import Outbox
from stratagem.parcels import InTurn
from stratagem.snapshot import Running
from stratagem.source import TaskSource
from stratagem.strategy import StreamingStrategy, cancelled, stays_here
from stratagem.task import Outcome, Status, Task, Wait
from stratagem.threads import Crew
from stratagem.transport import without_frames

__all__ = ["ExecutorStrategy"]

MOST_BREAKS = 5
"""So often in a row, without any answer in between, an executor may break and be made anew."""


class ExecutorStrategy(StreamingStrategy):
    """Run tasks on a ``concurrent.futures.Executor``: of threads, processes, or a cluster.

    Children of a task run where it runs, one after another: a worker of an executor that waited
    for children on the same executor might wait for ever.

    Args:
        executor: the executor, which stays open; or what makes one, which is made again when it
            breaks, and shut down by ``close``.
        max_in_flight: how many tasks of one stream are with the executor at once;
            twice as many as it has workers by default, which it may tell in ``_max_workers``
            or ``max_workers``, else there are as many as CPUs.
        grace: seconds that running tasks get to end when a run is stopped; then they are abandoned.
        shares_memory: whether calls run in this process and need not be pickled; by default where
            the executor is a ``ThreadPoolExecutor`` or says so in an attribute of that name.

    Raises:
        TypeError: there is no executor.
        ValueError: an option is out of range.
    """

    __reduce__ = stays_here

    def __init__(
        self,
        executor: Executor | Callable[[], Executor],
        *,
        max_in_flight: int | None = None,
        grace: float = 5.0,
        shares_memory: bool | None = None,
    ) -> None:
        if max_in_flight is not None:
            require_count("max_in_flight", max_in_flight)
        self.grace = require_seconds("grace", grace)
        if shares_memory is not None and not isinstance(shares_memory, bool):
            raise ValueError(f"shares_memory must be True, False or None, not {shares_memory!r}")
        self._host: Host = Given(executor) if isinstance(executor, Executor) else Made(executor)
        now = self._host.executor()
        self.max_in_flight = max_in_flight or 2 * workers_of(now)
        self._shares_memory = runs_here(now) if shares_memory is None else shares_memory
        self._distributed = not self._shares_memory and not is_of(now, "process")
        self.crew = Crew("stratagem-executor")
        self._streams: weakref.WeakSet[_ExecutorStream] = weakref.WeakSet()
        self._loops = Loops()
        weakref.finalize(self, _let_go, self._host, self.crew, self._loops)

    def stream(self, tasks: TaskSource) -> Iterator[Outcome]:
        """Hand tasks to the executor, and yield outcomes as they end."""
        if hosts_this(self):
            return InTurn(self._loops.finish).stream(tasks)
        if self._shares_memory:
            carrier: Carrier = Here(self, calling_loop(), self._loops)
        else:
            carrier = There()
        stream = _ExecutorStream(self, self._host, carrier, tasks)
        self._streams.add(stream)
        return outcomes_of(stream, self.grace)

    def running(self) -> list[Running]:
        """Tell which tasks have begun and not ended, where they run in this process."""
        return [running for stream in list(self._streams) for running in stream.running()]

    def close(self) -> None:
        """Stop the streams that are open; shut an executor down that was made here.

        It waits ``grace`` seconds at the most. Used again, the strategy makes another.
        """
        for stream in list(self._streams):
            stream.tasks.close()
        self._host.shut_down(self.grace)
        self.crew.close()
        self._loops.close()

    @property
    def shares_memory(self) -> bool:
        """Tell whether tasks see and change the caller's objects."""
        return self._shares_memory

    @property
    def distributed(self) -> bool:
        """Tell whether tasks may run on other machines, which of most executors is not known."""
        return self._distributed


def _let_go(host: "Host", crew: Crew, loops: "Loops") -> None:
    host.shut_down(0.0)
    crew.close()
    loops.close()


class _ExecutorStream:
    """Be one stream: a thread takes tasks, hands them to the executor, and lays outcomes out.

    It is that thread which submits, never a callback of a future: executors call those with locks
    held. A flying task is answered for by who takes it out of ``_flying``.
    """

    def __init__(
        self, strategy: ExecutorStrategy, host: Host, carrier: Carrier, tasks: TaskSource
    ) -> None:
        self.tasks = tasks
        self.failure: BaseException | None = None
        self.finished = False
        self.outbox = Outbox(max(256, 2 * strategy.max_in_flight))
        self._most = strategy.max_in_flight
        self._crew = strategy.crew
        self._host = host
        self._carrier = carrier
        self._flying: dict[Future[Any], tuple[Task, Executor]] = {}
        self._landed: deque[Future[Any]] = deque()
        self._bell = threading.Lock()
        self._is_exhausted = False
        self._is_stopped = False
        self._awaits_room = False
        self._broken: Executor | None = None
        self._breaks = 0

    def begin(self) -> None:
        """Take the first tasks."""
        self.tasks.subscribe(self._ring)
        self._crew.run(self._serve)

    def stop(self, _give_up_at: float) -> None:
        """Cancel what the executor has not begun, and coroutines; the rest has the grace to end."""
        self._is_stopped = True
        self._carrier.stop()
        for future in list(self._flying):
            future.cancel()

    def give_up(self) -> bool:
        """Answer for what has not ended; the executor may go on with it, unobserved."""
        why = "the run was stopped, and it did not end in time"
        for future in list(self._flying):
            task, _ = self._flying.pop(future, (None, None))
            if task is not None:
                error = TaskCancelledError(task.key, why)
                self.outbox.put(failed(task, error, Status.CANCELLED))
        self._ring()
        return True

    def end(self) -> None:
        """Take no part any more."""

    def running(self) -> list[Running]:
        """Tell what has begun and not ended, as far as it is known."""
        return self._carrier.running()

    def _ring(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:  # it rings already
            return

    def _land(self, future: "Future[Any]") -> None:
        self._landed.append(future)
        self._ring()

    def _serve(self) -> None:
        try:
            while True:
                self._bell.acquire(blocking=False)
                self._unload()
                patience = self._load()
                if not self._flying and (self._is_exhausted or self.tasks.closed):
                    break
                self._bell.acquire(timeout=min(patience, threading.TIMEOUT_MAX))
        except BaseException as error:  # noqa: BLE001 - ours; the consumer hears of it
            self._fail(error)
        self.finished = True
        self.outbox.ring()

    def _unload(self) -> None:
        """Lay out what became of the tasks that have landed."""
        if self.tasks.closed and not self._is_stopped:  # the consumer may be busy elsewhere
            self.stop(0.0)
        while self._landed:
            future = self._landed.popleft()
            task, executor = self._flying.pop(future, (None, None))
            if task is not None and executor is not None:
                self.outbox.put(self._outcome(task, future, executor))

    def _outcome(self, task: Task, future: "Future[Any]", executor: Executor) -> Outcome:
        if future.cancelled():
            return self._unbegun(task)
        try:
            outcome = self._carrier.open(task, future.result())
        except BaseException as error:  # noqa: BLE001 - of the executor: tasks give their outcome
            if isinstance(error, BrokenExecutor):
                self._replace(executor, error)
            return _lost(task, error)
        self._breaks = 0
        return outcome

    def _unbegun(self, task: Task) -> Outcome:
        if self.tasks.closed:
            return cancelled(task, "the run was stopped before it began")
        return _lost(task, CancelledError("the executor cancelled it"))

    def _load(self) -> float:
        """Hand tasks to the executor while there is room; give the seconds until the next look."""
        while not (self.tasks.closed or self._is_exhausted):
            if self.outbox.full:
                self._look_when_room()
                break
            if len(self._flying) >= self._most:
                break
            try:
                found = self.tasks.poll()
            except BaseException as error:  # noqa: BLE001 - the source is broken
                self._fail(error)
                break
            if isinstance(found, Wait):
                return found.seconds
            if found is None:
                self._is_exhausted = True
            else:
                self._send(found)
        return float("inf")

    def _look_when_room(self) -> None:
        if not self._awaits_room:
            self._awaits_room = True
            self.outbox.resume_when_room(self._look_since_room)

    def _look_since_room(self) -> None:
        self._awaits_room = False
        self._ring()

    def _send(self, task: Task) -> None:
        while not self.tasks.closed:
            executor: Executor | None = None
            try:
                executor = self._host.executor()
                future = self._carrier.submit(executor, task)
            except TransportError as error:
                self.outbox.put(failed(task, without_frames(error), Status.ERROR))
                return
            except BaseException as error:  # noqa: BLE001 - of a stranger's executor
                if isinstance(error, BrokenExecutor) and executor is not None:
                    self._replace(executor, error)
                else:
                    self._fail(error)
            else:
                self._flying[future] = (task, executor)
                future.add_done_callback(self._land)
                return
        self.outbox.put(cancelled(task, "the run was stopped before it began"))

    def _replace(self, broken: Executor, error: BrokenExecutor) -> None:
        """Have another executor from now on; fail where there is none, or they break in a row."""
        if broken is self._broken:
            return
        self._broken = broken
        self._breaks += 1
        if self._breaks > MOST_BREAKS:
            error.add_note(f"{self._breaks} executors broke in a row, and none gave an answer")
            self._fail(error)
        elif not self._host.replace(broken):
            error.add_note(
                "the executor was given as an object, so no other takes its place; "
                "give what makes one, or name it in a spec: executor('package:Class')"
            )
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """End the stream with an error of its own, when what flies has landed."""
        if self.failure is None and not self.tasks.closed:
            self.failure = error
        self.tasks.close()


def _lost(task: Task, cause: BaseException) -> Outcome:
    lost = TaskLostError(task.key, f"its executor failed: {type(cause).__name__}: {cause}")
    lost.__cause__ = cause
    return failed(task, lost, Status.LOST)
