"""What a Ray task does: its thread keeps the CPU, or lends it, while another runs our tasks.

Ray gives the CPU of a task to others while its main thread waits for Ray, and at no other time.
"""

import itertools
import os
import pickle
import socket
import threading
import time
from functools import partial
from queue import SimpleQueue
from typing import Any, cast

import attrs
import ray

from stratagem.remote import Session, process_name
from stratagem.threads import Clock, Crew
from stratagem_ray.errands import Desk, Errand
from stratagem_ray.workers import new_logbook, new_worker

__all__ = ["book_of", "run_shipment", "task"]

LONG = 0.1
"""Seconds after which a shipment takes long."""

_lock = threading.Lock()
_hosts: dict[str, "_Host"] = {}


def book_of(number: int) -> str:
    """Name the logbook of a shipment."""
    return f"shipment {number}"


def run_shipment(
    session: bytes, mailbox: Any, number: int, numbers: tuple[int, ...], shipment: bytes
) -> bytes:
    """Run a shipment; give the answers."""
    told: Session = pickle.loads(session)  # noqa: S301 - of the owner, who may run code here
    with _lock:
        host = _hosts.get(told.name)
        if host is None:
            host = _hosts[told.name] = _Host(told, mailbox)
    return host.run(Errand(number, numbers, shipment))


# Under another name: what Ray finds under its own name it sends as a name.
task: Any = cast("Any", ray.remote)(max_retries=0)(run_shipment)


@attrs.frozen
class _Turn:
    """Be what the main thread is to do next.

    Attributes:
        bell: what to wait for, with the CPU lent.
        answers: what to give to the owner.
    """

    bell: str = ""
    answers: bytes | None = None


class _Host:
    """Run the tasks of one owner in this process, one shipment after the other."""

    def __init__(self, session: Session, mailbox: Any) -> None:
        self._session = session
        self._mailbox = mailbox
        self._address = f"{process_name()}/{os.urandom(8).hex()}"
        self._turns: SimpleQueue[_Turn] = SimpleQueue()
        self._bells = itertools.count(1)
        self._bell = ""
        crew = Crew("stratagem-ray")
        self._desk = Desk(1, crew, self._work, self._on_lent, self._on_reclaimed)
        # What is said to all is said here too, from now on.
        mailbox.enrol.remote(self._address).future().result()
        self._clock = Clock("stratagem-ray-clock")
        self._worker = new_worker(session, 1, self._send, kills=True)
        crew.run(self._read)

    def run(self, errand: Errand) -> bytes:
        """Run an errand; lend the CPU while it waits."""
        self._desk.put(errand)
        self._clock.call_at(time.monotonic() + LONG, partial(self._say_where, errand))
        while True:
            turn = self._turns.get()
            if turn.answers is not None:
                return turn.answers
            ray.get(self._mailbox.until.remote(turn.bell))

    def _say_where(self, errand: Errand) -> None:
        """Tell which process has a shipment that takes long, so that its end can be seen."""
        if not errand.over:
            self._send(("runs", errand.number, socket.gethostname(), os.getpid()))

    def _work(self, errand: Errand) -> None:
        answers = self._answers(errand)
        if errand.waits:  # somebody whom it has left behind
            self._on_reclaimed(errand)
        self._turns.put(_Turn(answers=answers))

    def _answers(self, errand: Errand) -> bytes:
        book = None
        if len(errand.numbers) > 1:  # else it is clear what ran here
            book = new_logbook(self._session.name, book_of(errand.number), pages=2)
        if book is None:
            return self._worker.run(errand.shipment)
        with book.page() as page:
            answers = self._worker.run(errand.shipment, page)
        book.close()
        return answers

    def _on_lent(self, _errand: Errand) -> None:
        self._bell = f"{self._address}/{next(self._bells)}"
        self._turns.put(_Turn(bell=self._bell))

    def _on_reclaimed(self, _errand: Errand) -> None:
        self._mailbox.ring.remote(self._bell)

    def _send(self, message: tuple[Any, ...]) -> None:
        if message[0] == "nest":
            self._desk.asks(message[1], message[2])
        letter = pickle.dumps((self._address, message), pickle.HIGHEST_PROTOCOL)
        self._mailbox.post.remote(letter)

    def _read(self) -> None:
        """Take what the owner says, until it says farewell or is gone."""
        try:
            while True:
                for letter in self._mailbox.take.remote(self._address).future().result():
                    message = pickle.loads(letter)  # noqa: S301 - of the owner
                    if message[0] == "farewell":
                        return
                    if message[0] == "nested":
                        self._desk.is_answered(message[1])
                    self._worker.receive(message)
        except ray.exceptions.RayError:
            return
        finally:
            with _lock:
                _hosts.pop(self._session.name, None)
            self._worker.close()
