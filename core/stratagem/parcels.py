"""One task on its way to a worker that is not ours, and its answer back.

Nothing is assumed of the worker but that it can import this module: no channel of ours leads there.
So children of the task run where it runs itself, one after another.
"""

import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextvars import copy_context
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import attrs

from stratagem.errors import TransportError
from stratagem.invoke import failed, finish_alone, invoke, succeeded
from stratagem.loops import calling_loop
from stratagem.scope import Scope, run_scope
from stratagem.source import TaskSource
from stratagem.strategy import Batch, StreamingStrategy
from stratagem.task import Outcome, Status, Task
from stratagem.transport import decode, decode_error, encode, encode_error, without_frames

if TYPE_CHECKING:
    import asyncio

__all__ = ["Answer", "InTurn", "Packer", "Parcel", "open_answer", "run_parcel"]

_PLAIN = frozenset({int, str, float, bool, type(None)})
"""Types that no code of a stranger is needed to load."""


@attrs.frozen
class Parcel:
    """Hold a task as data.

    Attributes:
        run_id: the id of its run.
        index: its index; and so on, as ``Task`` has them.
        key: its key.
        name: its name.
        attempt: which attempt this is.
        tags: its tags.
        parent: the key of the task that led to it.
        function: what it calls, pickled; None where ``given`` is the whole call.
        given: what the function is called with, pickled or a plain value.
    """

    run_id: str
    index: int
    key: str
    name: str
    attempt: int
    tags: frozenset[str]
    parent: str | None
    function: bytes | None
    given: Any


@attrs.frozen
class Answer:
    """Hold what became of a task, as data.

    Attributes:
        is_value: whether ``body`` is a value, else the description of an error.
        body: either, pickled.
        started_at: when it began, in seconds since the epoch.
        seconds: how long it ran.
        worker: who ran it.
    """

    is_value: bool
    body: bytes
    started_at: float
    seconds: float
    worker: str


class Packer:
    """Make parcels of tasks, pickling the function that they share once."""

    def __init__(self) -> None:
        self._function: object = None
        self._pickled = b""

    def pack(self, task: Task) -> Parcel:
        """Give the parcel of ``task``.

        Raises:
            TransportError: it cannot be pickled.
        """
        function, given = self._portable(task.call)
        scope = None if task.context is None else task.context.get(run_scope)
        run_id = "" if scope is None else scope.run_id
        return Parcel(
            run_id,
            task.index,
            task.key,
            task.name,
            task.attempt,
            task.tags,
            task.parent,
            function,
            given,
        )

    def _portable(self, call: Callable[[], Any]) -> tuple[bytes | None, Any]:
        if type(call) is not partial or call.keywords or len(call.args) != 1:
            return None, encode(call, "encode_task")
        if call.func is not self._function or not self._pickled:
            self._function, self._pickled = call.func, encode(call.func, "encode_task")
        given = call.args[0]
        return self._pickled, given if type(given) in _PLAIN else encode(given, "encode_task")


def run_parcel(parcel: Parcel) -> Answer:
    """Run the task of a parcel here and now, whatever it does."""
    task = Task(
        parcel.index,
        parcel.key,
        parcel.name,
        partial(_call, parcel.function, parcel.given),
        attempt=parcel.attempt,
        tags=parcel.tags,
        parent=parcel.parent,
    )
    task.context = copy_context()
    task.context.run(run_scope.set, Scope(parcel.run_id, _children))
    outcome = invoke(task, worker=f"pid-{os.getpid()}")
    is_value, body = _packed(outcome)
    return Answer(is_value, body, outcome.started_at, outcome.seconds, outcome.worker)


def _call(function: bytes | None, given: Any) -> Any:
    if isinstance(given, bytes):
        given = decode(given, "decode_task")
    return given() if function is None else _loaded(function)(given)


@lru_cache(maxsize=16)
def _loaded(pickled: bytes) -> Callable[[Any], Any]:
    """Load a function once for all the tasks that share it."""
    return decode(pickled, "decode_task")  # type: ignore[no-any-return]


def _children(calls: Sequence[Callable[[], Any]]) -> Batch:
    return Batch(calls, InTurn(), is_nested=True)


def _packed(outcome: Outcome) -> tuple[bool, bytes]:
    error = outcome.error
    if error is None:
        try:
            return True, encode(outcome.value, "encode_result")
        except TransportError as failure:
            error = failure
    return False, encode(encode_error(error), "encode_result")


def open_answer(task: Task, answer: Answer) -> Outcome:
    """Give the outcome of ``task`` that an answer tells of."""
    about = answer.started_at, answer.seconds, answer.worker
    try:
        body = decode(answer.body, "decode_result")
    except TransportError as error:
        return failed(task, without_frames(error), Status.ERROR, *about)
    if answer.is_value:
        return succeeded(task, body, *about)
    return failed(task, decode_error(body), Status.ERROR, *about)


class InTurn(StreamingStrategy):
    """Run tasks one after another where their outcomes are read.

    Args:
        finish: gives the result of an awaitable, where the caller has no loop.
    """

    shares_memory = True

    def __init__(self, finish: Callable[[Awaitable[Any]], Any] = finish_alone) -> None:
        self._finish = finish

    def stream(self, tasks: TaskSource) -> Iterator[Outcome]:
        """Take a task, run it, yield its outcome, and so on."""
        return self._run(tasks, calling_loop())

    def _run(
        self, tasks: TaskSource, loop: "asyncio.AbstractEventLoop | None"
    ) -> Iterator[Outcome]:
        finish = self._finish if loop is None else partial(_finish_on, loop)
        try:
            for task in tasks:
                yield invoke(task, finish=finish)
        finally:
            tasks.close()


def _finish_on(loop: "asyncio.AbstractEventLoop", awaitable: Awaitable[Any]) -> Any:
    from stratagem.event_loops import run_on  # noqa: PLC0415 - asyncio is slow to import

    return run_on(loop, awaitable)
