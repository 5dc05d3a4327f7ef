"""A listener that writes down what happens to each task, in order."""

import threading

import attrs

from stratagem.hookspecs import hookimpl
from stratagem.task import Outcome, Task

__all__ = ["Event", "EventRecorder"]


@attrs.frozen
class Event:
    """Hold one call of a hook.

    Attributes:
        hook: the hook without its prefix: ``before_run``, ``before_task``, ``task_error``, ...
        key: the key of the task; ``""`` for a hook of the run.
        status: how the task ended; ``""`` where it has not.
    """

    hook: str
    key: str = ""
    status: str = ""


class EventRecorder:
    """Be a plugin that records every event of every run of an engine.

    Attributes:
        events: what happened, in order.
        overlaps: how often a hook was called while another one ran; 0 if the engine is right.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.overlaps = 0
        self._inside = threading.Lock()

    def of_task(self, key: str) -> list[Event]:
        """Give the events of one task, in order."""
        return [event for event in self.events if event.key == key]

    @property
    def keys(self) -> list[str]:
        """Give the keys of the tasks announced, in order."""
        return [event.key for event in self.events if event.hook == "before_task"]

    def _record(self, event: Event) -> None:
        if not self._inside.acquire(blocking=False):
            self.overlaps += 1
            return
        self.events.append(event)
        self._inside.release()

    @hookimpl
    def stratagem_before_run(self) -> None:
        """Record that a run begins."""
        self._record(Event("before_run"))

    @hookimpl
    def stratagem_after_run(self) -> None:
        """Record that a run ended."""
        self._record(Event("after_run"))

    @hookimpl
    def stratagem_before_task(self, task: Task) -> None:
        """Record that a task is about to start."""
        self._record(Event("before_task", task.key))

    @hookimpl
    def stratagem_task_error(self, task: Task, outcome: Outcome) -> None:
        """Record that a task failed."""
        self._record(Event("task_error", task.key, outcome.status.value))

    @hookimpl
    def stratagem_after_task(self, task: Task, outcome: Outcome) -> None:
        """Record that a task ended."""
        self._record(Event("after_task", task.key, outcome.status.value))
