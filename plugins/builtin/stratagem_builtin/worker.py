"""What runs in a worker process: one thread runs tasks, another reads what the parent sends."""

import asyncio
import logging
import os
import pickle
import signal
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from itertools import repeat
from marshal import dumps as dump_plain
from multiprocessing.connection import Connection
from multiprocessing.heap import Arena
from pickle import dumps
from sys import modules as _modules
from time import monotonic, sleep
from time import time as now
from typing import Any, NoReturn, cast

import attrs

from stratagem import Task, TransportError
from stratagem.budget import ask_elsewhere
from stratagem.event_loops import ContainedExit, finish_async
from stratagem.invoke import bind_for_structlog, is_awaitable, without_own_frames
from stratagem.remote.children import RemoteFamily
from stratagem.remote.forwarding import forward_logs
from stratagem.remote.places import RemotePlaces
from stratagem.scope import Scope, enter_task, run_scope
from stratagem.transport import decode, encode, encode_error, safe_repr
from stratagem_builtin.birth import Preparation, get_ready, preparation_of_main
from stratagem_builtin.descent import adopt_orphans, kill_descendants
from stratagem_builtin.initializer import Initializer, keep_state
from stratagem_builtin.leaks import Leaks
from stratagem_builtin.memory_limit import limit_memory
from stratagem_builtin.printing import Printing
from stratagem_builtin.ring import LARGEST, Ring
from stratagem_builtin.surroundings import Surroundings
from stratagem_builtin.words import LastWords

__all__ = ["ERROR", "PLAIN", "PLAIN_VALUE", "VALUE", "Common", "Settings", "Shipment", "main"]

FLUSH_AFTER = 0.005
RETIRE_SECONDS = 2.0
VALUE, ERROR, PLAIN_VALUE = 0, 1, 2
"""What a task gave: a pickled value, an error, or a plain value that is marshalled."""
PROTOCOL = pickle.HIGHEST_PROTOCOL
PLAIN = frozenset({int, str, float, bool, type(None)})
"""Types whose values no code of a stranger is needed to load: they travel with their batch."""


@attrs.frozen
class Settings:
    """Hold what a worker is told when it starts.

    Attributes:
        max_result_bytes: a pickled result larger than this is an error.
        start_timeout: seconds that it has to get ready.
        max_tasks: how many tasks it runs before it retires; 0 for no bound.
        max_memory: how many bytes of address space it has; 0 for no bound.
        initializer: what it does before its first task.
        log_level: records logged at this level or above go to the parent.
        own_log_level: the same for the logger ``stratagem``.
        main: how to import the program, as ``describe_main`` says it.
        ready_by: when it must be ready, in ``time.monotonic()``.
    """

    max_result_bytes: int
    start_timeout: float = 60.0
    max_tasks: int = 0
    max_memory: int = 0
    initializer: Initializer | None = None
    log_level: int = logging.WARNING
    own_log_level: int = logging.WARNING
    main: dict[str, str] = attrs.field(factory=dict)
    ready_by: float = 0.0


Common = tuple[str, str, int, frozenset[str], str | None, int]
"""What the tasks of a shipment share: the id of their run, name, attempt, tags and parent, and the
number of a function that was sent before, 0 for none."""

Shipment = tuple[Common, Sequence[int], Sequence[int], Sequence[str] | None, Sequence[Any]]
"""Tasks on their way to a worker: what they share, then of each, in lists, the number of this
sending, index, key, and what the function is called with, pickled or a plain value; without a
function the whole call, pickled. No keys where they are the indices as text."""


@attrs.define(eq=False)
class Group:
    """Hold what tasks that came in one shipment share; ``context`` is made when one runs."""

    run_id: str
    name: str
    attempt: int
    tags: frozenset[str]
    parent: str | None
    function: int
    context: Context | None = None


Parcel = tuple[int, int, str | None, Any, Group]
"""One task: number, index, key, what it is called with, and what it shares with others.
The key is None where it is the index as text."""


def _key_of(parcel: Parcel | None) -> str | None:
    if parcel is None:
        return None
    _, index, key, *_ = parcel
    return str(index) if key is None else key


def _task_of(parcel: Parcel) -> Task:
    """Make the task that a parcel stands for, which the worker calls itself."""
    _, index, key, _, group = parcel
    key = str(index) if key is None else key
    attempt, tags, context, parent = group.attempt, group.tags, group.context, group.parent
    return Task(index, key, group.name, _called_already, None, attempt, tags, context, parent)


def _called_already() -> None:
    raise RuntimeError("the worker process calls what was sent, and nobody else")


def _call_as_current(
    make_task: Callable[[], Task],
    function: Callable[[Any], Any],
    given: object,
    finish: Callable[[Awaitable[Any]], Any],
) -> Any:
    """Call a function as ``stratagem.invoke.call_as_current`` does; the task is made on demand."""
    enter_task((make_task, None))
    if "structlog.contextvars" in _modules:
        bind_for_structlog(make_task())
    value = function(given)
    if type(value) in PLAIN or not is_awaitable(value):
        return value
    return finish(value)


def main(
    connection: Connection, memory: Arena, settings: Settings, not_ours: Sequence[int] = ()
) -> None:
    """Serve the parent until it says or is no more.

    Args:
        connection: the worker's end of the pipe.
        memory: the shared memory of its ring, and of its last words.
        settings: what it is told.
        not_ours: descriptors of the parent that a fork has copied here; an open copy would hide
            from a worker that the parent is gone.
    """
    for descriptor in not_ours:
        os.close(descriptor)
    if hasattr(os, "setsid"):
        os.setsid()
    adopt_orphans()
    keep_state()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _Worker(connection, memory, settings).serve(LastWords(memory))


class _Worker:
    def __init__(self, connection: Connection, memory: Arena, settings: Settings) -> None:
        self._connection = connection
        self._ring = Ring(memory, self._wait_for_room)
        self._settings = settings
        self._sending = threading.Lock()
        self._todo: deque[Parcel | None] = deque()
        self._arrived = threading.Semaphore(0)
        self._functions: dict[int, bytes] = {}
        self._loaded: dict[int, Callable[[Any], Any]] = {}
        self._runner: asyncio.Runner | None = None
        self._family = RemoteFamily(self.send, self._running_task)
        self._places = RemotePlaces(self.send)
        self._name = f"pid-{os.getpid()}"
        self._told_at = 0.0
        self._low = 0
        self._run_id: str | None = None
        self._context = Context()
        self._running: Parcel | None = None
        self._printing = Printing(lambda: _key_of(self._running))
        self._surroundings = Surroundings()
        self._leaks = Leaks()

    def serve(self, words: LastWords) -> None:
        # First of all: from now on the worker ends with its parent, whatever else goes on.
        threading.Thread(target=self._read, name="stratagem-reader", daemon=True).start()
        self._printing.take_over()
        forward_logs(self.send, self._settings.log_level, self._settings.own_log_level)
        ask_elsewhere(self._places.request)
        unready = partial(self.send, "unready")
        get_ready(words, self._preparations(), self._settings.ready_by, unready)
        self._surroundings.watch()
        self._leaks.watch()
        self.send("ready")
        self._run_all()
        self._ring.publish()
        if self._runner is not None:
            self._runner.close()

    def _preparations(self) -> list[Preparation]:
        made = [preparation_of_main(self._settings.main)]
        if self._settings.max_memory:
            limit = partial(limit_memory, self._settings.max_memory)
            made.insert(0, ("max_memory", limit))
        initializer = self._settings.initializer
        if initializer is not None:
            made.append((f"initializer {initializer.name}", partial(self._initialize, initializer)))
        return made

    def _initialize(self, initializer: Initializer) -> None:
        state = initializer.load()()
        keep_state(self._finish(state) if is_awaitable(state) else state)

    def _retire(self) -> None:
        """Hand back what has not begun, and end soon, also where a task left a thread behind."""
        self._ring.publish()
        unbegun: list[int] = []
        with suppress(IndexError):  # the reader may take the last one
            while True:
                parcel = self._todo.popleft()
                if parcel is not None:
                    unbegun.append(parcel[0])
        self._todo.append(None)
        self.send("retired", unbegun)
        last_call = threading.Timer(RETIRE_SECONDS, os._exit, (0,))
        last_call.daemon = True
        last_call.start()

    def _wait_for_parcel(self) -> Parcel | None:
        self._tell()
        while True:
            self._arrived.acquire()
            with suppress(IndexError):  # of a message that was read before, or handed back
                return self._todo.popleft()

    def _read(self) -> None:
        """Read what the parent sends; when it is gone, go at once, children and all."""
        try:
            while True:
                message = pickle.loads(self._connection.recv_bytes())  # noqa: S301 - our parent's
                getattr(self, f"_on_{message[0]}")(*message[1:])
        except (EOFError, OSError, MemoryError):
            _die()

    def _on_run(self, shipments: list[Shipment], functions: dict[int, bytes]) -> None:
        self._functions.update(functions)
        for common, numbers, indices, keys, calls in shipments:
            group = Group(*common)
            self._todo.extend(zip(numbers, indices, keys or repeat(None), calls, repeat(group)))
        self._low = len(self._todo) // 2
        self._arrived.release()

    def _on_give_back(self, most: int) -> None:
        """Hand back, from the far end, what has not begun."""
        given: list[int] = []
        while len(given) < most:
            try:
                parcel = self._todo.pop()
            except IndexError:
                break
            if parcel is None:
                self._todo.append(None)
                break
            given.append(parcel[0])
        self.send("given_back", given)

    def _on_forget(self, function: int) -> None:
        self._functions.pop(function, None)
        self._loaded.pop(function, None)

    def _on_nested(self, nest: int, succeeded: bool, body: bytes) -> None:  # noqa: FBT001 - a message
        self._family.receive(nest, succeeded, body)

    def _on_placed(self, number: int, problem: str) -> None:
        self._places.receive(number, problem)

    def _running_task(self) -> tuple[int, str | None]:
        return self._ring.running()[0], _key_of(self._running)

    def _on_exit(self) -> None:
        self._todo.append(None)
        self._arrived.release()

    def send(self, *message: object) -> None:
        """Send a message to the parent, from any thread."""
        data = pickle.dumps(message, PROTOCOL)
        try:
            with self._sending:
                self._connection.send_bytes(data)
        except (BrokenPipeError, ConnectionError, OSError):
            _die()

    def _tell(self) -> None:
        """Have the parent read the ring."""
        self._ring.publish()
        self._told_at = monotonic()
        self.send("look")

    def _run_all(self) -> None:  # noqa: C901, PLR0912 - one frame for all tasks
        """Run what is sent until there is no more to come."""
        todo, finish = self._todo, self._finish
        begin, write = self._ring.begin, self._ring.write
        printing, surroundings, leaks = self._printing, self._surroundings, self._leaks
        unchecked = min(LARGEST, self._settings.max_result_bytes)
        left = self._settings.max_tasks
        same: Group | None = None
        while True:
            try:
                parcel = todo.popleft()
            except IndexError:
                parcel = self._wait_for_parcel()
            if parcel is None:
                return
            self._running = parcel
            number, _, _, given, group = parcel
            if group is not same:
                same, shared, epoch = group, self._enter_run(group), now() - monotonic()
                call = partial(self._call, group.function)
                function = self._loaded.get(group.function, call)
            make_task = partial(_task_of, parcel)
            began = begin(number)
            try:
                value = shared.copy().run(
                    _call_as_current,
                    make_task,
                    call if type(given) is bytes else function,
                    given,
                    finish,
                )
            except BaseException as error:  # noqa: BLE001 - whatever a task raises is its outcome
                seconds = monotonic() - began
                kind, body = ERROR, dumps(encode_error(without_own_frames(error)), PROTOCOL)
            else:
                seconds = monotonic() - began
                if type(value) not in PLAIN or len(body := dump_plain(value, 2)) > unchecked:
                    kind, body = self._pickled(value)
                else:
                    kind = PLAIN_VALUE
            self._running = None
            if printing.begun:
                printing.finish()
            if surroundings.touched:
                surroundings.restore()
            if leaks.watching:
                leaks.look(make_task())
            if len(body) > LARGEST:
                self.send("result", (number, kind, epoch + began, seconds, body))
            elif (
                write(number, kind, epoch + began, seconds, body)
                or began + seconds - self._told_at > FLUSH_AFTER
                or 0 < len(todo) == self._low
            ):
                self._tell()
            value = given = parcel = None  # the next task may need the room
            del make_task
            left -= 1
            if left == 0:
                self._retire()

    def _enter_run(self, group: Group) -> Context:
        """Give the context of the run of a group; what its tasks set, they set in copies."""
        if group.run_id != self._run_id:
            self._run_id, self._context = group.run_id, copy_context()
            self._context.run(run_scope.set, Scope(group.run_id, self._family.open))
        group.context = self._context
        return self._context

    def _pickled(self, value: object) -> tuple[int, bytes]:
        try:
            pickled = encode(value, "encode_result")
            if len(pickled) > self._settings.max_result_bytes:
                self._refuse(len(pickled), value)
        except TransportError as failure:
            return ERROR, dumps(encode_error(failure), PROTOCOL)
        return VALUE, pickled

    def _call(self, function: int, given: object) -> Any:
        if isinstance(given, bytes):
            given = decode(given, "decode_task")
        if not function:
            return cast("Callable[[], Any]", given)()
        loaded = self._loaded.get(function)
        if loaded is None:
            loaded = self._loaded[function] = decode(self._functions[function], "decode_task")
        return loaded(given)

    def _finish(self, awaitable: Awaitable[Any]) -> Any:
        if self._runner is None:
            self._runner = asyncio.Runner()
        try:
            return self._runner.run(finish_async(awaitable), context=copy_context())
        except ContainedExit as contained:
            original = contained.original
        raise original

    def _refuse(self, size: int, value: object) -> NoReturn:
        most = self._settings.max_result_bytes
        raise TransportError(
            "encode_result",
            f"the result has {size} bytes pickled, more than max_result_bytes={most}; "
            "return less, or allow more",
            shown=safe_repr(value),
        )

    def _wait_for_room(self) -> None:
        self._tell()
        sleep(0.001)


def _die() -> None:
    sys.stdout = sys.stderr = None
    kill_descendants(os.getpid())
    if hasattr(os, "killpg"):
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)
