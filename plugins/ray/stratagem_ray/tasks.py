"""The mode ``tasks``: Ray gives each delivery a process and its CPUs to itself."""

import pickle
import socket
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, cast

import psutil
import ray
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from stratagem.remote import Death, Unfinished
from stratagem_ray.backend import Berth, RayBackend, Sent, first_line
from stratagem_ray.host import book_of, task
from stratagem_ray.mailbox import mailbox

__all__ = ["TaskBackend"]

_DEATHS = (
    exceptions.WorkerCrashedError,
    exceptions.OutOfMemoryError,
    exceptions.NodeDiedError,
    exceptions.LocalRayletDiedError,
    exceptions.TaskCancelledError,
    exceptions.ObjectLostError,
)

FAREWELL_SECONDS = 3.0

END_SECONDS = 5.0
"""Seconds that a process has to be gone which Ray has killed."""


class TaskBackend(RayBackend):
    """Carry deliveries to Ray tasks, and messages through a mailbox."""

    def open(self) -> None:
        """Set up the mailbox; processes come with the tasks."""
        self._refs: dict[int, Any] = {}
        here = NodeAffinitySchedulingStrategy(self.connection.node, soft=True)
        self._mailbox = mailbox.options(scheduling_strategy=here).remote()
        self._calls: dict[int, Any] = {}
        slots = self._room()
        if not slots:
            cpus, each = self.connection.cpus(), self.connection.size.num_cpus
            raise self.broken(f"it has {cpus:g} CPUs, and a task is to have {each:g}")
        self.berths["tasks"] = Berth("tasks", slots)
        self._listen()

    def _room(self) -> int:
        size = self.connection.size
        room = int(self.connection.cpus() / size.num_cpus)
        return room if size.n_workers is None else min(room, size.n_workers)

    def _listen(self) -> None:
        self.call(self._mailbox.listen.remote(), "heard")

    # What streams want.

    def send(self, _berth: Berth, batch: list[Sent]) -> None:
        """Have a Ray task run each delivery."""
        for sent in batch:
            numbers, shipment = tuple(sent.delivery.cargos), sent.delivery.shipment
            call = self._call_at(sent.delivery.depth)
            ref = call.remote(self.session, self._mailbox, sent.number, numbers, shipment)
            self._refs[sent.number] = ref
            self.call(ref, "ended", sent.number)

    def _call_at(self, depth: int) -> Any:
        """Give what calls Ray for tasks of one depth.

        Ray takes tasks alike that want the same. Where such tasks wait it lets more of them begin
        only after a second, then two, four and so on; so children must want something else than
        their parents, be it a byte.
        """
        if depth not in self._calls:
            cpus = self.connection.size.num_cpus
            self._calls[depth] = task.options(num_cpus=cpus, memory=depth)
        return self._calls[depth]

    def say(self, worker: str | None, message: tuple[object, ...]) -> None:
        """Have one process take a message, or all; kill what is to hurry."""
        self._mailbox.send.remote(worker, pickle.dumps(message, pickle.HIGHEST_PROTOCOL))
        if message[0] == "hurry":
            for sent in list(self.sent.values()):
                if sent.delivery.stream.number == message[1]:
                    ray.cancel(self._refs[sent.number], force=True)

    def look_around(self) -> None:
        """Count the CPUs anew."""
        self.post("count", self._room())

    def on_count(self, slots: int) -> None:
        """Take in how many deliveries run at once."""
        for berth in self.berths.values():
            if berth.slots != slots:
                berth.slots = slots
                self.owner.slots_changed()

    # What they tell.

    def on_heard(self, done: "Future[list[bytes]]") -> None:
        """Take what processes tell, and have more told."""
        if (error := done.exception()) is not None:
            self.on_lose(self.broken(f"its mailbox is gone: {first_line(error)}", error))
            return
        self._listen()
        for letter in done.result():
            address, message = pickle.loads(letter)  # noqa: S301 - what a task of ours has to say
            if message[0] != "runs":
                self.owner.receive(address, message)
            elif (sent := self.sent.get(message[1])) is not None:
                sent.process = message[2:]

    def on_ended(self, number: int, done: "Future[bytes]") -> None:
        """Take the answers of a delivery, or look into why there are none."""
        self._refs.pop(number, None)
        sent = self.sent.get(number)
        if sent is None:
            return
        error = done.exception()
        if error is None:
            self.end(number, done.result())
        elif not isinstance(error, _DEATHS):
            self.taken_off(number)
            what = f"{first_line(error)}; stratagem-ray must be installed on every node"
            sent.delivery.failed(self.broken(what, error))
        elif sent.process is None and len(sent.delivery.cargos) == 1:
            self.on_notes(number, error, None)
        else:
            self.ask(partial(self._last_words, sent), "notes", number, error)

    def _last_words(self, sent: Sent) -> Unfinished | None:
        """Wait until the process is gone, if it is here; give what it has noted."""
        host, process = sent.process or ("", 0)
        if host == socket.gethostname():
            with suppress(psutil.Error):
                psutil.Process(process).wait(END_SECONDS)
        if len(sent.delivery.cargos) == 1:
            return None
        with suppress(Exception):  # the head may be gone
            nodes: list[dict[str, Any]] = cast("Any", ray).nodes()
            return self.notes(book_of(sent.number), [n["NodeID"] for n in nodes if n["Alive"]])
        return None

    def on_notes(self, number: int, error: BaseException, notes: Unfinished | None) -> None:
        """Tell of everything that a process which died had."""
        found = self.taken_off(number)
        if found is not None:
            found.delivery.died(Death(_why(found, error), notes))

    # How it ends.

    def leave(self) -> None:
        """Take leave of every process, kill what still runs, and end the mailbox."""
        with suppress(Exception):  # Ray may be gone
            for ref in self._refs.values():
                ray.cancel(ref, force=True)
            letter = pickle.dumps(("farewell",), pickle.HIGHEST_PROTOCOL)
            said = self._mailbox.send.remote(None, letter)
            ray.wait([said], timeout=FAREWELL_SECONDS)
            ray.kill(self._mailbox)


def _why(sent: Sent, error: BaseException) -> str:
    host, process = sent.process or ("", 0)
    who = f"its process {host}/pid-{process} died" if host else "its process died"
    known = type(error) in {exceptions.WorkerCrashedError, exceptions.TaskCancelledError}
    return who if known else f"{who}: {first_line(error)}"
