"""What a task can know about itself: its run, its key, and who may run its children."""

from collections.abc import Callable, Sequence
from contextvars import Context, ContextVar, copy_context
from typing import Any, Protocol

import attrs

from stratagem.family import Family
from stratagem.task import Task

__all__ = [
    "Children",
    "CurrentTask",
    "Hold",
    "Scope",
    "current_hold",
    "current_task",
    "enter_task",
    "hold_nothing",
    "is_given_up",
    "orphan_children",
    "run_scope",
    "thread_context",
]


class Hold(Protocol):
    """Be the slot that a running task holds, which it lends while it waits for other tasks."""

    @property
    def depth(self) -> int:
        """Tell how many runs the task is nested in."""

    def lend(self) -> bool:
        """Wait from now on: the slot goes to others. False when there is none to lend."""

    def reclaim(self) -> None:
        """Wait no more: take a slot back, waiting for one if need be."""


class Children(Protocol):
    """Be a nested run that has not begun."""

    def values(self) -> list[Any]:
        """Run it to its end; give the values, or raise the first failure."""

    def stop(self) -> None:
        """Ask it to stop, from any thread, without waiting."""


@attrs.frozen
class Scope:
    """Hold what all tasks of a run share.

    Attributes:
        run_id: the id of the run.
        open_children: makes a nested run of callables, by the strategy that runs the task.
        family: the runs that tasks have started.
    """

    run_id: str
    open_children: Callable[[Sequence[Callable[[], Any]]], Children]
    family: Family = attrs.field(factory=Family, eq=False, repr=False)


@attrs.frozen
class CurrentTask:
    """Describe the task that runs here.

    Attributes:
        run_id: the id of its run.
        key: its key.
        index: its position in the input.
        name: its name.
        attempt: which attempt this is, from 1.
        tags: its tags.
        parent: the key of the task that led to it; None where none did.
    """

    run_id: str
    key: str
    index: int
    name: str
    attempt: int
    tags: frozenset[str]
    parent: str | None = None


run_scope: ContextVar[Scope | None] = ContextVar("stratagem_run", default=None)
Running = tuple[Task | Callable[[], Task], Hold | None]
"""The task that runs, or what makes it where few ask for it, and the slot that it holds."""

_running: ContextVar[Running | None] = ContextVar("stratagem_task", default=None)


enter_task = _running.set
"""Make a task, with the slot that it holds, the current one of the context that runs."""


def current_task() -> CurrentTask | None:
    """Give the task that runs here; None outside of any.

    Works in threads, in worker processes, in coroutines, and in whatever copies their context.
    """
    running = _running.get()
    if running is None:
        return None
    task = running[0] if isinstance(running[0], Task) else running[0]()
    scope = run_scope.get()
    return CurrentTask(
        run_id="" if scope is None else scope.run_id,
        key=task.key,
        index=task.index,
        name=task.name,
        attempt=task.attempt,
        tags=task.tags,
        parent=task.parent,
    )


def hold_nothing() -> None:
    """Have the code of this context be no holder of the slot of the task that started it."""
    running = _running.get()
    if running is not None:
        _running.set((running[0], None))


@attrs.define
class _NotOurs:
    """Stand for a slot that another thread holds, which alone may lend it."""

    depth: int

    def lend(self) -> bool:
        return False

    def reclaim(self) -> None:
        return


def thread_context() -> Context:
    """Copy the context, for a thread that works for this one while this one waits.

    What runs in it belongs to the same task and run, at the same depth of nesting;
    the slot of the task stays with this thread, which lends it when it waits.
    """
    context = copy_context()
    running = _running.get()
    if running is not None and running[1] is not None:
        context.run(enter_task, (running[0], _NotOurs(running[1].depth)))
    return context


def current_hold() -> Hold | None:
    """Give the slot that the task running here holds; None outside of any."""
    running = _running.get()
    return None if running is None else running[1]


def is_given_up() -> bool:
    """Tell whether the task that runs here was given up: somebody has answered for it."""
    return getattr(current_hold(), "_over", False)


def orphan_children(task: Task) -> None:
    """Stop the runs that an attempt of ``task`` has started: it is answered for."""
    scope = None if task.context is None else task.context.get(run_scope)
    if scope is not None:
        scope.family.orphan(task.index)
