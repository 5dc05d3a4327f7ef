"""Children of a task, run by the strategy that runs the task."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from stratagem.budget import budgets_held
from stratagem.errors import NestingError
from stratagem.loops import a_loop_runs, running_loop, running_on
from stratagem.scope import Scope, current_task, run_scope
from stratagem.strategy import as_call, warn_of_late_binding

__all__ = ["nested", "nested_async"]


def nested(callables: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run callables by the strategy that runs the calling task; return their values, in order.

    The task lends its slot while it waits, so no depth needs more slots than there are.
    A child has the key of the task and its index: ``"7/0"`` is the first child of task ``"7"``.

    Raises:
        NestingError: called outside a task, where an event loop runs, or with a budget taken.
        Exception: the first failure in time, as it was raised.
    """
    scope = _scope("nested")
    if a_loop_runs():
        raise NestingError(
            "nested() would block the event loop that runs here; use `await nested_async(...)`"
        )
    warn_of_late_binding(callables, stacklevel=2)
    return scope.open_children(callables).values()


async def nested_async(
    callables: Sequence[Callable[[], Any] | Awaitable[Any]],
) -> list[Any]:
    """Run callables or awaitables as ``nested`` does, while the loop goes on.

    Raises:
        NestingError: called outside a task, or with a budget taken.
        Exception: the first failure in time, as it was raised.
    """
    from stratagem.event_loops import call_in_thread  # noqa: PLC0415 - asyncio is slow to import

    scope = _scope("nested_async")
    warn_of_late_binding(callables, stacklevel=2)
    with running_on(running_loop()):
        children = scope.open_children([as_call(given) for given in callables])
    return await call_in_thread(children.values, on_cancel=children.stop)


def _scope(function: str) -> Scope:
    scope = run_scope.get()
    if scope is None or current_task() is None:
        raise NestingError(
            f"{function}() was called outside a task: it takes the strategy of the task that calls "
            "it; use `stratagem.run` to choose one"
        )
    if held := budgets_held():
        raise NestingError(
            f"{function}() was called with the budget {held[0]!r} taken, which the children might "
            "wait for for ever; take a budget around the innermost call alone"
        )
    return scope
