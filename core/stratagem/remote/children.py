"""Children of tasks that run in this worker: the process that owns the run has them run."""

import itertools
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import attrs

from stratagem.errors import NestingError, TransportError
from stratagem.scope import current_task
from stratagem.transport import decode, decode_error, encode, encode_error

__all__ = ["RemoteChildren", "RemoteFamily"]


@attrs.define(eq=False)
class _Wait:
    """Hold the answer that a thread waits for."""

    arrived: threading.Event = attrs.field(factory=threading.Event)
    answer: tuple[bool, bytes] = (False, b"")

    def result(self) -> Any:
        self.arrived.wait()
        succeeded, body = self.answer
        answer = decode(body, "decode_result")
        if not succeeded:
            raise decode_error(answer)
        return answer


class RemoteFamily:
    """Ask the owner of the run to run children, and hand out what it answers.

    Args:
        send: sends a message to the owner, from any thread.
        running: gives number and key of the task that runs here; the key is None between tasks.
        waiting: what a task is in while it waits for children, which is where it lends its slot.
        pack: pickles a callable, or several together.
    """

    def __init__(
        self,
        send: Callable[..., None],
        running: Callable[[], tuple[int, str | None]],
        waiting: Callable[[], AbstractContextManager[object]] = nullcontext,
        pack: Callable[[object, str], bytes] = encode,
    ) -> None:
        self._send = send
        self._running = running
        self.waiting = waiting
        self._pack = pack
        self._numbers = itertools.count(1)
        self._waits: dict[int, _Wait] = {}

    def open(self, callables: Sequence[Callable[[], Any]]) -> "RemoteChildren":
        """Prepare a nested run of the task that runs here.

        Raises:
            NestingError: the task of this context has ended, it left this thread behind.
            TransportError: a callable cannot be pickled.
        """
        number, key = self._running()
        caller = current_task()
        if caller is None or caller.key != key:
            raise NestingError("the task that wants to run children has ended")
        return RemoteChildren(self, number, self._pickled(callables))

    def ask(self, nest: int, task: int, pickled: bytes) -> Callable[[], Any]:
        """Have the owner run children; give what waits for their values."""
        wait = self._waits[nest] = _Wait()
        self._send("nest", nest, task, pickled)
        return wait.result

    def next_number(self) -> int:
        """Give a number that no other nested run of this worker has."""
        return next(self._numbers)

    def stop(self, nest: int) -> None:
        """Ask the owner to stop children."""
        self._send("unnest", nest)

    def receive(self, nest: int, succeeded: bool, body: bytes) -> None:  # noqa: FBT001 - a message
        """Hand what the owner answers to the one who waits for it."""
        wait = self._waits.pop(nest, None)
        if wait is not None:
            wait.answer = succeeded, body
            wait.arrived.set()

    def forsake(self) -> None:
        """Answer everybody who waits: the owner is gone."""
        gone = NestingError("the run that this task belongs to is over; nobody runs its children")
        for nest in list(self._waits):
            self.receive(nest, succeeded=False, body=encode(encode_error(gone), "encode_result"))

    def _pickled(self, callables: Sequence[Callable[[], Any]]) -> bytes:
        """Pickle callables together, so that what they share travels once."""
        try:
            return self._pack(list(callables), "encode_task")
        except TransportError:
            for call in callables:  # its error names the type of the one that can't be
                self._pack(call, "encode_task")
            raise


class RemoteChildren:
    """Be a nested run that the owner runs on all workers."""

    def __init__(self, family: RemoteFamily, task: int, pickled: bytes) -> None:
        self._family = family
        self._nest = family.next_number()
        self._task = task
        self._pickled = pickled
        self._turn = threading.Lock()
        self._asked = False
        self._stopped = False

    def values(self) -> list[Any]:
        """Run it to its end; give the values, or raise the first failure."""
        with self._turn:
            if self._stopped:
                raise NestingError("these children were stopped before they began")
            self._asked = True
            result = self._family.ask(self._nest, self._task, self._pickled)
        with self._family.waiting():
            values: list[Any] = result()
        return values

    def stop(self) -> None:
        """Ask it to stop, from any thread, without waiting."""
        with self._turn:
            self._stopped = True
            if self._asked:
                self._family.stop(self._nest)
