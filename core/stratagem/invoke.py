"""What runs where the task runs: one call, made safe, timed, and turned into an outcome."""

from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import partial
from inspect import CO_COROUTINE, iscoroutinefunction
from sys import modules as _modules
from threading import current_thread
from time import perf_counter as _clock
from time import time as _now
from types import FunctionType, MethodType
from typing import Any

from stratagem.scope import Hold, enter_task, run_scope
from stratagem.task import Outcome, Status, Task

__all__ = [
    "bind_for_structlog",
    "call_as_current",
    "callable_name",
    "enter",
    "failed",
    "finish_alone",
    "invoke",
    "is_async",
    "is_awaitable",
    "succeeded",
    "without_own_frames",
]


def finish_alone(awaitable: Awaitable[Any]) -> Any:
    """Run ``awaitable`` on a loop made for it, also where a loop runs already."""
    from stratagem.event_loops import run_alone  # noqa: PLC0415 - asyncio is slow to import

    return run_alone(awaitable)


_new = object.__new__
_OK = Status.OK
_PLAIN = frozenset({type(None), bool, int, float, str, bytes, list, tuple, dict, set})
"""Types that are looked at first, since what tasks mostly return can't be awaited."""


def invoke(
    task: Task,
    *,
    finish: Callable[[Awaitable[Any]], Any] = finish_alone,
    hold: Hold | None = None,
    worker: str | None = None,
) -> Outcome:
    """Run ``task`` here and now, and give its outcome whatever it raises.

    It runs in a copy of the context variables of its run.

    Args:
        task: the task.
        finish: gives the result of an awaitable that the call returned.
        hold: the slot that the task holds, to be lent while it waits for children.
        worker: who runs it; the name of the thread by default.
    """
    context = copy_context() if task.context is None else task.context.copy()
    if worker is None:
        worker = current_thread().name
    started_at = _now()
    began = _clock()
    try:
        value = context.run(call_as_current, task, hold, finish)
    except BaseException as error:  # noqa: BLE001 - whatever a task raises is its outcome
        seconds = _clock() - began
        return failed(task, without_own_frames(error), Status.ERROR, started_at, seconds, worker)
    return succeeded(task, value, started_at, _clock() - began, worker)


def call_as_current(task: Task, hold: Hold | None, finish: Callable[[Awaitable[Any]], Any]) -> Any:
    """Make ``task`` the current one of this context, and call it; an awaitable is finished.

    Raises:
        BaseException: whatever the task raises.
    """
    enter_task((task, hold))
    if "structlog.contextvars" in _modules:
        bind_for_structlog(task)
    value = task.call()
    if type(value) in _PLAIN or not hasattr(type(value), "__await__"):
        return value
    return finish(value)


def enter(task: Task, hold: Hold | None) -> None:
    """Make ``task`` the current one of this context, also for lines that structlog writes."""
    enter_task((task, hold))
    if "structlog.contextvars" in _modules:
        bind_for_structlog(task)


def bind_for_structlog(task: Task) -> None:
    """Have lines that structlog writes in this context name ``task``; structlog is imported."""
    scope = run_scope.get()
    # Missing while another thread is still importing it; then nothing has been logged by it yet.
    bind = getattr(_modules["structlog.contextvars"], "bind_contextvars", None)
    if bind is not None:
        lineage = {} if task.parent is None else {"parent_key": task.parent}
        bind(run_id="" if scope is None else scope.run_id, task_key=task.key, **lineage)


def succeeded(task: Task, value: Any, started_at: float, seconds: float, worker: str) -> Outcome:
    """Give the outcome of a task that did."""
    outcome = _new(Outcome)  # field by field: two thirds of the cost of the constructor
    outcome.index = task.index
    outcome.key = task.key
    outcome.name = task.name
    outcome.status = _OK
    outcome.value = value
    outcome.error = None
    outcome.started_at = started_at
    outcome.seconds = seconds
    outcome.worker = worker
    outcome.attempts = task.attempt
    outcome.parent = task.parent
    outcome.recalled = False
    return outcome


def failed(
    task: Task,
    error: BaseException,
    status: Status,
    started_at: float = 0.0,
    seconds: float = 0.0,
    worker: str = "",
) -> Outcome:
    """Give the outcome of a task that did not succeed."""
    return Outcome(
        task.index,
        task.key,
        task.name,
        status,
        None,
        error,
        started_at,
        seconds,
        worker,
        task.attempt,
        task.parent,
    )


def without_own_frames(error: BaseException) -> BaseException:
    """Cut the frames of this package from the head of the traceback of ``error``."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals.get("__name__", "").startswith(
        ("stratagem.", "stratagem_builtin.")
    ):
        traceback = traceback.tb_next
    return error.with_traceback(traceback)


def is_awaitable(value: object) -> bool:
    """Tell whether ``value`` must be awaited to have a result."""
    return hasattr(type(value), "__await__")


def is_async(call: Callable[..., Any]) -> bool:
    """Tell, without calling it, whether ``call`` is a coroutine function."""
    while True:
        if type(call) is partial:
            call = call.func
        elif type(call) is MethodType:
            call = call.__func__
        else:
            break
    if type(call) is FunctionType and call.__code__.co_flags & CO_COROUTINE:
        return True
    return iscoroutinefunction(call) or iscoroutinefunction(getattr(call, "__call__", None))  # noqa: B004


def callable_name(call: object) -> str:
    """Name a callable for people: its qualified name, that of what it wraps, or of its type."""
    while isinstance(call, partial):
        call = call.func
    name = getattr(call, "__qualname__", None)
    return name if isinstance(name, str) else type(call).__qualname__
