"""The values that travel: a task on its way down, its outcome on its way up.

All of them are values: never changed once handed over.
Task and Outcome are made once per task on the hottest path there is,
so they are plain ``attrs.define`` classes (a quarter of the cost of frozen ones);
change one with ``attrs.evolve``.
"""

import math
from collections.abc import Callable
from contextvars import Context
from enum import StrEnum
from typing import Any

import attrs

from stratagem.errors import TaskExitError

__all__ = ["Outcome", "Status", "Task", "Wait"]


class Status(StrEnum):
    """Name how a task ended; each member equals its own lower-case string."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    LOST = "lost"
    CANCELLED = "cancelled"


@attrs.define
class Task:
    """Hold one call to make.

    Attributes:
        index: its position in the input, from 0.
        key: its stable name within the run; the index as text unless the caller named it.
        name: what is called, for people.
        call: the callable of no arguments; it may return an awaitable.
        timeout: seconds that one attempt may run, or None for no bound.
        attempt: which attempt this is, from 1.
        tags: free words that strategies and listeners may go by.
        context: the context variables to run a copy of; it stays in its process.
        parent: the key of the task that led to it: in an expansion the one whose item it was
            made of, else the one that started the run; None for none.
    """

    index: int
    key: str
    name: str
    call: Callable[[], Any]
    timeout: float | None = None
    attempt: int = 1
    tags: frozenset[str] = frozenset()
    context: Context | None = attrs.field(default=None, repr=False, eq=False)
    parent: str | None = None

    def __getstate__(self) -> tuple[object, ...]:
        """Leave the context out: it cannot be pickled."""
        return (
            self.index,
            self.key,
            self.name,
            self.call,
            self.timeout,
            self.attempt,
            self.tags,
            None,
            self.parent,
        )

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Come back without a context."""
        self.__init__(*state)  # type: ignore[misc]


@attrs.define
class Outcome:
    """Hold what became of a task.

    Attributes:
        index: the index of the task.
        key: its key.
        name: its name.
        status: how it ended.
        value: what it returned; None unless it is ok.
        error: what it raised or what ended it; None when it is ok.
        started_at: when its last attempt began, in seconds since the epoch.
        seconds: how long its last attempt ran, queueing not included.
        worker: who ran it.
        attempts: how many attempts were made.
        parent: the key of the task that led to it, as the task says.
        recalled: whether it comes from a record of an earlier run, and the task did not run.
    """

    index: int
    key: str
    name: str
    status: Status
    value: Any = None
    error: BaseException | None = None
    started_at: float = 0.0
    seconds: float = 0.0
    worker: str = ""
    attempts: int = 1
    parent: str | None = None
    recalled: bool = False

    @property
    def ok(self) -> bool:
        """Tell whether the task succeeded."""
        return self.status == "ok"

    def unwrap(self) -> Any:
        """Return the value, or raise the error.

        Raises:
            TaskExitError: for an error that is no ``Exception``, such as SystemExit.
            Exception: the error itself, otherwise.
        """
        if self.error is None:
            return self.value
        raise raisable(self)


def raisable(outcome: Outcome) -> Exception:
    """Give the error of a failed outcome in a form that cannot end the caller's program."""
    error = outcome.error
    if isinstance(error, Exception):
        return error
    if error is None:
        raise ValueError(f"outcome {outcome.key!r} did not fail")
    return TaskExitError(outcome.key, error)


@attrs.frozen
class Wait:
    """Say that no task is ready: ask again when woken, or when the seconds are over."""

    seconds: float = math.inf
