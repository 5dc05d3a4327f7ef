"""Children of tasks that run in worker processes, and the slots that their parents lend."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from stratagem.remote.nests import TOO_LATE, Nest
from stratagem.threads import Crew

if TYPE_CHECKING:
    from stratagem_builtin.handle import Handle

__all__ = ["Nests"]


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
        task, depth = found.task(sending), found.stream.depth

        def run() -> None:
            nest.run(task, depth, pickled)
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
