"""What a task can know about itself: its run, its key, and who may run its children."""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
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
    "is_given_up",
    "orphan_children",
    "run_scope",
]


class Hold(Protocol):
    """Be the slot that a running task holds, which it lends while it waits for other tasks."""

    depth: int

    def lend(self) -> bool:
        """Give the slot to others; False when it is lent already."""

    def reclaim(self) -> None:
        """Take a slot back, waiting for one if need be."""


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
    """

    run_id: str
    key: str
    index: int
    name: str
    attempt: int
    tags: frozenset[str]


run_scope: ContextVar[Scope | None] = ContextVar("stratagem_run", default=None)
_running: ContextVar[tuple[Task, Hold | None] | None] = ContextVar("stratagem_task", default=None)


enter_task = _running.set
"""Make a task, with the slot that it holds, the current one of the context that runs."""


def current_task() -> CurrentTask | None:
    """Give the task that runs here; None outside of any.

    Works in threads, in worker processes, in coroutines, and in whatever copies their context.
    """
    running = _running.get()
    if running is None:
        return None
    task, _ = running
    scope = run_scope.get()
    return CurrentTask(
        run_id="" if scope is None else scope.run_id,
        key=task.key,
        index=task.index,
        name=task.name,
        attempt=task.attempt,
        tags=task.tags,
    )


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
