"""A worker process as its parent sees it: started, sent to, killed, disposed of."""

import logging
import os
import pickle
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import TYPE_CHECKING, Any

import attrs

from stratagem import Task
from stratagem.transport import main_is_importable
from stratagem_builtin import worker
from stratagem_builtin.ring import Ring, allocate

if TYPE_CHECKING:
    from stratagem_builtin.processes import ProcessStream

__all__ = ["Handle", "Sent", "cause_of_death", "start_worker"]


@attrs.define(eq=False)
class Sent:
    """Hold a task that was taken, with the stream that it was taken from."""

    stream: "ProcessStream"
    task: Task


@attrs.define(eq=False)
class Handle:
    """Hold what the dispatcher knows of one worker.

    Attributes:
        process: the process.
        connection: the parent's end of the pipe.
        ring: where the worker writes its results.
        name: what outcomes call it.
        ready: whether it has said that it is.
        asked_back: whether it was asked for tasks and has not answered.
        killed_for: the number of the task for whose sake it was killed; 0 for none.
        sent: what it was sent and has not answered, by number, in the order of sending.
        functions: the numbers of the functions that it has.
    """

    process: Any
    connection: Connection
    ring: Ring
    name: str
    ready: bool = False
    asked_back: bool = False
    killed_for: int = 0
    sent: dict[int, Sent] = attrs.field(factory=dict)
    functions: set[int] = attrs.field(factory=set)

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

    def kill(self) -> None:
        """Kill it, and what its task has started."""
        kill_group(self.process.pid)
        self.process.kill()

    def bury(self, seconds: float) -> int | None:
        """Wait for its end, end what its task has left, and give its exit code."""
        pid = self.process.pid
        self.process.join(seconds)
        kill_group(pid)
        exitcode: int | None = self.process.exitcode
        return exitcode

    def dispose(self) -> None:
        """Give pipe, memory and process object back."""
        self.connection.close()
        self.ring.release()
        self.process.close()


def start_worker(context: BaseContext, max_result_bytes: int, others: Sequence[Handle]) -> Handle:
    """Start a worker.

    Args:
        context: the multiprocessing context.
        max_result_bytes: the largest pickled result.
        others: the workers there are, whose pipes a fork would copy.
    """
    ours, theirs = context.Pipe(duplex=True)
    memory = allocate()
    settings = worker.Settings(max_result_bytes, logging.getLogger().getEffectiveLevel())
    not_theirs: list[int] = []
    if context.get_start_method() == "fork":
        not_theirs = [ours.fileno(), *(other.connection.fileno() for other in others)]
    process = context.Process(  # type: ignore[attr-defined]
        target=worker.main, args=(theirs, memory, settings, not_theirs), name="stratagem-worker"
    )
    with importable_main():
        process.start()
    theirs.close()
    return Handle(process, ours, Ring(memory), f"pid-{process.pid}")


@contextmanager
def importable_main() -> Iterator[None]:
    """Hide what ``__main__`` says of its file where there is none, as with a program on stdin.

    Workers would try to import it; what such a program defines is sent by value instead.
    """
    main = sys.modules["__main__"]
    if main_is_importable():
        yield
        return
    file = vars(main).pop("__file__", None)
    try:
        yield
    finally:
        if file is not None:
            vars(main)["__file__"] = file


def kill_group(pid: int) -> None:
    """Kill the process group that a worker leads, if it got so far as to lead one."""
    if not hasattr(os, "killpg"):
        return
    try:
        if os.getpgid(0) != pid:
            os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


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
