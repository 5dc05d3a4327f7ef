"""Deliveries on their way to Dask workers: one thread places them, and hears how they end.

A delivery is pinned to the worker that it is sent to. So Dask never runs one again by itself, on
whatever worker is left, when its own is gone: what becomes of it is decided by who owns the run.
"""

import asyncio
import atexit
import heapq
import itertools
import pickle
import secrets
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import attrs
import dask
from distributed.scheduler import KilledWorker

from stratagem import ClusterError
from stratagem.remote import Death, Delivery, Unfinished
from stratagem_dask import worker as remote
from stratagem_dask.connection import Connection
from stratagem_dask.demand import Demand

if TYPE_CHECKING:
    from stratagem.remote import RemoteOwner

__all__ = ["DaskBackend"]

LOOK_AROUND = 0.5
"""Seconds after which it is looked at what comes without a word, however much else there is."""

SAME_HOST_SECONDS = 3.0
"""Seconds in which another worker on the host of a dead one may come up, to read its notes."""

FAREWELL_SECONDS = 5.0

LARGE_IS_MEANT = {"distributed.admin.large-graph-warning-threshold": "1 TB"}
"""Arguments are sent with the tasks that need them, however large: a warning would say nothing."""


@attrs.define(eq=False)
class _Worker:
    """Hold what is known of a worker.

    Attributes:
        address: its address.
        name: what outcomes call it.
        threads: how many deliveries it runs at once.
        out: the numbers of what it has.
        lent: how many of those have lent their thread to others.
    """

    address: str
    name: str
    threads: int
    out: set[int] = attrs.field(factory=set)
    lent: int = 0

    @property
    def load(self) -> int:
        """Count what it has to run."""
        return len(self.out) - self.lent


@attrs.define(eq=False)
class _Sent:
    """Hold a delivery that a worker has.

    Attributes:
        delivery: the delivery.
        worker: where it is.
        future: what Dask knows of it.
        waits: how many parts of it wait for children.
    """

    delivery: Delivery
    worker: _Worker
    future: Any
    waits: int = 0


@attrs.frozen(eq=False)
class _Dead:
    """Hold a worker that is gone until its notes are read.

    Attributes:
        worker: the worker.
        until: when to read no longer, in ``time.monotonic()``.
    """

    worker: _Worker
    until: float


class DaskBackend:
    """Carry deliveries to the workers of a cluster.

    Args:
        connection: the way to the cluster: this object hears all that is said there, and closes it.
        owner: who owns the deliveries.

    Raises:
        ClusterError: a worker cannot run anything of ours.
    """

    def __init__(self, connection: Connection, owner: "RemoteOwner") -> None:
        self._connection = connection
        self._client: Any = connection.client
        self._owner = owner
        # An owner that comes again, to another cluster or after a loss, is a new one to workers.
        self._name = f"{owner.session.name}{secrets.token_hex(4)}"
        told = attrs.evolve(owner.session, name=self._name)
        self._session = pickle.dumps(told, pickle.HIGHEST_PROTOCOL)
        self._letters: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        self._numbers = itertools.count(1)
        self._waiting: list[tuple[int, int, Delivery]] = []
        self._sent: dict[int, _Sent] = {}
        self._by_delivery: dict[Delivery, _Sent] = {}
        self._workers: dict[str, _Worker] = {}
        self._dead: dict[str, _Dead] = {}
        self._slots = 0
        self._lost: BaseException | None = None
        self._prefix = f"stratagem-{self._name[-8:]}"
        self._demand = Demand(self._client, self._prefix)
        self._look_at = 0.0
        self._worker_by = time.monotonic() + connection.start_timeout
        self._thread = threading.Thread(target=self._serve, name="stratagem-dask", daemon=True)
        try:
            self._meet_workers()
        except BaseException:
            connection.close()
            raise
        self._thread.start()
        # Dask's own farewell to the interpreter, which was registered before, ends the cluster.
        atexit.register(owner.close)

    def _meet_workers(self) -> None:
        self._client.subscribe_topic(remote.topic_of(self._name), self._hear)
        self._client.subscribe_topic("all", self._hear_of_workers)
        addresses = list(self._client.nthreads())
        for address, told in self._described(addresses).items() if addresses else ():
            self._add(address, told)

    @property
    def is_lost(self) -> bool:
        """Tell whether the scheduler is gone."""
        return self._lost is not None

    def close(self) -> None:
        """Take leave of the workers, and end the thread."""
        atexit.unregister(self._owner.close)
        leave = partial(remote.farewell, self._name)
        with suppress(Exception):  # the cluster may be gone
            self._ask(self._client._run(leave, on_error="ignore")).result(FAREWELL_SECONDS)
        self._letters.put(("close",))
        self._thread.join()
        for topic in ("all", remote.topic_of(self._name)):
            with suppress(Exception):
                self._client.unsubscribe_topic(topic)
        self._connection.close()

    # What streams call.

    def slots(self) -> int:
        """Tell how many threads the workers have."""
        return self._slots

    def submit(self, deliveries: list[Delivery]) -> None:
        """Have deliveries run."""
        self._letters.put(("submit", deliveries))

    def withdraw(self, deliveries: list[Delivery]) -> None:
        """Take back what no worker has; what one has and does not begin, it gives back itself."""
        self._letters.put(("withdraw", deliveries))

    def tell(self, worker: str, message: tuple[object, ...]) -> None:
        """Have one worker take a message."""
        self._say(message, [worker])

    def tell_all(self, message: tuple[object, ...]) -> None:
        """Have every worker take a message."""
        self._say(message, None)

    def lend(self, delivery: Delivery) -> None:
        """Send the worker more: the thread of this delivery has left those that Dask counts."""
        self._letters.put(("lend", delivery))

    def resume(self, delivery: Delivery, worker: str, message: tuple[object, ...]) -> None:
        """Tell a task what it waited for; it waits there for a thread before it goes on."""
        self._letters.put(("resume", delivery))
        self._say(message, [worker])

    def _say(self, message: tuple[object, ...], workers: list[str] | None) -> None:
        told = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        self._ask(
            self._client._run(remote.receive, self._name, told, workers=workers, on_error="ignore")
        )

    def _ask(self, question: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Ask the cluster something, without waiting for the answer."""
        try:
            return asyncio.run_coroutine_threadsafe(question, self._client.loop.asyncio_loop)
        except RuntimeError as closed:
            question.close()
            failed: Future[Any] = Future()
            failed.set_exception(closed)
            return failed

    # What the loop of the client calls.

    def _hear(self, event: tuple[float, Any]) -> None:
        address, told = event[1]
        for letter in told:
            message = pickle.loads(letter)  # noqa: S301 - what a worker of ours has to say
            if message[0] in {"answered", "large"}:
                self._letters.put(message)
            else:
                self._owner.receive(address, message)

    def _hear_of_workers(self, event: tuple[float, Any]) -> None:
        told = event[1]
        if isinstance(told, dict) and told.get("action") == "remove-worker":
            self._letters.put(("removed", told["worker"]))
        elif isinstance(told, dict) and told.get("action") == "add-worker":
            self._letters.put(("joins", told["worker"]))

    # What the thread does.

    def _serve(self) -> None:
        try:
            self._serve_letters()
        except BaseException as error:  # noqa: BLE001 - raised where the outcomes are read
            self._lose(error)
            self._place()

    def _serve_letters(self) -> None:
        while True:
            letters = self._all_letters()
            for letter in letters:
                if letter[0] == "close":
                    self._forget_all()
                    return
                getattr(self, f"_on_{letter[0]}")(*letter[1:])
            looks = time.monotonic() >= self._look_at
            if looks:
                self._look_at = time.monotonic() + LOOK_AROUND
                self._look_around()
            self._place()
            if looks:
                self._demand.show(len(self._waiting))

    def _all_letters(self) -> list[tuple[Any, ...]]:
        letters: list[tuple[Any, ...]] = []
        is_idle = not (self._sent or self._waiting or self._demand.is_shown)
        patience = None if is_idle else LOOK_AROUND
        try:
            letters.append(self._letters.get(timeout=patience))
            while True:
                letters.append(self._letters.get_nowait())
        except Empty:
            return letters

    def _on_submit(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            entry = (-delivery.depth, next(self._numbers), delivery)
            heapq.heappush(self._waiting, entry)

    def _on_withdraw(self, deliveries: list[Delivery]) -> None:
        wanted = set(deliveries)
        taken = [entry[2] for entry in self._waiting if entry[2] in wanted]
        self._waiting = [entry for entry in self._waiting if entry[2] not in wanted]
        heapq.heapify(self._waiting)
        for delivery in taken:
            delivery.withdrawn()

    def _place(self) -> None:
        """Send what waits to workers that have room, the least busy first."""
        if self._lost is not None:
            for *_, delivery in self._waiting:
                delivery.failed(self._lost)
            self._waiting.clear()
        batches: dict[str, list[tuple[int, Delivery]]] = {}
        while self._waiting and (found := self._roomiest(self._waiting[0][2])) is not None:
            _, number, delivery = heapq.heappop(self._waiting)
            found.out.add(number)
            batches.setdefault(found.address, []).append((number, delivery))
        for address, batch in batches.items():
            self._send(self._workers[address], batch)

    def _roomiest(self, delivery: Delivery) -> _Worker | None:
        if not self._workers:
            return None
        found = min(self._workers.values(), key=lambda worker: worker.load / worker.threads)
        ahead = found.threads + 1 if delivery.is_brief else 0
        return found if found.load < found.threads + ahead else None

    def _send(self, worker: _Worker, batch: list[tuple[int, Delivery]]) -> None:
        numbers = [number for number, _ in batch]
        with dask.config.set(LARGE_IS_MEANT):
            futures = self._client.map(
                remote.run_shipment,
                [delivery.shipment for _, delivery in batch],
                numbers,
                session=self._session,
                key=[(self._prefix, number) for number in numbers],
                workers=[worker.address],
                priority=max(delivery.depth for _, delivery in batch),
                retries=0,
                pure=False,
            )
        for (number, delivery), future in zip(batch, futures, strict=True):
            self._sent[number] = self._by_delivery[delivery] = _Sent(delivery, worker, future)

    def _on_answered(self, number: int, answers: bytes) -> None:
        found = self._taken_off(number)
        if found is not None:
            found.delivery.answered(answers)

    def _on_large(self, number: int) -> None:
        """Fetch answers that are too large to be told."""
        found = self._sent.get(number)
        if found is not None:
            fetched = self._ask(self._client._gather([found.future], errors="skip"))
            fetched.add_done_callback(lambda done: self._letters.put(("fetched", number, done)))

    def _on_fetched(self, number: int, done: "Future[list[bytes]]") -> None:
        found = self._sent.get(number)
        if found is None or done.cancelled():
            return
        if (error := done.exception()) is not None:
            self._taken_off(number)
            found.delivery.failed(self._broken(error))
        elif answers := done.result():  # else its worker is gone, of which we hear
            self._taken_off(number)
            found.delivery.answered(answers[0])

    def _taken_off(self, number: int) -> _Sent | None:
        found = self._sent.pop(number, None)
        if found is not None:
            del self._by_delivery[found.delivery]
            found.worker.out.discard(number)
            found.worker.lent -= bool(found.waits)
            found.future.release()
        return found

    def _on_lend(self, delivery: Delivery) -> None:
        sent = self._by_delivery.get(delivery)
        if sent is not None:
            sent.waits += 1
            sent.worker.lent += sent.waits == 1

    def _on_resume(self, delivery: Delivery) -> None:
        sent = self._by_delivery.get(delivery)
        if sent is not None:
            sent.waits -= 1
            sent.worker.lent -= sent.waits == 0

    # Workers come and go.

    def _described(self, addresses: list[str]) -> dict[str, Any]:
        """Ask workers who they are.

        Raises:
            ClusterError: one of them lacks this package.
        """
        told = self._client.run(remote.describe, workers=addresses, on_error="return")
        for address, answer in told.items():
            if isinstance(answer, Exception):
                raise self._broken(answer, f"worker {address}")
        return dict(told)

    def _on_joins(self, address: str) -> None:
        asked = self._ask(self._client._run(remote.describe, workers=[address], on_error="return"))
        asked.add_done_callback(lambda done: self._letters.put(("joined", address, done)))

    def _on_joined(self, address: str, done: "Future[dict[str, Any]]") -> None:
        if done.cancelled() or done.exception() is not None:
            return  # it is gone again
        told = done.result().get(address)
        if isinstance(told, Exception):
            self._lose(self._broken(told, f"worker {address}"))
        elif told is not None:
            self._add(address, told)

    def _add(self, address: str, told: tuple[str, int, dict[str, str]]) -> None:
        name, threads, theirs = told
        self._owner.receive(address, ("hello", name, theirs))
        self._worker_by = float("inf")
        self._workers[address] = _Worker(address, name, threads)
        self._count_slots()
        for dead in list(self._dead):
            if _host(dead) == _host(address):
                self._ask_for_notes(dead, [address])

    def _count_slots(self) -> None:
        self._slots = sum(worker.threads for worker in self._workers.values())
        self._owner.slots_changed()

    def _on_removed(self, address: str) -> None:
        worker = self._workers.pop(address, None)
        if worker is None:
            return
        self._count_slots()
        self._owner.worker_gone(address)
        if not worker.out:
            return
        self._dead[address] = _Dead(worker, time.monotonic() + SAME_HOST_SECONDS)
        notes = remote.read_notes(self._name, address)
        if notes is not None:
            self._bury(address, notes)
            return
        neighbours = [other for other in self._workers if _host(other) == _host(address)]
        if neighbours:
            self._ask_for_notes(address, neighbours[:1])

    def _ask_for_notes(self, dead: str, workers: list[str]) -> None:
        session = self._name
        asked = self._ask(
            self._client._run(remote.read_notes, session, dead, workers=workers, on_error="ignore")
        )
        asked.add_done_callback(lambda done: self._letters.put(("notes", dead, done)))

    def _on_notes(self, dead: str, done: "Future[dict[str, Unfinished | None]]") -> None:
        if not done.cancelled() and done.exception() is None:
            for notes in done.result().values():
                if notes is not None:
                    self._bury(dead, notes)
                    return

    def _bury(self, address: str, notes: Unfinished | None) -> None:
        """Tell of everything that a dead worker had."""
        dead = self._dead.pop(address, None)
        if dead is None:
            return
        death = Death(f"its worker {dead.worker.name} ({address}) died", notes)
        for number in list(dead.worker.out):
            found = self._taken_off(number)
            if found is not None:
                found.delivery.died(death)

    def _look_around(self) -> None:
        """Answer for what Dask has ended without a word from the worker, and for its own end."""
        if self._client.status in {"closed", "connecting"}:
            self._lose_scheduler()
            return
        if self._worker_by <= time.monotonic():
            self._lose(
                ClusterError(
                    f"the Dask cluster at {self._connection.address} has no worker after "
                    f"{self._connection.start_timeout:g} s; start one, or allow more time with "
                    "start_timeout"
                )
            )
        for number, sent in list(self._sent.items()):
            # Of one whose worker is gone we hear, and more than this.
            if sent.worker.address in self._workers and sent.future.status == "error":
                error = sent.future.exception()
                if not isinstance(error, KilledWorker):
                    self._taken_off(number)
                    sent.delivery.failed(self._broken(error))
        for address in [a for a, dead in self._dead.items() if dead.until < time.monotonic()]:
            self._bury(address, None)

    def _lose_scheduler(self) -> None:
        self._lose(
            ClusterError(
                f"the scheduler of Dask at {self._client.scheduler.address} is gone; "
                "what had ended is in the report"
            )
        )

    def _lose(self, error: BaseException) -> None:
        self._lost = error
        for number in list(self._sent):
            found = self._taken_off(number)
            if found is not None:
                found.delivery.failed(error)

    def _broken(self, error: BaseException | None, who: str = "Dask") -> ClusterError:
        broken = ClusterError(
            f"{who} could not run what it was sent: {type(error).__name__}: {error}; "
            "stratagem-dask must be installed on every worker"
        )
        broken.__cause__ = error
        return broken

    def _forget_all(self) -> None:
        for number in list(self._sent):
            self._taken_off(number)


def _host(address: str) -> str:
    return address.rpartition("://")[2].rpartition(":")[0]
