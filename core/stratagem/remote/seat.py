"""The thread that an engine gives to a task: it alone may lend the slot that comes with it."""

import threading
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from functools import partial
from queue import SimpleQueue

from stratagem.task import Outcome

__all__ = ["Seat", "seat_here"]

seat_here: ContextVar["Seat | None"] = ContextVar("stratagem_seat", default=None)
"""The seat of the task that runs here."""


class _Favour:
    """Be what the thread of a seat is asked to do by another."""

    def __init__(self, job: Callable[[], None]) -> None:
        self._job = job
        self._settled = threading.Event()
        self._failure: BaseException | None = None

    def do(self) -> None:
        try:
            self._job()
        except BaseException as error:  # noqa: BLE001 - raised where it was asked
            self._failure = error
        self._settled.set()

    def drop(self) -> None:
        self._settled.set()

    def wait(self) -> None:
        self._settled.wait()
        if self._failure is not None:
            raise self._failure


class Seat:
    """Be where the tasks of a shipment sit, one after the other.

    A task that runs elsewhere, on an event loop or in a process, leaves the thread free to lend
    the slot for any part of it. One that runs in the thread itself can lend only from there.

    Args:
        lending: lends the slot of the calling thread, and takes one back; None where slots are
            not lent.

    Attributes:
        number: the number of the sending of the task that runs.
        key: its key; None between tasks.
        jobs: takes the outcome of a task that runs elsewhere.
    """

    def __init__(self, lending: tuple[Callable[[], None], Callable[[], None]] | None) -> None:
        self.number = 0
        self.key: str | None = None
        self.jobs: SimpleQueue[Outcome | _Favour] = SimpleQueue()
        self._lending = lending
        self._thread = threading.current_thread()
        self._context = copy_context()
        self._serving = False
        self._guard = threading.Lock()
        self._turn = threading.Lock()
        self._waits = 0

    def begin(self, number: int, key: str) -> None:
        """Let a task sit down."""
        self.number, self.key = number, key

    def end(self) -> None:
        """Let it get up: nothing can be asked of the thread for it any more."""
        self.key = None
        if self._waits:
            self._waits = 0

    def serve(self) -> Outcome:
        """Do, in the thread of the seat, what is asked of it, until the outcome is there."""
        self._serving = True
        try:
            while isinstance(job := self.jobs.get(), _Favour):
                job.do()
        finally:
            with self._guard:
                self._serving = False
            while not self.jobs.empty():
                if isinstance(late := self.jobs.get(), _Favour):
                    late.drop()
        return job

    def lend(self) -> bool:
        """Lend the slot, for the first part of the task that waits; False where that can't be."""
        if self._lending is None:
            return False
        with self._turn:
            if self._waits == 0 and not self._do(self._lending[0]):
                return False
            self._waits += 1
        return True

    def reclaim(self) -> None:
        """Take a slot back, for the last part of the task that waited."""
        with self._turn:
            self._waits -= 1
            if self._waits == 0 and self._lending is not None:
                self._do(self._lending[1])

    def _do(self, job: Callable[[], None]) -> bool:
        if threading.current_thread() is self._thread:
            self._context.run(job)
            return True
        with self._guard:
            if not self._serving:
                return False
            favour = _Favour(partial(self._context.run, job))
            self.jobs.put(favour)
        favour.wait()
        return True
