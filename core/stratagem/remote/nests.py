"""Children of tasks that run elsewhere, as the process that owns the run sees them.

A task asks for its children by its worker, and waits; here they are a nested run like any other,
read to its end by a thread that stands in for the task.
"""

import pickle
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any

import attrs

from stratagem.errors import NestingError
from stratagem.invoke import enter
from stratagem.scope import Children, run_scope
from stratagem.task import Task
from stratagem.transport import decode, encode, encode_error

__all__ = ["TOO_LATE", "Nest", "NestAnswer", "Pack"]

NestAnswer = tuple[bool, bytes]
"""Whether all children succeeded, and their values, or the first error, described; pickled."""

Pack = Callable[[object, str], bytes]
"""Pickles a value, as ``transport.encode`` does."""


@attrs.define(eq=False)
class Nest:
    """Hold the children that a task waits for.

    Attributes:
        number: what its worker calls it.
        children: the nested run; None until it is made.
        answer: what the task is to be told; None until it is known.
        abandoned: whether nobody waits for it any more.
    """

    number: int
    children: Children | None = None
    answer: NestAnswer | None = None
    abandoned: bool = False

    def run(self, task: Task, depth: int, pickled: bytes, pack: Pack = encode) -> None:
        """Run the children to their end, in the place of their parent; never raises.

        Args:
            task: their parent.
            depth: how many runs that is nested in.
            pickled: a list of callables.
            pack: pickles the values.
        """
        context = copy_context() if task.context is None else task.context.copy()
        try:
            values = context.run(partial(self._values, task, depth, pickled))
            self.answer = True, pack(values, "encode_result")
        except BaseException as error:  # noqa: BLE001 - raised again where the task waits
            self.answer = _raised(error)

    def _values(self, task: Task, depth: int, pickled: bytes) -> list[Any]:
        enter(task, _StandIn(depth))
        scope = run_scope.get()
        if scope is None:
            raise NestingError(f"task {task.key!r} belongs to no run that could run its children")
        self.children = children = scope.open_children(decode(pickled, "decode_task"))
        if self.abandoned:
            children.stop()
        return children.values()

    def stop(self) -> None:
        """Ask the children to stop: their parent is gone, or wants them no more."""
        self.abandoned = True
        if self.children is not None:
            self.children.stop()


@attrs.frozen
class _StandIn:
    """Be the slot of a task that waits in its worker, which has it lent there.

    Attributes:
        depth: how many runs the task is nested in.
    """

    depth: int

    def lend(self) -> bool:
        return False

    def reclaim(self) -> None:
        """Do nothing: nothing was lent here."""


def _raised(error: BaseException) -> NestAnswer:
    return False, pickle.dumps(encode_error(error), pickle.HIGHEST_PROTOCOL)


TOO_LATE = _raised(NestingError("the task that wants to run children has ended"))
"""What is told to who asks for children of a task that is over."""
