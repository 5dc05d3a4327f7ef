"""The thread that deals tasks to worker processes, and answers for them when they die."""

import selectors
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.context import BaseContext
from typing import TYPE_CHECKING, Any

from stratagem import Running, Task
from stratagem.errors import WorkerStartError
from stratagem.remote.forwarding import replay
from stratagem.strategy import cancelled
from stratagem_builtin.answers import answer
from stratagem_builtin.bell import Bell
from stratagem_builtin.handle import Handle, no_worker, start_worker
from stratagem_builtin.memory_events import OutOfMemory
from stratagem_builtin.nests import Nests
from stratagem_builtin.places import Places
from stratagem_builtin.ring import Record, alone
from stratagem_builtin.worker import Settings

if TYPE_CHECKING:
    from stratagem_builtin.processes import ProcessStream

__all__ = ["Dispatcher"]

TICK = 0.005
LONG_TASK = 0.02
FAILED_STARTS = 3
EXIT_SECONDS = 2.0
SPARE_SECONDS = 30.0
LONGEST_SLEEP = 86_400.0
"""A selector sleeps for some weeks at the most."""


class Dispatcher:
    """Deal tasks to workers: by the batch when they are short, one by one when they are long.

    What a busy worker has not begun is taken back when another idles,
    or when the task before it turns out long.

    Args:
        max_workers: how many workers there are at the most.
        context: the multiprocessing context that starts them.
        settings: what every worker is told.
    """

    def __init__(self, max_workers: int, context: BaseContext, settings: Settings) -> None:
        self._max_workers = max_workers
        self._context = context
        self._settings = settings
        self._out_of_memory = OutOfMemory()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._last_number = 0
        self._streams: list[ProcessStream] = []
        self._stops: deque[tuple[ProcessStream, float]] = deque()
        self._forgotten: deque[int] = deque()
        self._workers: list[Handle] = []
        self._backlog: deque[tuple[ProcessStream, Task]] = deque()
        self._nests = Nests(self.wake)
        self._places = Places(self.wake)
        self._look_at_spares = float("inf")
        self._closing = False
        self._failed_starts = 0
        self._bell: Bell | None = None

    # What streams call, from any thread.

    def add(self, stream: "ProcessStream") -> None:
        """Serve ``stream`` from now on."""
        with self._lock:
            ending = self._thread if self._closing else None
        if ending is not None:
            ending.join()
        with self._lock:
            self._streams = [*self._streams, stream]
            if self._thread is None:
                self._closing = False
                self._failed_starts = 0
                self._bell = Bell()
                self._thread = threading.Thread(
                    target=self._serve, args=(self._bell,), name="stratagem-processes", daemon=True
                )
                self._thread.start()
        self.wake()

    def remove(self, stream: "ProcessStream") -> None:
        """Serve ``stream`` no more; nothing of it is out."""
        with self._lock:
            self._streams = [other for other in self._streams if other is not stream]
        if stream.function is not None:
            self._forgotten.append(stream.function.number)

    def stop(self, stream: "ProcessStream", give_up_at: float) -> None:
        """Take back what has not begun, and kill what still runs at ``give_up_at``."""
        self._stops.append((stream, give_up_at))
        self.wake()

    def wake(self) -> None:
        """Look around soon; called from any thread."""
        bell = self._bell
        if bell is not None:
            bell.ring()

    def running(self) -> Iterator[Running]:
        """Tell which tasks run now."""
        now = time.monotonic()
        for worker in list(self._workers):
            number, began = worker.ring.running()
            if (sent := worker.sent.get(number)) is not None:
                yield Running(sent.task(number), now - began, worker.name)

    def close(self) -> None:
        """End every worker, and wait for it."""
        with self._lock:
            thread = self._thread
            self._closing = True
        self.wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # What the thread does, and streams at its call.

    def next_number(self) -> int:
        """Give a number that no task or function of this dispatcher has had."""
        return self.next_numbers(1).start

    def next_numbers(self, count: int) -> range:
        """Give so many of them."""
        first = self._last_number + 1
        self._last_number += count
        return range(first, first + count)

    def _serve(self, bell: Bell) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(bell, selectors.EVENT_READ)
                try:
                    self._serve_streams(selector, bell)
                except BaseException as error:  # noqa: BLE001 - raised where outcomes are read
                    self._break_off(error)
                self._end_all(selector)
        except BaseException as error:  # noqa: BLE001 - the system gives no descriptor, say
            self._break_off(error)
        self._nests.close()
        with self._lock:
            self._thread = self._bell = None
        bell.close()

    def _break_off(self, error: BaseException) -> None:
        self._closing = True
        for stream in self._streams:
            stream.fail(error)

    def _serve_streams(self, selector: selectors.BaseSelector, bell: Bell) -> None:
        stopping: dict[ProcessStream, float] = {}
        while not self._closing:
            self._forget_functions()
            self._begin_stops(stopping)
            self._nests.hand_out()
            self._places.hand_out()
            self._deal(selector)
            if len(self._workers) > self._max_workers:
                self._let_spares_go()
            else:
                self._look_at_spares = float("inf")
            for stream in self._streams:
                stream.outbox.rouse()
            for key, _ in selector.select(self._patience(stopping)):
                if key.data is None:
                    bell.answer()
                else:
                    self._listen(key.data, selector)
            self._look_after(selector, stopping)

    def _forget_functions(self) -> None:
        while self._forgotten:
            function = self._forgotten.popleft()
            for worker in self._workers:
                if function in worker.functions:
                    worker.functions.discard(function)
                    worker.send("forget", function)

    def _patience(self, stopping: dict["ProcessStream", float]) -> float | None:
        moments = [stream.retry_at for stream in self._streams] + list(stopping.values())
        moments.append(self._look_at_spares)
        moments += [worker.ready_by for worker in self._workers if not worker.ready]
        for worker in self._workers:
            if len(worker.sent) > 1:
                return TICK
            for number, sent in worker.sent.items():
                timeout = sent.task(number).timeout
                if timeout is not None:
                    running, began = worker.ring.running()
                    began = began if running in worker.sent else time.monotonic()
                    moments.append(began + timeout)
        soonest = min(moments, default=float("inf"))
        if soonest == float("inf"):
            return None
        return min(max(0.0, soonest - time.monotonic()), LONGEST_SLEEP)

    def _deal(self, selector: selectors.BaseSelector) -> None:
        """Give slots to parents whose children are done, then tasks to workers that have room."""
        ready = [worker for worker in self._workers if worker.ready and not worker.nests]
        busy = sum(bool(worker.sent) for worker in ready)
        busy += self._nests.resume(self._max_workers - busy)
        if self._nests.returning:  # the next slot is for one of them
            return
        for worker in ready:
            if not worker.sent and busy < self._max_workers:
                self._fill(worker)
                busy += bool(worker.sent)
        # New workers come before a second task for a busy one, which may be long at its first.
        while busy + len(self._backlog) < self._max_workers and self._backlog_one():
            pass
        starting = sum(not worker.ready for worker in self._workers)
        while starting < len(self._backlog) and starting + len(ready) < self._max_workers:
            if not self._start_one(selector):
                break
            starting += 1
        for worker in sorted(ready, key=lambda worker: len(worker.sent)):
            if worker.sent:
                self._fill(worker)
        idle = busy < self._max_workers and any(not worker.sent for worker in ready)
        if idle and not self._backlog:
            self._ask_fullest(ready)

    def _let_spares_go(self) -> None:
        """End workers beyond the limit that no parent has needed the place of for a while."""
        now = time.monotonic()
        for worker in self._workers:
            worker.idle_since = float("inf") if worker.sent else min(worker.idle_since, now)
        here = [w for w in self._workers if w.ready and not (w.nests or w.leaving)]
        idle = [worker for worker in here if not (worker.sent or worker.asked_back)]
        idle.sort(key=lambda worker: worker.idle_since)
        self._look_at_spares = float("inf")
        for worker in idle[: max(0, len(here) - self._max_workers)]:
            if now - worker.idle_since >= SPARE_SECONDS:
                worker.leaving = worker.asked_back = True  # so it is sent nothing more
                worker.send("exit")
            else:
                self._look_at_spares = worker.idle_since + SPARE_SECONDS
                break

    def _start_one(self, selector: selectors.BaseSelector) -> bool:
        """Start a worker; where the system gives no more, go on with those there are."""
        try:
            worker = start_worker(self._context, self._settings, self._workers)
        except OSError as error:
            if not self._workers:
                self._fail_start(no_worker(self._context.get_start_method(), error))
            return False
        self._workers.append(worker)
        selector.register(worker.connection, selectors.EVENT_READ, worker)
        return True

    def _deepest_first(self) -> list["ProcessStream"]:
        return sorted(self._streams, key=lambda stream: -stream.depth)

    def _backlog_one(self) -> bool:
        for stream in self._deepest_first():
            for task in stream.take(1):
                self._backlog.append((stream, task))
                self._take_turns(stream)
                return True
        return False

    def _take_turns(self, stream: "ProcessStream") -> None:
        if len(self._streams) > 1:
            with self._lock:
                if stream in self._streams:
                    self._streams = [s for s in self._streams if s is not stream] + [stream]

    def _fill(self, worker: Handle) -> None:
        if worker.asked_back:  # while it answers that, it may not read: nothing large now
            return
        if worker.sent and worker.running_for(time.monotonic()) > LONG_TASK:
            return
        while self._backlog and len(worker.sent) < self._backlog[0][0].room:
            stream, task = self._backlog.popleft()
            self._send(worker, stream, [task])
        for stream in () if self._backlog else self._deepest_first():
            while (most := stream.room - len(worker.sent)) > 0 and (tasks := stream.take(most)):
                self._send(worker, stream, tasks)  # none of them may be fit to be sent
                self._take_turns(stream)

    def _send(self, worker: Handle, stream: "ProcessStream", tasks: Sequence[Task]) -> None:
        if stream.tasks.closed:
            for task in tasks:
                stream.settle([cancelled(task, "the run was stopped before it began")])
            return
        shipments = stream.pack(tasks, worker.sent)
        if shipments:
            worker.send("run", shipments, stream.functions_for(worker))

    def _ask_fullest(self, ready: list[Handle]) -> None:
        fullest = max(ready, key=lambda worker: len(worker.sent))
        fullest.ask_back(len(fullest.sent) // 2)

    def _listen(self, worker: Handle, selector: selectors.BaseSelector) -> None:
        try:
            for message in worker.receive():
                getattr(self, f"_on_{message[0]}")(worker, *message[1:])
        except (EOFError, OSError):
            self._bury(worker, selector)

    def _on_ready(self, worker: Handle) -> None:
        worker.ready = True
        self._failed_starts = 0

    def _on_unready(self, worker: Handle, problem: str, traceback: str) -> None:
        worker.trouble = (problem, traceback)

    def _on_look(self, worker: Handle) -> None:
        self._harvest(worker)

    def _on_result(self, worker: Handle, record: Record) -> None:
        answer(worker, alone(record))

    def _on_given_back(self, worker: Handle, numbers: list[int]) -> None:
        worker.asked_back = False
        for number in numbers:
            if number in worker.sent:
                sent = worker.sent.pop(number)
                sent.stream.take_back(sent.task(number))

    def _on_retired(self, worker: Handle, numbers: list[int]) -> None:
        """Send it nothing more; what it has not even read comes back when it is buried."""
        self._on_given_back(worker, numbers)
        worker.leaving = worker.asked_back = True

    def _on_nest(self, worker: Handle, nest: int, number: int, pickled: bytes) -> None:
        """Run children of a task, which waits for them and lends its slot meanwhile."""
        worker.ask_back(len(worker.sent) - 1)
        self._nests.open(worker, nest, number, pickled)

    def _on_unnest(self, worker: Handle, nest: int) -> None:
        if nest in worker.nests:
            worker.nests[nest].stop()

    def _on_take(self, worker: Handle, number: int, name: str, limit: int) -> None:
        running, _ = worker.ring.running()
        found = worker.sent.get(running)
        context = None if found is None else found.task(running).context
        self._places.ask(worker, number, name, limit, context)

    def _on_give(self, worker: Handle, number: int) -> None:
        worker.places.pop(number).give_back()

    def _on_log(self, _worker: Handle, fields: dict[str, Any]) -> None:
        replay(fields)

    def _harvest(self, worker: Handle) -> None:
        answer(worker, worker.ring.read())

    def _look_after(
        self, selector: selectors.BaseSelector, stopping: dict["ProcessStream", float]
    ) -> None:
        now = time.monotonic()
        for worker in list(self._workers):
            if worker.sent and worker.ready:
                self._watch(worker, now, selector)
            elif not worker.ready and worker.ready_by <= now:
                self._kill(worker, 0, selector)
        for stream, give_up_at in list(stopping.items()):
            if stream.out == 0:
                del stopping[stream]
            elif give_up_at <= now:
                self._kill_all_of(stream, selector)

    def _watch(self, worker: Handle, now: float, selector: selectors.BaseSelector) -> None:
        if len(worker.sent) > 1:
            self._harvest(worker)
        number, began = worker.ring.running()
        sent = worker.sent.get(number)
        if sent is None:
            return
        timeout = sent.task(number).timeout
        if timeout is not None and now - began >= timeout:
            self._kill(worker, number, selector)
        elif now - began > LONG_TASK:
            worker.ask_back(len(worker.sent) - 1)

    def _begin_stops(self, stopping: dict["ProcessStream", float]) -> None:
        while self._stops:
            stream, give_up_at = self._stops.popleft()
            stopping[stream] = give_up_at
            while stream.returned:
                stream.out += 1
                stream.settle([cancelled(stream.returned.popleft(), "the run was stopped")])
            waiting = [task for other, task in self._backlog if other is stream]
            self._backlog = deque(sent for sent in self._backlog if sent[0] is not stream)
            for task in waiting:
                stream.settle([cancelled(task, "the run was stopped before it began")])
            for worker in self._workers:
                worker.ask_back(len(worker.sent) - 1)

    def _kill_all_of(self, stream: "ProcessStream", selector: selectors.BaseSelector) -> None:
        for worker in list(self._workers):
            number, _ = worker.ring.running()
            sent = worker.sent.get(number)
            if sent is not None and sent.stream is stream:
                self._kill(worker, number, selector)

    def _kill(self, worker: Handle, number: int, selector: selectors.BaseSelector) -> None:
        """Kill a worker, and what its task started, for the sake of the task ``number``."""
        worker.killed_for = number
        worker.kill()
        self._bury(worker, selector)

    def _bury(self, worker: Handle, selector: selectors.BaseSelector) -> None:
        """Settle what a dead worker had finished and was running; deal out the rest again."""
        selector.unregister(worker.connection)
        self._workers.remove(worker)
        worker.forsake()
        exitcode = worker.bury(EXIT_SECONDS)
        self._harvest(worker)
        self._drain_results(worker)
        number, _ = worker.ring.running()
        if number in worker.sent:
            died_of = worker.sent.pop(number)
            verdict = worker.verdict(died_of.task(number), exitcode, self._out_of_memory)
            died_of.stream.settle([verdict])
        for number, sent in worker.sent.items():
            sent.stream.take_back(sent.task(number))
        if not worker.ready:
            self._note_failed_start(worker, exitcode)
        worker.dispose()

    def _drain_results(self, worker: Handle) -> None:
        try:
            for message in worker.receive():
                if message[0] == "result":
                    answer(worker, alone(message[1]))
        except (EOFError, OSError):
            return

    def _note_failed_start(self, worker: Handle, exitcode: int | None) -> None:
        self._failed_starts += 1
        if self._failed_starts >= FAILED_STARTS:
            self._fail_start(worker.start_error(self._context.get_start_method(), exitcode))

    def _fail_start(self, error: WorkerStartError) -> None:
        self._failed_starts = 0
        self._backlog.clear()
        for stream in self._streams:
            stream.fail(error)

    def _end_all(self, selector: selectors.BaseSelector) -> None:
        for worker in self._workers:
            if worker.ready and not worker.sent:
                worker.send("exit")
            else:
                worker.killed_for = worker.ring.running()[0]
                worker.kill()
        deadline = time.monotonic() + EXIT_SECONDS
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.kill()
        for worker in list(self._workers):
            self._bury(worker, selector)
        for stream, task in self._backlog:
            stream.settle([cancelled(task, "the strategy was closed")])
        self._backlog.clear()
