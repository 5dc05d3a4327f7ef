"""What runs tasks in a worker of somebody else's engine: shipments in, answers out.

It lives in the worker for as long as the owner of the runs has use for it. The engine calls
``run`` in threads of its own, as many at once as it has slots. A plain function runs right there;
coroutines, and what must be killable, run by a strategy that is local to the worker.
"""

import os
import platform
import socket
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from functools import partial
from importlib import metadata
from typing import Any, NoReturn, cast

import attrs

from stratagem.budget import authority_here
from stratagem.errors import TransportError
from stratagem.invoke import failed, invoke, is_async
from stratagem.remote.children import RemoteFamily
from stratagem.remote.forwarding import LogForwarding
from stratagem.remote.lane import Lane
from stratagem.remote.logbook import Logbook, Page
from stratagem.remote.packing import Packer
from stratagem.remote.places import RemotePlaces
from stratagem.remote.seat import Seat, seat_here
from stratagem.remote.shipments import (
    MISSING,
    Answer,
    Answers,
    Function,
    Shipment,
    answer_of,
    pack,
    unpack,
)
from stratagem.scope import Scope, run_scope
from stratagem.strategy import ExecutionStrategy
from stratagem.task import Outcome, Status, Task
from stratagem.threads import Clock
from stratagem.transport import decode

__all__ = ["RemoteWorker", "Session", "process_name", "versions"]

FUNCTIONS = 64
"""How many functions a worker remembers that came to it once."""

STOPPED = 1_000
"""How many streams that were stopped a worker remembers, for what arrives late of them."""

HELD_UP = 0.1
"""Seconds after which what waits behind a task of its shipment is given back, and what was
answered is told."""


@attrs.frozen
class Session:
    """Hold what the owner tells every worker.

    Attributes:
        name: what tells it from all others; nobody can guess it.
        owner: the owner, as ``process_name`` gives it there.
        log_level: what tasks log at this level or above goes to the owner.
        max_result_bytes: a pickled result that is larger is an error.
        grace: seconds that tasks get to end when their run is stopped.
    """

    name: str
    owner: str
    log_level: int
    max_result_bytes: int
    grace: float


def process_name() -> str:
    """Name this process for people: host and process id."""
    return f"{socket.gethostname()}/pid-{os.getpid()}"


def versions() -> dict[str, str]:
    """Tell what must be alike at both ends."""
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "stratagem": metadata.version("stratagem"),
        "cloudpickle": metadata.version("cloudpickle"),
    }


class RemoteWorker:
    """Run the tasks of one owner in this process.

    Args:
        session: what the owner tells.
        name: what outcomes call this worker: host and process.
        send: sends a message, a tuple, to the owner; from any thread, without waiting.
        for_coroutines: makes the strategy that runs coroutines here.
        for_processes: makes the strategy that runs what must be killable, in processes here.
        lend: gives the slot of the calling thread to others while it waits.
        reclaim: takes a slot back, waiting for one if need be.
        logbook: where to note what begins and ends; None for nowhere.
        kills: whether coroutines with a timeout must be killable too.
    """

    def __init__(
        self,
        session: Session,
        name: str,
        send: Callable[[tuple[Any, ...]], None],
        *,
        for_coroutines: Callable[[], ExecutionStrategy],
        for_processes: Callable[[], ExecutionStrategy],
        lend: Callable[[], None] | None = None,
        reclaim: Callable[[], None] | None = None,
        logbook: Logbook | None = None,
        kills: bool = False,
    ) -> None:
        self.name = name
        self.session = session
        self._send_to_owner = send
        self._strategies = {"coroutines": for_coroutines, "processes": for_processes}
        self._made: dict[str, ExecutionStrategy] = {}
        self._lending = None if lend is None or reclaim is None else (lend, reclaim)
        self._logbook = logbook
        self._kills = kills
        self._lock = threading.Lock()
        self._pack = Packer()
        self._functions: OrderedDict[str, Callable[[Any], Any]] = OrderedDict()
        self._lanes: dict[tuple[int, str], Lane] = {}
        self._stopped: OrderedDict[int, bool] = OrderedDict()
        self._errands: dict[_Errand, None] = {}
        self._watching = False
        self._run_ids: Counter[str] = Counter()
        self._family = RemoteFamily(self._send, _running, _waiting, self._pack)
        self._places = RemotePlaces(self._send)
        self._clock = Clock("stratagem-remote-clock")
        self._forwarding = LogForwarding(self._send, session.log_level, self._run_ids)
        if session.owner != process_name():  # else its handlers hear of it without this
            self._forwarding.begin()
        self._send("hello", name, versions())

    def _send(self, *message: object) -> None:
        self._send_to_owner(message)

    # What the engine calls.

    def run(self, shipment: bytes, page: Page | None = None) -> bytes:
        """Run a shipment in the calling thread; give answers. Never raises.

        Args:
            shipment: what the owner has sent.
            page: where to note what begins and ends; a page of the logbook by default.
        """
        sent: Shipment = unpack(Shipment, shipment)
        with self._runs(sent.run_id):
            if self._logbook is None or page is not None:
                return pack(self._run(sent, page))
            with self._logbook.page() as own:
                return pack(self._run(sent, own))

    def receive(self, message: tuple[Any, ...]) -> None:
        """Take a message of the owner."""
        getattr(self, f"_on_{message[0]}")(*message[1:])

    def close(self) -> None:
        """Forget the owner: stop what it runs here, and end what was started for it."""
        self._forwarding.end()
        self._clock.close()
        with self._lock:
            lanes = list(self._lanes.values())
            made, self._made = self._made, {}
        for lane in lanes:
            lane.hurry()
        for strategy in made.values():
            strategy.close()
        self._family.forsake()
        if self._logbook is not None:
            self._logbook.close()

    # What the owner says.

    def _on_nested(self, nest: int, succeeded: bool, body: bytes) -> None:  # noqa: FBT001 - a message
        self._family.receive(nest, succeeded, body)

    def _on_placed(self, number: int, problem: str) -> None:
        self._places.receive(number, problem)

    def _on_stop(self, stream: int) -> None:
        """Begin nothing more of a stream, and cancel what can be cancelled."""
        self._mark(stream, hurried=False)
        if not self._kills:  # else what has begun has its grace, and is killed
            for lane in self._lanes_of(stream):
                lane.close()

    def _on_hurry(self, stream: int) -> None:
        """Kill, or leave, what still runs of a stream."""
        self._mark(stream, hurried=True)
        for lane in self._lanes_of(stream):
            lane.hurry()

    def _on_over(self, stream: int) -> None:
        """Forget a stream."""
        self._on_stop(stream)
        with self._lock:
            self._functions.pop(str(stream), None)
            for key in [key for key in self._lanes if key[0] == stream]:
                del self._lanes[key]

    def _mark(self, stream: int, *, hurried: bool) -> None:
        with self._lock:
            self._stopped[stream] = hurried or self._stopped.get(stream, False)
            while len(self._stopped) > STOPPED:
                self._stopped.popitem(last=False)

    def _lanes_of(self, stream: int) -> list[Lane]:
        with self._lock:
            return [lane for key, lane in self._lanes.items() if key[0] == stream]

    # How a shipment runs.

    @contextmanager
    def _runs(self, run_id: str) -> Iterator[None]:
        with self._lock:
            self._run_ids[run_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._run_ids[run_id] -= 1
                if not self._run_ids[run_id]:
                    del self._run_ids[run_id]

    def _run(self, sent: Shipment, page: Page | None) -> Answers:
        if sent.function is not None and not self._knows(sent.function):
            absent = ((n, MISSING, 0.0, 0.0, self.name, b"") for n in sent.numbers)
            return Answers(tuple(absent))
        errand = _Errand(sent.stream, sent.numbers)
        if len(sent.numbers) > 1:
            self._watch(errand)
        seat, context = Seat(self._lending), copy_context()
        context.run(self._enter, sent.run_id, seat)
        for place, number in errand.begin_each():
            if sent.stream in self._stopped:
                errand.given_back.append(number)
                continue
            if page is not None:
                page.begin(number)
            seat.begin(number, sent.keys[place])
            outcome = self._outcome(sent, place, context, seat)
            seat.end()
            answer = answer_of(number, outcome, self._pack, self.session.max_result_bytes)
            errand.answers.append(answer)
            if page is not None and not page.end(answer):
                errand.give_back()
        self._errands.pop(errand, None)
        return errand.end()

    def _watch(self, errand: "_Errand") -> None:
        with self._lock:
            self._errands[errand] = None
            watched, self._watching = self._watching, True
        if not watched:
            self._clock.call_at(time.monotonic() + HELD_UP, self._look)

    def _look(self) -> None:
        """Tell what is answered so far, and give back what waits behind a task that takes long."""
        held_up_since = time.monotonic() - HELD_UP
        for errand in list(self._errands):
            if errand.began <= held_up_since:
                errand.give_back()
        self._tell(list(self._errands))
        with self._lock:
            self._watching = bool(self._errands)
        if self._watching:
            self._clock.call_at(time.monotonic() + HELD_UP, self._look)

    def _tell(self, errands: "list[_Errand]") -> None:
        """Tell in one message what was not told of several shipments."""
        untold = [errand.untold() for errand in errands]
        answers = [answer for answered, _ in untold for answer in answered]
        given_back = [number for _, numbers in untold for number in numbers]
        if answers or given_back:
            self._send("partial", pack(Answers(tuple(answers), tuple(given_back))))

    def _on_share(self, stream: int) -> None:
        """Give back what has not begun of a stream: others have nothing to do."""
        ours = [errand for errand in list(self._errands) if errand.stream == stream]
        self._tell([errand for errand in ours if errand.give_back()])

    def _outcome(self, sent: Shipment, place: int, context: Context, seat: Seat) -> Outcome:
        task = Task(
            sent.indices[place],
            sent.keys[place],
            sent.task_name,
            _nothing,
            sent.timeout,
            sent.attempt,
            sent.tags,
            context,
            sent.parent,
        )
        try:
            task.call = call = self._call(sent.function, sent.given[place])
        except TransportError as error:
            return failed(task, self._named(error), Status.ERROR, time.time(), 0.0, self.name)
        if sent.apart or (sent.timeout is not None and (self._kills or not is_async(call))):
            return self._in_lane("processes", sent.stream, task, seat)
        if is_async(call):
            return self._in_lane("coroutines", sent.stream, task, seat)
        return self._here(task, sent.stream, seat)

    def _enter(self, run_id: str, seat: Seat) -> None:
        run_scope.set(Scope(run_id, self._family.open))
        authority_here.set(self._places.request)
        seat_here.set(seat)

    def _here(self, task: Task, stream: int, seat: Seat) -> Outcome:
        def finish(awaitable: Awaitable[Any]) -> NoReturn:
            rest = attrs.evolve(task, call=lambda: awaitable, context=copy_context())
            raise _Finished(self._in_lane("coroutines", stream, rest, seat))

        outcome = invoke(task, finish=finish, worker=self.name)
        return outcome.error.outcome if isinstance(outcome.error, _Finished) else outcome

    def _in_lane(self, kind: str, stream: int, task: Task, seat: Seat) -> Outcome:
        self._lane(kind, stream).put(task, seat.jobs.put)
        outcome = seat.serve()
        worker = f"{self.name}/{outcome.worker}" if kind == "processes" else self.name
        return attrs.evolve(outcome, worker=worker)

    def _lane(self, kind: str, stream: int) -> Lane:
        with self._lock:
            lane = self._lanes.get((stream, kind))
            if lane is None:
                strategy = self._made.get(kind)
                if strategy is None:
                    strategy = self._made[kind] = self._strategies[kind]()
                lane = self._lanes[stream, kind] = Lane(strategy)
            hurried = self._stopped.get(stream)
        if hurried is not None:
            (lane.hurry if hurried else lane.close)()
        return lane

    def _knows(self, function: Function) -> bool:
        return function.pickled is not None or function.name in self._functions

    def _call(self, function: Function | None, given: bytes) -> Callable[[], Any]:
        if function is None:
            return cast("Callable[[], Any]", decode(given, "decode_task"))
        called = self._functions.get(function.name)
        if called is None:
            called = decode(function.pickled or b"", "decode_task")
            with self._lock:
                self._functions[function.name] = called
                while len(self._functions) > FUNCTIONS:
                    self._functions.popitem(last=False)
        return partial(called, decode(given, "decode_task"))

    def _named(self, error: TransportError) -> TransportError:
        """Say which module this worker lacks, if that is why a task cannot be loaded."""
        cause = error.__cause__
        if not isinstance(cause, ModuleNotFoundError) or not cause.name:
            return error
        root = cause.name.partition(".")[0]
        named = TransportError(
            error.stage,
            f"worker {self.name} has no module {cause.name!r}; install it there, "
            f"or have it travel: ship_modules=[{root!r}]",
        )
        named.__cause__ = cause
        return named


def _nothing() -> None:
    """Be what a task calls before that is known."""


def _running() -> tuple[int, str | None]:
    seat = seat_here.get()
    return (0, None) if seat is None else (seat.number, seat.key)


@contextmanager
def _waiting() -> Iterator[None]:
    seat = seat_here.get()
    lent = seat is not None and seat.lend()
    try:
        yield
    finally:
        if lent and seat is not None:
            seat.reclaim()


class _Finished(BaseException):
    """Carry the outcome of what was awaited out of the call that gave it."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


class _Errand:
    """Be a shipment that is being run, one task after the other.

    Attributes:
        stream: the stream that it belongs to.
        answers: of the tasks that have ended.
        given_back: the numbers of those that will not begin here.
        began: when the last one began, in ``time.monotonic()``.
        over: whether all is answered.
    """

    def __init__(self, stream: int, numbers: tuple[int, ...]) -> None:
        self.stream = stream
        self._left = deque(enumerate(numbers))
        self.answers: list[Answer] = []
        self.given_back: list[int] = []
        self.began = time.monotonic()
        self.over = False
        self._lock = threading.Lock()
        self._told = (0, 0)

    def begin_each(self) -> Iterator[tuple[int, int]]:
        """Give place and number of each task that nobody has given back."""
        while True:
            try:
                found = self._left.popleft()
            except IndexError:
                return
            self.began = time.monotonic()
            yield found

    def give_back(self) -> bool:
        """Let nothing more begin, from any thread; tell whether something was left."""
        before = len(self.given_back)
        while True:
            try:
                _, number = self._left.popleft()
            except IndexError:
                return len(self.given_back) > before
            self.given_back.append(number)

    def untold(self) -> tuple[list[Answer], list[int]]:
        """Give what was not given before, from any thread."""
        with self._lock:
            answered, given = self._told
            self._told = len(self.answers), len(self.given_back)
            return self.answers[answered:], self.given_back[given:]

    def end(self) -> Answers:
        """Give everything: what was told before may come later than this."""
        self.over = True
        return Answers(tuple(self.answers), tuple(self.given_back))
