"""What a run is doing right now, as a value: for progress bars, logs, and whoever asks."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import attrs

from stratagem.task import Status, Task

if TYPE_CHECKING:
    from stratagem.strategy import ExecutionStrategy

__all__ = ["Running", "RunningTask", "Snapshot", "running_tasks", "stopping"]

TRIES = 5


@attrs.frozen
class Running:
    """Say, as a strategy, that a task has begun and not ended.

    Attributes:
        task: the task, or one evolved from it.
        seconds: how long it has been running.
        worker: who runs it, as its outcome will name it.
    """

    task: Task
    seconds: float
    worker: str = ""


@attrs.frozen
class RunningTask:
    """Describe a task that runs.

    Attributes:
        key: its key.
        name: its name.
        seconds: how long it has been running, in this attempt.
        worker: who runs it; ``""`` where the strategy does not say.
    """

    key: str
    name: str
    seconds: float
    worker: str = ""


@attrs.frozen
class Snapshot:
    """Be what a run was doing at one moment.

    A task is waiting, then taken by the strategy, then running, then done. A strategy that does
    not tell what it has begun shows its tasks as taken until they are done.

    Attributes:
        run_id: the id of the run.
        name: what its tasks call, where that is one function.
        total: how many tasks it has; None while that is unknown.
        taken: how many the strategy has taken and is not known to run: they wait in a batch
            or for another attempt, or have ended and their outcome was not read yet.
        running: what runs, the oldest first.
        counts: how many are done, by status.
        seconds: how long the run has lasted.
        stopped: why it is being stopped, or was; None for a run that goes its way.
        grace: seconds that what runs gets when the run is stopped; None where that is unknown.
        awaits_input: whether the strategy has room for a task, and the input gave none.
        awaits_reader: whether nobody is reading the outcomes right now.
        nested: the runs that its tasks have started and that are not over.
    """

    run_id: str
    name: str = ""
    total: int | None = None
    taken: int = 0
    running: tuple[RunningTask, ...] = ()
    counts: Mapping[Status, int] = attrs.field(factory=dict)
    seconds: float = 0.0
    stopped: str | None = None
    grace: float | None = None
    awaits_input: bool = False
    awaits_reader: bool = False
    nested: tuple["Snapshot", ...] = ()

    @property
    def done(self) -> int:
        """Count the tasks that ended."""
        return sum(self.counts.values())

    @property
    def failed(self) -> int:
        """Count those that ended with any status but ok."""
        return self.done - self.counts.get(Status.OK, 0)

    @property
    def in_flight(self) -> int:
        """Count the tasks that the strategy has and that are not done."""
        return self.taken + len(self.running)

    @property
    def waiting(self) -> int | None:
        """Count the tasks that the strategy has not taken; None while that is unknown."""
        return None if self.total is None else max(0, self.total - self.done - self.in_flight)

    @property
    def workers(self) -> dict[str, tuple[str, ...]]:
        """Give the keys of what each worker runs, for the workers that run something."""
        keys: dict[str, tuple[str, ...]] = {}
        for task in self.running:
            keys[task.worker] = (*keys.get(task.worker, ()), task.key)
        return keys

    @property
    def descendants(self) -> Iterator["Snapshot"]:
        """Go through the nested runs, and those nested in them."""
        for child in self.nested:
            yield child
            yield from child.descendants


def running_tasks(strategy: "ExecutionStrategy", context: object) -> tuple[RunningTask, ...]:
    """Give what ``strategy`` runs of the run whose tasks share ``context``, the oldest first."""
    running = [one for one in _told(strategy) if one.task.context is context]
    running.sort(key=_seconds, reverse=True)
    return tuple(
        RunningTask(one.task.key, one.task.name, one.seconds, one.worker) for one in running
    )


def _told(strategy: "ExecutionStrategy") -> list[Running]:
    for _ in range(TRIES):
        try:
            return list(strategy.running())
        except (RuntimeError, ValueError):  # what is gone through has changed meanwhile, or is gone
            continue
    return []


def _seconds(running: Running) -> float:
    return running.seconds


def stopping(snapshot: Snapshot, why: str) -> str:
    """Say in one line what a run that was interrupted still waits for, and what one can do."""
    if not snapshot.in_flight:
        return f"{why}, nothing in flight"
    grace = "" if snapshot.grace is None else f" up to {snapshot.grace:g} s"
    return f"{why}, {snapshot.in_flight} in flight, waiting{grace}; again to kill"
