"""The actor that runs tasks: what the owner sends it comes in one call, what it tells in another.

Both are calls that carry many messages, since a call of an actor costs as much as many tasks.
"""

import pickle
from queue import Empty, SimpleQueue
from typing import Any, cast

import ray

from stratagem.remote import Logbook, Session
from stratagem.remote.logbook import Page
from stratagem.threads import Crew
from stratagem_ray.errands import Desk, Errand
from stratagem_ray.workers import new_logbook, new_worker

__all__ = ["Station", "station"]

MOST_BYTES = 1_048_576
"""Bytes of answers after which those that are there too are told in the next call."""


class Station:
    """Run the tasks of one owner.

    Args:
        session: what the owner tells, pickled.
        address: what it calls this actor.
        slots: how many shipments run at once.
    """

    def __init__(self, session: bytes, address: str, slots: int) -> None:
        told: Session = pickle.loads(session)  # noqa: S301 - of the owner, who may run code here
        self._news: SimpleQueue[tuple[bytes, Page | None]] = SimpleQueue()
        self._unheard: list[Page] = []
        self._logbook: Logbook | None = new_logbook(told.name, address, 4 * slots + 1)
        self._desk = Desk(slots, Crew("stratagem-ray"), self._work)
        node = ray.get_runtime_context().get_node_id()
        self._tell("joined", node)
        self._worker = new_worker(told, slots, self._send)

    @ray.method(concurrency_group="ears")
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
        if self._logbook is not None:
            self._logbook.close()
        self._tell("gone")

    @ray.method(concurrency_group="mouth")
    def tell(self) -> list[bytes]:
        """Give what there is to tell, once there is something; the last that was given is heard."""
        if self._logbook is not None:
            for page in self._unheard:
                self._logbook.close_page(page)
        self._unheard.clear()
        told: list[bytes] = []
        size = 0
        try:
            news = self._news.get()
            while True:
                told.append(news[0])
                size += len(news[0])
                if news[1] is not None:
                    self._unheard.append(news[1])
                if size > MOST_BYTES:
                    return told
                news = self._news.get_nowait()
        except Empty:
            return told

    def _work(self, errand: Errand) -> None:
        page = None if self._logbook is None else self._logbook.open_page()
        answers = self._worker.run(errand.shipment, page)
        self._tell("answered", errand.number, answers, page=page)

    def _send(self, message: tuple[Any, ...]) -> None:
        if message[0] == "nest":
            self._desk.asks(message[1], message[2])
        self._tell("says", message)

    def _tell(self, *message: object, page: Page | None = None) -> None:
        self._news.put((pickle.dumps(message, pickle.HIGHEST_PROTOCOL), page))


# Under another name: what Ray finds under its own name it sends as a name.
station: Any = cast("Any", ray.remote)(
    concurrency_groups={"ears": 1, "mouth": 1}, max_restarts=0, max_task_retries=0
)(Station)
