"""The actor that runs tasks: what the owner sends it comes in one call, what it tells in another.

Both are calls that carry many messages, since a call of an actor costs as much as many tasks.
"""

import pickle
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast

import ray

from stratagem.remote import Session
from stratagem.threads import Crew
from stratagem_ray.errands import Desk, Errand
from stratagem_ray.workers import new_logbook, new_worker

__all__ = ["Station", "station"]

F = TypeVar("F", bound=Callable[..., Any])

MOST_BYTES = 1_048_576
"""Bytes of answers after which those that are there too are told in the next call."""


def _apart(group: str) -> Callable[[F], F]:
    """Have a method run in a thread of its own, whatever else the actor does."""
    return cast("Callable[[F], F]", cast("Any", ray.method)(concurrency_group=group))


class Station:
    """Run the tasks of one owner.

    Args:
        session: what the owner tells, pickled.
        address: what it calls this actor.
        slots: how many shipments run at once.
    """

    def __init__(self, session: bytes, address: str, slots: int) -> None:
        told: Session = pickle.loads(session)  # noqa: S301 - of the owner, who may run code here
        self._news: SimpleQueue[bytes] = SimpleQueue()
        self._desk = Desk(slots, Crew("stratagem-ray"), self._work)
        node = ray.get_runtime_context().get_node_id()
        self._tell("joined", node)
        self._worker = new_worker(told, slots, self._send, logbook=new_logbook(told.name, address))

    @_apart("ears")
    def hear(self, letters: bytes) -> None:
        """Take what the owner sends: shipments, and messages."""
        try:
            for letter in pickle.loads(letters):  # noqa: S301 - of the owner, who may run code here
                getattr(self, f"_on_{letter[0]}")(*letter[1:])
        except Exception as error:  # noqa: BLE001 - told to the owner, who waits for answers
            self._tell("broken", f"{type(error).__name__}: {error}")

    def _on_run(self, number: int, numbers: tuple[int, ...], shipment: bytes) -> None:
        self._desk.put(Errand(number, numbers, shipment))

    def _on_say(self, message: tuple[Any, ...]) -> None:
        if message[0] == "nested":
            self._desk.is_answered(message[1])
        self._worker.receive(message)

    def _on_farewell(self) -> None:
        self._worker.close()

    @_apart("mouth")
    def tell(self) -> list[bytes]:
        """Give what there is to tell, once there is something."""
        told: list[bytes] = []
        size = 0
        try:
            news = self._news.get()
            while True:
                told.append(news)
                size += len(news)
                if size > MOST_BYTES:
                    return told
                news = self._news.get_nowait()
        except Empty:
            return told

    def _work(self, errand: Errand) -> None:
        self._tell("answered", errand.number, self._worker.run(errand.shipment))

    def _send(self, message: tuple[Any, ...]) -> None:
        if message[0] == "nest":
            self._desk.asks(message[1], message[2])
        self._tell("says", message)

    def _tell(self, *message: object) -> None:
        self._news.put(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))


# Under another name: what Ray finds under its own name it sends as a name.
station: Any = cast("Any", ray.remote)(
    concurrency_groups={"ears": 1, "mouth": 1}, max_restarts=0, max_task_retries=0
)(Station)
