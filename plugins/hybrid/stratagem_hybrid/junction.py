"""One stream of a hybrid at work: tasks go out by several lanes, their outcomes come in by one."""

import threading
from collections import deque
from collections.abc import Iterable

from stratagem import Outbox, Outcome, Task, TaskSource, Wait, thread_context
from stratagem_hybrid.routes import Route

__all__ = ["Junction", "Lane"]

UNREAD = 256
_FOREVER = Wait()


class Lane(TaskSource):
    """Be the source of one route: it gives the tasks that its rule picks.

    Attributes:
        route: the route.
        waiting: the tasks that were found for it when another lane was asked.
        room: released when its pump, which has filled the outbox, may go on.
        pump: the thread that reads the stream of its strategy; None until it has had a task.
    """

    def __init__(self, junction: "Junction", route: Route) -> None:
        super().__init__()
        self.route = route
        self.waiting: deque[Task] = deque()
        self.room = threading.Semaphore(0)
        self.pump: threading.Thread | None = None
        self._junction = junction

    @property
    def closed(self) -> bool:
        """Tell whether this lane or the source in front of all lanes was closed."""
        return self._closed or self._junction.tasks.closed

    def poll(self) -> Task | Wait | None:
        """Give what waits for this lane, else what is found for it in front."""
        return None if self.closed else self._junction.next_for(self)

    def close(self) -> None:
        """Give nothing more. Before its end that stops the run: nobody else would answer for it."""
        self._closed = True
        if not self._junction.is_over_for(self):
            self._junction.tasks.close()
        super().close()


class Junction:
    """Take tasks, route each into its lane, and merge what the lanes give.

    Whoever polls for one lane leaves what belongs to another lane there.
    A lane has a pump from its first task on. For those without one nobody polls;
    whoever brings news does it for them: who wakes us, and who makes room.

    Attributes:
        tasks: where tasks come from.
        outbox: where the outcomes of all lanes go.
        failure: what the stream of a lane, or a rule, raised; None for nothing.
    """

    def __init__(self, routes: Iterable[Route], tasks: TaskSource, look_ahead: int) -> None:
        self.tasks = tasks
        self.outbox = Outbox(UNREAD)
        self.failure: BaseException | None = None
        self._lanes = [Lane(self, route) for route in routes]
        self._context = thread_context()
        # A garbage collection that drops a stream may come back here in the same thread.
        self._lock = threading.RLock()
        self._running: list[Lane] = []
        self._bound = look_ahead
        self._room_at = look_ahead - look_ahead // 8  # waking for each place alone costs too much
        self._waiting = 0
        self._held = False
        self._paused = False
        self._asking = 0
        self._exhausted = False
        self._gone = False

    # What the reader of the outcomes calls.

    def begin(self) -> None:
        """Take the first tasks."""
        self.tasks.subscribe(self._stir)
        self._look_for_unused()

    @property
    def finished(self) -> bool:
        """Tell whether no further outcome will come."""
        me = threading.current_thread()  # a pump, if the garbage that it collects is this stream
        with self._lock:
            over = self.tasks.closed or (self._over and not self._waiting)
            return over and all(lane.pump is me for lane in self._running)

    def stop(self, _give_up_at: float) -> None:
        """Leave it to the strategies, whose lanes are closed with the source."""

    def give_up(self) -> bool:
        """Wait for no lane any more: each ends within the grace of its strategy, unobserved."""
        self._gone = True
        for lane in self._lanes:
            lane.room.release()
        return True

    def end(self) -> None:
        """See the pumps off, which are done."""
        for lane in self._lanes:
            pump = lane.pump
            if not (self._gone or pump is None or pump is threading.current_thread()):
                pump.join()

    # What the lanes call, from any thread.

    def next_for(self, lane: Lane | None) -> Task | Wait | None:
        """Give the next task of a lane, leaving those of others with them.

        Args:
            lane: the lane; None to look ahead for all.
        """
        while not self.tasks.closed:
            if self.outbox.full:
                self._pause()
                return _FOREVER
            known, answer = self._look(lane)
            if not known:
                known, answer = self._ask(lane)
            elif isinstance(answer, Task):
                self._tell_of_room()
            if known:
                return answer
        return None

    def is_over_for(self, lane: Lane) -> bool:
        """Tell whether a lane has given all its tasks."""
        with self._lock:
            return self._over and not lane.waiting

    @property
    def _over(self) -> bool:
        return self._exhausted and not self._asking

    def _look(self, lane: Lane | None) -> tuple[bool, Task | Wait | None]:
        """Tell whether the answer is known without asking the source, and the answer."""
        with self._lock:
            if lane is not None and lane.waiting:
                self._waiting -= 1
                return True, lane.waiting.popleft()
            if self._exhausted:  # what is being asked may yet be for this lane
                return True, _FOREVER if self._asking else None
            if self._waiting >= self._bound:
                self._held = True
                return True, _FOREVER
            self._asking += 1
            return False, None

    def _ask(self, lane: Lane | None) -> tuple[bool, Task | Wait | None]:
        """Ask the source once; tell whether that gave an answer for the lane, and the answer."""
        found: Task | Wait | None = None
        target: Lane | None = None
        try:
            found = self.tasks.poll()
            if isinstance(found, Task):
                target = self._lane_of(found)
        except BaseException as error:  # noqa: BLE001 - the run ends with it, where it is read
            self._fail(error)
        is_ours = target is not None and target is lane
        with self._lock:
            self._asking -= 1
            self._exhausted = self._exhausted or found is None
            if target is not None and not is_ours and isinstance(found, Task):
                target.waiting.append(found)
                self._waiting += 1
            over = self._over
        if target is not None and not is_ours:
            self._rouse(target)
        if over:
            self._wake_all()
        return is_ours or isinstance(found, Wait), found

    def _lane_of(self, task: Task) -> Lane:
        for lane in self._lanes:
            try:
                if lane.route.when(task):
                    return lane
            except BaseException as error:
                error.add_note(
                    f"raised by the rule of route {lane.route.name!r} for task {task.key!r}"
                )
                raise
        raise LookupError(f"no route takes task {task.key!r}")

    def _pause(self) -> None:
        """Hand nothing out until outcomes were read: the strategies would each store as many."""
        with self._lock:
            if self._paused:
                return
            self._paused = True
        self.outbox.resume_when_room(self._go_on)

    def _go_on(self) -> None:
        with self._lock:
            self._paused = False
        self._look_around()

    def _tell_of_room(self) -> None:
        with self._lock:
            if not self._held or self._waiting > self._room_at:
                return
            self._held = False
        self._look_around()

    def _stir(self) -> None:
        if self.tasks.closed:
            self._wake_all()
        else:
            self._look_around()

    def _look_around(self) -> None:
        for lane in list(self._running):
            lane.wake()
        self._look_for_unused()

    def _wake_all(self) -> None:
        for lane in list(self._running):
            lane.wake()
        self.outbox.ring()

    def _look_for_unused(self) -> None:
        if any(lane.pump is None for lane in self._lanes):
            self.next_for(None)

    # The pumps.

    def _rouse(self, lane: Lane) -> None:
        """Have the strategy of a lane look at it: the first time its stream is begun."""
        with self._lock:
            starts = lane.pump is None and not self.tasks.closed
            if starts:
                lane.pump = threading.Thread(
                    target=self._context.copy().run,
                    args=(self._run, lane),
                    name=f"hybrid-{lane.route.name}",
                    daemon=True,
                )
                self._running.append(lane)
        if starts and lane.pump is not None:
            self._start(lane, lane.pump)
        else:
            lane.wake()

    def _start(self, lane: Lane, pump: threading.Thread) -> None:
        try:
            pump.start()
        except RuntimeError as error:  # the system gives no thread
            lane.pump = None
            self._fail(error)
            self._leave(lane)

    def _run(self, lane: Lane) -> None:
        try:
            for outcome in lane.route.strategy.stream(lane):
                self._put(lane, outcome)
        except BaseException as error:  # noqa: BLE001 - raised where the outcomes are read
            error.add_note(
                f"raised by the strategy of route {lane.route.name!r} "
                f"({type(lane.route.strategy).__name__})"
            )
            self._fail(error)
        lane.close()
        self._leave(lane)

    def _put(self, lane: Lane, outcome: Outcome) -> None:
        if self.outbox.put(outcome):
            self.outbox.resume_when_room(lane.room.release)
            if not self._gone:
                lane.room.acquire()

    def _leave(self, lane: Lane) -> None:
        with self._lock:
            self._running.remove(lane)
        self.outbox.ring()

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self.failure is None:
                self.failure = error
        self.tasks.close()
