"""A stream of a strategy that is local to a worker, for the tasks of one stream of the owner."""

import threading
from collections import deque
from collections.abc import Callable

from stratagem.errors import TaskLostError
from stratagem.invoke import failed
from stratagem.source import TaskSource
from stratagem.strategy import ExecutionStrategy, cancelled
from stratagem.task import Outcome, Status, Task, Wait

__all__ = ["Lane"]


class _Queue(TaskSource):
    """Hand out what is put, until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self._ready: deque[Task] = deque()

    def put(self, task: Task) -> None:
        self._ready.append(task)
        self.wake()

    def poll(self) -> Task | Wait | None:
        if self.closed:
            return None
        try:
            return self._ready.popleft()
        except IndexError:
            return Wait()


class Lane:
    """Run tasks, as they come, by a strategy, and hand each outcome to who waits for it.

    Args:
        strategy: the strategy.
    """

    def __init__(self, strategy: ExecutionStrategy) -> None:
        self._tasks = _Queue()
        self._lock = threading.Lock()
        self._waiting: dict[int, tuple[Task, Callable[[Outcome], None]]] = {}
        self._over = False
        reader = threading.Thread(
            target=self._read, args=(strategy,), name="stratagem-remote-lane", daemon=True
        )
        reader.start()

    def put(self, task: Task, tell: Callable[[Outcome], None]) -> None:
        """Run a task; ``tell`` is called with its outcome, from another thread or at once."""
        with self._lock:
            if not self._over:
                self._waiting[task.index] = (task, tell)
                self._tasks.put(task)
                return
        tell(cancelled(task, "the run was stopped before it began"))

    def close(self) -> None:
        """Run nothing more, and cancel what can be cancelled."""
        self._tasks.close()

    def hurry(self) -> None:
        """Kill, or leave, what still runs."""
        self._tasks.hurry()

    def _read(self, strategy: ExecutionStrategy) -> None:
        problem: BaseException | None = None
        try:
            for outcome in strategy.stream(self._tasks):
                with self._lock:
                    _, tell = self._waiting.pop(outcome.index)
                tell(outcome)
        except BaseException as error:  # noqa: BLE001 - told to all who wait
            problem = error
        with self._lock:
            self._over = True
            left, self._waiting = self._waiting, {}
        for task, tell in left.values():
            tell(_unanswered(task, problem))


def _unanswered(task: Task, problem: BaseException | None) -> Outcome:
    if problem is None:
        return cancelled(task, "the run was stopped before it began")
    lost = TaskLostError(task.key, f"its worker could not run it: {problem}")
    lost.__cause__ = problem
    return failed(task, lost, Status.LOST)
