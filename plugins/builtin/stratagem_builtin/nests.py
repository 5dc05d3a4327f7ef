"""Children of tasks that run in workers, as the parent process sees them.

A task asks for its children by its worker, and waits; here they are a nested run like any other,
read to its end by a thread that stands in for the task.
"""

from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from stratagem import NestingError, Task
from stratagem.invoke import enter
from stratagem.scope import Children, run_scope
from stratagem.threads import Crew
from stratagem.transport import decode, encode, encode_error
from stratagem_builtin.worker import ERROR, VALUE

if TYPE_CHECKING:
    from stratagem_builtin.handle import Handle

__all__ = ["Nest", "Nests"]


@attrs.define(eq=False)
class Nest:
    """Hold the children that a task waits for.

    Attributes:
        number: what its worker calls it.
        children: the nested run; None until it is made.
        answer: what the task is to be told, pickled, after its kind; None until it is known.
        abandoned: whether nobody waits for it any more.
    """

    number: int
    children: Children | None = None
    answer: tuple[int, bytes] | None = None
    abandoned: bool = False

    def stop(self) -> None:
        """Ask the children to stop: their parent is gone, or wants them no more."""
        self.abandoned = True
        if self.children is not None:
            self.children.stop()


@attrs.frozen
class _StandIn:
    """Be the slot of a task that waits in its worker: the dispatcher lends that, and takes it back.

    Attributes:
        depth: how many runs the task is nested in.
    """

    depth: int

    def lend(self) -> bool:
        return False

    def reclaim(self) -> None:
        """Do nothing: nothing was lent here."""


class Nests:
    """Run the children that tasks in workers ask for, and tell the tasks what became of them.

    Only ``open``, ``hand_out`` and ``resume`` touch workers; the dispatcher alone calls them.

    Args:
        wake: called, from any thread, when there is something to hand out.

    Attributes:
        returning: the workers whose tasks wait for a slot to go on, and for what they are told.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.returning: deque[tuple[Handle, Nest]] = deque()
        self._answered: deque[tuple[Handle, Nest]] = deque()
        self._wake = wake
        self._crew = Crew("stratagem-nested")

    def open(self, worker: "Handle", number: int, sending: int, pickled: bytes) -> None:
        """Have children run for a task, which waits for them, in a thread of their own.

        Args:
            worker: where the task runs.
            number: what the worker calls the children.
            sending: the number under which the task was sent there.
            pickled: a list of callables.
        """
        nest = worker.nests[number] = Nest(number)
        found = worker.sent.get(sending)
        if found is None:  # it ended meanwhile, and left behind who asks
            nest.answer = TOO_LATE
            worker.tell(nest)
            return
        stream, task = found
        depth = stream.depth

        def run() -> None:
            context = copy_context() if task.context is None else task.context.copy()
            try:
                values = context.run(partial(_values_of, nest, task, depth, pickled))
                nest.answer = VALUE, encode(values, "encode_result")
            except BaseException as error:  # noqa: BLE001 - raised again where the task waits
                nest.answer = _raised(error)
            self._answered.append((worker, nest))
            self._wake()

        self._crew.run(run)

    def hand_out(self) -> None:
        """Tell tasks what became of children; one that goes on then waits for a slot first."""
        while self._answered:
            worker, nest = self._answered.popleft()
            if nest.number not in worker.nests:  # it is dead
                continue
            if any(other.answer is None for other in worker.nests.values()):
                worker.tell(nest)
            else:
                self.returning.append((worker, nest))

    def resume(self, free: int) -> int:
        """Let tasks go on that have what they waited for, so many at most; count them."""
        resumed = 0
        while self.returning and resumed < free:
            worker, nest = self.returning.popleft()
            if nest.number in worker.nests:
                worker.tell(nest)
                resumed += not worker.nests
        return resumed

    def close(self) -> None:
        """Let idle threads go."""
        self._crew.close()


def _values_of(nest: Nest, task: Task, depth: int, pickled: bytes) -> list[Any]:
    enter(task, _StandIn(depth))
    scope = run_scope.get()
    if scope is None:
        raise NestingError(f"task {task.key!r} belongs to no run that could run its children")
    nest.children = children = scope.open_children(decode(pickled, "decode_task"))
    if nest.abandoned:
        children.stop()
    return children.values()


def _raised(error: BaseException) -> tuple[int, bytes]:
    return ERROR, encode(encode_error(error), "encode_result")


TOO_LATE = _raised(NestingError("the task that wants to run children has ended"))
"""What is told to who asks for children of a task that is over."""
