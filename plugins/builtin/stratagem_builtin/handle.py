"""A worker process as its parent sees it: started, sent to, killed, disposed of."""

import logging
import pickle
import signal
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import TYPE_CHECKING, Any

import attrs

from stratagem import (
    Outcome,
    Status,
    Task,
    TaskCancelledError,
    TaskLostError,
    TaskTimeoutError,
)
from stratagem.budget import Ticket
from stratagem.errors import WorkerStartError
from stratagem.invoke import failed
from stratagem.remote.nests import Nest
from stratagem_builtin import worker
from stratagem_builtin.descent import kill_group, kill_tree
from stratagem_builtin.memory_events import OutOfMemory
from stratagem_builtin.program import WORKER_NAME, describe_main, untold_main
from stratagem_builtin.ring import Ring, allocate
from stratagem_builtin.words import LastWords

if TYPE_CHECKING:
    from stratagem_builtin.processes import ProcessStream

__all__ = ["Handle", "Sending", "no_worker", "start_worker"]

SIGKILL = 9
STDERR_BYTES = 4_096


@attrs.frozen(eq=False)
class Sending:
    """Hold tasks that were sent together, under numbers that follow each other.

    Attributes:
        stream: whose they are.
        tasks: the tasks.
        first: the number of the first.
    """

    stream: "ProcessStream"
    tasks: Sequence[Task]
    first: int

    def task(self, number: int) -> Task:
        """Give the task that was sent under a number."""
        return self.tasks[number - self.first]


@attrs.define(eq=False)
class Handle:
    """Hold what the dispatcher knows of one worker.

    Attributes:
        process: the process.
        connection: the parent's end of the pipe.
        ring: where the worker writes its results.
        words: what it says while it starts, and when it crashes.
        name: what outcomes call it.
        ready_by: when it must have said that it is ready, in ``time.monotonic()``.
        ready: whether it has said that it is.
        trouble: why it could not get ready, and the traceback of that, as it told.
        asked_back: whether it was asked for tasks and has not answered.
        leaving: whether it will end by itself soon.
        killed_for: the number of the task for whose sake it was killed; 0 for none.
        idle_since: when it was first seen without a task, in ``time.monotonic()``; infinity while
            it has one. Kept while there are more workers than the limit.
        sent: what it was sent and has not answered, by number, in the order of sending: each
            stands for the task of that number.
        functions: the numbers of the functions that it has.
        nests: the children that its task waits for, by number.
        places: the places of budgets that its tasks have or wait for, by number.
    """

    process: Any
    connection: Connection
    ring: Ring
    words: LastWords
    name: str
    ready_by: float
    ready: bool = False
    trouble: tuple[str, str] = ("", "")
    asked_back: bool = False
    leaving: bool = False
    killed_for: int = 0
    idle_since: float = float("inf")
    sent: dict[int, Sending] = attrs.field(factory=dict)
    functions: set[int] = attrs.field(factory=set)
    nests: dict[int, Nest] = attrs.field(factory=dict)
    places: dict[int, Ticket] = attrs.field(factory=dict)

    def send(self, *message: object) -> None:
        """Send a message; one to a worker that has died goes nowhere, which a selector tells."""
        try:
            self.connection.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))
        except OSError:
            return

    def receive(self) -> Iterator[tuple[Any, ...]]:
        """Give the messages that are there.

        Raises:
            EOFError, OSError: the worker has died.
        """
        while self.connection.poll():
            yield pickle.loads(self.connection.recv_bytes())  # noqa: S301 - our own worker's

    def ask_back(self, most: int) -> None:
        """Ask for tasks that have not begun, unless it was asked already."""
        if most > 0 and not self.asked_back:
            self.asked_back = True
            self.send("give_back", most)

    def running_for(self, now: float) -> float:
        """Give for how many seconds it has run its task; 0.0 between tasks."""
        number, began = self.ring.running()
        return now - began if number in self.sent else 0.0

    def tell(self, nest: Nest) -> None:
        """Tell its task what became of children, for which that waits no longer."""
        del self.nests[nest.number]
        self.send("nested", nest.number, *nest.answer or ())

    def forsake(self) -> None:
        """Stop the children of its task, which is gone, and give back what places that has."""
        for nest in self.nests.values():
            nest.stop()
        self.nests.clear()
        for place in self.places.values():
            place.give_back()
        self.places.clear()

    def kill(self) -> None:
        """Kill it, and all that its task has started."""
        kill_tree(self.process.pid)
        self.process.kill()

    def bury(self, seconds: float) -> int | None:
        """Wait for its end, end what its task has left, and give its exit code."""
        pid = self.process.pid
        self.process.join(seconds)
        kill_group(pid)
        exitcode: int | None = self.process.exitcode
        return exitcode

    def start_error(self, start_method: str, exitcode: int | None) -> WorkerStartError:
        """Say why it never got ready."""
        problem, traceback = self.trouble
        if not problem and exitcode == -SIGKILL and self.ready_by <= time.monotonic():
            problem = "it was not ready within start_timeout, and was killed"
        said = self.words.read(STDERR_BYTES).decode(errors="replace")
        return WorkerStartError(
            start_method, exitcode, stderr=said, problem=problem, remote_traceback=traceback
        )

    def lost(self, task: Task, exitcode: int | None, memory: OutOfMemory) -> TaskLostError:
        """Say what became of the task that it died of."""
        reason = None
        if exitcode == -SIGKILL and memory.struck():
            reason = "oom"
        why = cause_of_death(exitcode)
        if reason is not None:
            why += ", for want of memory"
        return TaskLostError(
            task.key, why, exitcode=exitcode, stack=self.words.stack(), reason=reason
        )

    def verdict(self, task: Task, exitcode: int | None, memory: OutOfMemory) -> Outcome:
        """Give the outcome of the task that it was running when it died."""
        number, began = self.ring.running()
        seconds = time.monotonic() - began
        error: Exception
        if self.killed_for != number:
            error, status = self.lost(task, exitcode, memory), Status.LOST
        elif task.timeout is not None and seconds >= task.timeout:
            error, status = TaskTimeoutError(task.key, task.timeout), Status.TIMEOUT
        else:
            why = "the run was stopped; its worker was killed"
            error, status = TaskCancelledError(task.key, why), Status.CANCELLED
        return failed(task, error, status, time.time() - seconds, seconds, self.name)

    def dispose(self) -> None:
        """Give pipe, memory and process object back."""
        self.connection.close()
        self.ring.release()
        self.process.close()


def start_worker(
    context: BaseContext, settings: worker.Settings, others: Sequence[Handle]
) -> Handle:
    """Start a worker.

    Args:
        context: the multiprocessing context.
        settings: what every worker is told.
        others: the workers there are, whose pipes a fork would copy.

    Raises:
        OSError: the system gives no process, memory or descriptor.
        RuntimeError: this is a worker that still imports the program.
    """
    forks = context.get_start_method() == "fork"
    ready_by = time.monotonic() + settings.start_timeout
    settings = attrs.evolve(
        settings,
        log_level=logging.getLogger().getEffectiveLevel(),
        own_log_level=logging.getLogger("stratagem").getEffectiveLevel(),
        main={} if forks else describe_main(),
        ready_by=ready_by,
    )
    ours, theirs = context.Pipe(duplex=True)
    try:
        memory = allocate()
        not_theirs = [ours.fileno(), *(other.connection.fileno() for other in others)]
        process = context.Process(  # type: ignore[attr-defined]
            target=worker.main,
            args=(theirs, memory, settings, not_theirs if forks else ()),
            name=WORKER_NAME,
        )
        with untold_main():
            process.start()
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    name = f"pid-{process.pid}"
    return Handle(process, ours, Ring(memory), LastWords(memory), name, ready_by)


def no_worker(start_method: str, refused: OSError) -> WorkerStartError:
    """Say that the system gives no worker at all."""
    error = WorkerStartError(start_method, None, problem=f"the system refuses: {refused}")
    error.__cause__ = refused
    return error


def cause_of_death(exitcode: int | None) -> str:
    """Say what an exit code tells of the end of a worker."""
    if exitcode is None:
        return "its worker process went away"
    if exitcode >= 0:
        return f"its worker process exited with code {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    return f"its worker process was killed by {name}"
