"""One shipment on its way: what carries it there, and how it ended."""

from typing import TYPE_CHECKING, Protocol

import attrs

from stratagem.remote.logbook import Unfinished
from stratagem.remote.packing import Cargo

if TYPE_CHECKING:
    from stratagem.remote.stream import RemoteStream

__all__ = ["Backend", "Death", "Delivery"]


@attrs.frozen
class Death:
    """Tell of a worker that died with a delivery.

    Attributes:
        why: what is known of it, for people: "its worker host/pid-12 died".
        unfinished: what it had begun, and what it had answered; None where nobody knows.
        exitcode: the exit code of its process, negative for a signal; None where nobody knows.
    """

    why: str
    unfinished: Unfinished | None = None
    exitcode: int | None = None


@attrs.define(eq=False)
class Delivery:
    """Carry a shipment. The backend calls one of the methods, once, from any thread.

    Attributes:
        stream: whose it is.
        shipment: what travels.
        cargos: the tasks in it, by number of sending, that have not been answered.
        depth: how many runs they are nested in; the deepest should go first.
        is_brief: whether they are known to take so little time that the way to the worker counts:
            it should have the next one there before this one ends.
        waiting: how many of them wait for children.
    """

    stream: "RemoteStream"
    shipment: bytes
    cargos: dict[int, Cargo]
    depth: int
    is_brief: bool
    waiting: int = 0

    def answered(self, answers: bytes) -> None:
        """Take what ``RemoteWorker.run`` gave."""
        self.stream.post("answered", self, answers)

    def withdrawn(self) -> None:
        """Say that it was taken back before it began."""
        self.stream.post("withdrawn", self)

    def died(self, death: Death) -> None:
        """Say that its worker died."""
        self.stream.post("died", self, death)

    def failed(self, error: BaseException) -> None:
        """Say that the engine itself failed: the stream ends with this error."""
        self.stream.post("failed", self, error)


class Backend(Protocol):
    """Be an engine, as streams use it. No method but ``close`` may wait."""

    @property
    def is_lost(self) -> bool:
        """Tell whether the engine is gone, so that it must be joined anew."""

    def close(self) -> None:
        """Leave the engine."""

    def slots(self) -> int:
        """Tell how many deliveries run at once; 0 while there is no worker.

        When that changes, ``RemoteOwner.slots_changed`` is to be called.
        """

    def submit(self, deliveries: list[Delivery]) -> None:
        """Have deliveries run, the deepest first, and tell each how it ended."""

    def withdraw(self, deliveries: list[Delivery]) -> None:
        """Take back those that no worker has begun; the others go on."""

    def tell(self, worker: str, message: tuple[object, ...]) -> None:
        """Have the ``RemoteWorker`` of that name take a message; nothing if there is none."""

    def tell_all(self, message: tuple[object, ...]) -> None:
        """Have every ``RemoteWorker`` take a message."""

    def lend(self, delivery: Delivery) -> None:
        """Give the slot of a delivery to others: a part of a task in it waits for children."""

    def resume(self, delivery: Delivery, worker: str, message: tuple[object, ...]) -> None:
        """Tell that part what became of them, when the delivery has a slot again.

        Called once for each call of ``lend``; the slot is needed again with the last of them.
        """
