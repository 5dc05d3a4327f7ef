"""A strategy that pauses before each task, and listeners that write to a file what they hear."""

import os
import time
from pathlib import Path

from stratagem import StrategyInfo, StreamingStrategy, hookimpl, invoke


class PatientStrategy(StreamingStrategy):
    """Run tasks one after another, with a pause before each."""

    def __init__(self, pause: float = 0.0) -> None:
        self.pause = pause

    def stream(self, tasks):
        """Take a task, pause, run it, yield its outcome."""
        try:
            for task in tasks:
                time.sleep(self.pause)
                yield invoke(task, worker="patient")
        finally:
            tasks.close()


def write(*words):
    """Add a line to the file that the environment names, if it names one."""
    path = os.environ.get("PATIENT_EVENTS")
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            print(*words, file=file)


@hookimpl
def stratagem_strategies():
    """Offer the strategy."""
    return [StrategyInfo("patient", PatientStrategy, "one task after a pause")]


@hookimpl
def stratagem_before_task(task):
    """Write that a task begins."""
    write("before", task.key)


@hookimpl
def stratagem_task_error(task, outcome):
    """Write that it failed."""
    write("error", task.key, type(outcome.error).__name__)


@hookimpl
def stratagem_after_task(task, outcome):
    """Write that it ended."""
    write("after", task.key, outcome.status)
