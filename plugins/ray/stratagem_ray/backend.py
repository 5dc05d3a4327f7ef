"""Deliveries on their way into Ray: one thread places them, and hears how they end.

How many run at once is counted here, and not left to Ray, which lets a task that waited go on
whether there is room or not.
"""

import heapq
import itertools
import pickle
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import attrs
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from stratagem import ClusterError
from stratagem.remote import Delivery, Unfinished
from stratagem_ray.connection import Connection
from stratagem_ray.workers import notes_of, notes_there

if TYPE_CHECKING:
    from stratagem.remote import RemoteOwner

__all__ = ["Berth", "RayBackend", "Sent", "first_line"]

LOOK_AROUND = 5.0
"""Seconds after which the head is looked for."""

MOST_SILENCE = 2
"""How often in a row it may be silent: Ray ends this process a minute after it was lost."""

OF_STREAMS = {"submit", "withdraw"}
"""What is done when Ray is lost: whoever calls Ray then starts another one unawares."""

NOTES_SECONDS = 10.0
"""Seconds in which another machine can tell what stands in a logbook there."""


@attrs.define(eq=False)
class Sent:
    """Hold a delivery that is in Ray.

    Attributes:
        number: what it is called there.
        delivery: the delivery.
        berth: where it is.
        waits: how many parts of it wait for children.
        lent: whether its slot is lent.
        process: host and id of the process that runs it, where it has said so.
    """

    number: int
    delivery: Delivery
    berth: "Berth"
    waits: int = 0
    lent: bool = False
    process: tuple[str, int] | None = None


@attrs.define(eq=False)
class Berth:
    """Hold what is known of a place where deliveries run.

    Attributes:
        address: what tells it from all others.
        slots: how many deliveries run there at once.
        ahead: how many brief ones may be there beside these.
        out: what is there, by number.
        lent: how many of those have lent their slot.
        returning: those that are to go on, when there is a slot, with what they are told.
    """

    address: str
    slots: int
    ahead: int = 0
    out: dict[int, Sent] = attrs.field(factory=dict)
    lent: int = 0
    returning: deque[tuple[Sent, str, tuple[object, ...]]] = attrs.field(factory=deque)

    @property
    def load(self) -> int:
        """Count what it has to run."""
        return len(self.out) - self.lent

    def has_room_for(self, delivery: Delivery) -> bool:
        """Tell whether it should have this one now."""
        most = self.slots + (self.ahead if delivery.is_brief else 0)
        return not self.returning and self.load < most


class RayBackend(ABC):
    """Carry deliveries into Ray and back.

    Args:
        connection: the way into Ray: this object closes it.
        owner: who owns the deliveries.

    Raises:
        ClusterError: nothing of ours can run there.
    """

    def __init__(self, connection: Connection, owner: "RemoteOwner") -> None:
        self.connection = connection
        self.owner = owner
        self.session = pickle.dumps(owner.session, pickle.HIGHEST_PROTOCOL)
        self.berths: dict[str, Berth] = {}
        self.sent: dict[int, Sent] = {}
        self._letters: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        self._numbers = itertools.count(1)
        self._waiting: list[tuple[int, int, Delivery]] = []
        self._by_delivery: dict[Delivery, Sent] = {}
        self.lost: ClusterError | None = None
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=target, name=f"stratagem-ray-{name}", daemon=True)
            for name, target in (("backend", self._serve), ("watch", self._watch))
        ]
        try:
            self.open()
        except BaseException:
            self.leave()
            connection.close()
            raise
        for thread in self._threads:
            thread.start()

    # What the two modes do.

    @abstractmethod
    def open(self) -> None:
        """Have something run in Ray, and wait for it."""

    @abstractmethod
    def leave(self) -> None:
        """End what runs in Ray."""

    @abstractmethod
    def send(self, berth: Berth, batch: list[Sent]) -> None:
        """Have deliveries run; ``end`` them, or have them ``died``."""

    @abstractmethod
    def say(self, worker: str | None, message: tuple[object, ...]) -> None:
        """Have one worker take a message, or all."""

    def look_around(self) -> None:  # noqa: B027 - there may be nothing to see
        """See what has changed, every few seconds, from a thread that may wait."""

    # What streams call.

    @property
    def is_lost(self) -> bool:
        """Tell whether Ray is gone."""
        return self.lost is not None

    def slots(self) -> int:
        """Tell how many deliveries run at once."""
        return sum(berth.slots for berth in list(self.berths.values()))

    def submit(self, deliveries: list[Delivery]) -> None:
        """Have deliveries run."""
        self.post("submit", deliveries)

    def withdraw(self, deliveries: list[Delivery]) -> None:
        """Take back what is not in Ray; what is there and not begun is given back from there."""
        self.post("withdraw", deliveries)

    def tell(self, worker: str, message: tuple[object, ...]) -> None:
        """Have one worker take a message."""
        self.post("tell", worker, message)

    def tell_all(self, message: tuple[object, ...]) -> None:
        """Have every worker take a message."""
        self.post("tell", None, message)

    def lend(self, delivery: Delivery) -> None:
        """Have others run in the slot of this delivery: where it runs that is known already."""
        self.post("lend", delivery)

    def resume(self, delivery: Delivery, worker: str, message: tuple[object, ...]) -> None:
        """Tell a task what it waited for, as soon as it has a slot."""
        self.post("resume", delivery, worker, message)

    def close(self) -> None:
        """Take leave of what runs in Ray, and of Ray."""
        self._closing.set()
        self.post("close")
        for thread in self._threads:
            thread.join()
        if self.lost is None and self.connection.is_open():
            self.leave()
        self.connection.close()

    # What any thread calls.

    def post(self, kind: str, *parts: object) -> None:
        """Have the thread do something."""
        self._letters.put((kind, *parts))

    def call(self, ref: Any, kind: str, *parts: object) -> None:
        """Have the thread know when a call into Ray has ended."""
        ref.future().add_done_callback(lambda done: self.post(kind, *parts, done))

    # What the thread does.

    def _serve(self) -> None:
        while True:
            letters = self._all_letters()
            if ("close",) in letters:
                for number in list(self.sent):
                    self.taken_off(number)
                return
            try:
                for letter in letters:
                    if self.lost is None or letter[0] in OF_STREAMS:
                        getattr(self, f"on_{letter[0]}")(*letter[1:])
                self._place()
                self.flush()
            except Exception as error:  # noqa: BLE001 - those who wait for an answer must have one
                what = f"{type(error).__name__}: {first_line(error)}"
                self.on_lose(self.broken(what, error))
                self._place()

    def flush(self) -> None:  # noqa: B027 - all may be sent as it is said
        """Send what has been said since the last time."""

    def next_letter(self, seconds: float) -> tuple[Any, ...] | None:
        """Give what is to be done next; None if nothing is for so many seconds."""
        try:
            return self._letters.get(timeout=seconds)
        except Empty:
            return None

    def _all_letters(self) -> list[tuple[Any, ...]]:
        letters = [self._letters.get()]
        with suppress(Empty):
            while True:
                letters.append(self._letters.get_nowait())
        return letters

    def on_submit(self, deliveries: list[Delivery]) -> None:
        """Let deliveries wait for room."""
        for delivery in deliveries:
            entry = (-delivery.depth, next(self._numbers), delivery)
            heapq.heappush(self._waiting, entry)

    def on_withdraw(self, deliveries: list[Delivery]) -> None:
        """Let them wait no more."""
        wanted = set(deliveries)
        taken = [entry[2] for entry in self._waiting if entry[2] in wanted]
        self._waiting = [entry for entry in self._waiting if entry[2] not in wanted]
        heapq.heapify(self._waiting)
        for delivery in taken:
            delivery.withdrawn()

    def on_tell(self, worker: str | None, message: tuple[object, ...]) -> None:
        """Pass a message on."""
        self.say(worker, message)

    def on_lend(self, delivery: Delivery) -> None:
        """Count a slot as free: a part of what runs there waits."""
        sent = self._by_delivery.get(delivery)
        if sent is not None:
            sent.waits += 1
            sent.berth.lent += not sent.lent
            sent.lent = True

    def on_resume(self, delivery: Delivery, worker: str, message: tuple[object, ...]) -> None:
        """Have a part go on: at once if others still wait, or all is over."""
        sent = self._by_delivery.get(delivery)
        if sent is not None:
            sent.waits -= 1
        if sent is None or sent.waits:
            self.say(worker, message)
        else:
            sent.berth.returning.append((sent, worker, message))

    def _place(self) -> None:
        """Let go on what waited, then send what waits to where there is most room."""
        if self.lost is not None:
            for *_, delivery in self._waiting:
                delivery.failed(self.lost)
            self._waiting.clear()
        for berth in self.berths.values():
            self._let_return(berth)
        batches: dict[str, list[Sent]] = {}
        while self._waiting and (found := self._roomiest(self._waiting[0][2])) is not None:
            _, number, delivery = heapq.heappop(self._waiting)
            sent = Sent(number, delivery, found)
            self.sent[number] = found.out[number] = self._by_delivery[delivery] = sent
            batches.setdefault(found.address, []).append(sent)
        for address, batch in batches.items():
            self.send(self.berths[address], batch)

    def _let_return(self, berth: Berth) -> None:
        while berth.returning:
            sent, worker, message = berth.returning[0]
            needs_slot = sent.number in self.sent and not sent.waits
            if needs_slot and berth.load >= berth.slots:
                return
            berth.returning.popleft()
            if needs_slot:
                sent.lent = False
                berth.lent -= 1
            self.say(worker, message)

    def _roomiest(self, delivery: Delivery) -> Berth | None:
        found = min(
            self.berths.values(),
            key=lambda berth: berth.load / (berth.slots or 0.5),
            default=None,
        )
        return found if found is not None and found.has_room_for(delivery) else None

    # How deliveries end.

    def taken_off(self, number: int) -> Sent | None:
        """Give a delivery that is no longer in Ray; None if that is known."""
        found = self.sent.pop(number, None)
        if found is not None:
            del self._by_delivery[found.delivery]
            del found.berth.out[number]
            found.berth.lent -= found.lent
        return found

    def end(self, number: int, answers: bytes) -> None:
        """Take answers for a delivery."""
        found = self.taken_off(number)
        if found is not None:
            found.delivery.answered(answers)

    def ask(self, question: Callable[[], object], kind: str, *parts: object) -> None:
        """Have the thread know what the answer is, for which one may have to wait."""
        self.owner.crew.run(lambda: self.post(kind, *parts, question()))

    def notes(self, book: str, nodes: list[str]) -> Unfinished | None:
        """Look for a logbook, on one node after the other."""
        session = self.owner.session.name
        if not nodes or self.connection.node in nodes:
            notes = notes_of(session, book)
            if notes is not None:
                return notes
        for node in nodes:
            if node != self.connection.node:
                with suppress(Exception):  # the node may be gone too
                    pinned = NodeAffinitySchedulingStrategy(node, soft=False)
                    asked = notes_there.options(scheduling_strategy=pinned).remote(session, book)
                    told = asked.future().result(NOTES_SECONDS)
                    notes = pickle.loads(told)  # noqa: S301 - what a worker of ours has noted
                    if notes is not None:
                        return notes  # type: ignore[no-any-return]
        return None

    # How Ray itself ends.

    def _watch(self) -> None:
        silence = 0
        while not self._closing.wait(LOOK_AROUND):
            silence = 0 if self.connection.is_alive() else silence + 1
            if silence >= MOST_SILENCE:
                self.post("lose", self.broken("its head is gone; what had ended is in the report"))
                return
            if not silence:
                with suppress(Exception):  # it is lost, as is seen next time
                    self.look_around()

    def broken(self, what: str, error: BaseException | None = None) -> ClusterError:
        """Give the error for a Ray that cannot be used."""
        broken = ClusterError(f"the Ray at {self.connection.head} cannot be used: {what}")
        broken.__cause__ = error
        return broken

    def on_lose(self, lost: ClusterError) -> None:
        """End everything: nothing that is in Ray will be answered."""
        self.lost = self.lost or lost
        self.berths.clear()
        for number in list(self.sent):
            found = self.taken_off(number)
            if found is not None:
                found.delivery.failed(self.lost)
        # Ray would end this process a minute after its head was lost.
        self.owner.crew.run(self.connection.close)


def first_line(error: BaseException) -> str:
    """Give what an error of Ray says, without the pages of advice that follow."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")
