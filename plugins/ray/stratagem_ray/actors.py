"""The mode ``actors``: a few processes of Ray, each of which runs many tasks at once."""

import itertools
import pickle
import time
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

import attrs
import ray

from stratagem.remote import Death, Unfinished
from stratagem_ray.backend import Berth, RayBackend, Sent, first_line
from stratagem_ray.station import station

__all__ = ["ActorBackend"]

MOST_STILLBORN = 3
"""How many actors in a row may die before they say a word."""

FAREWELL_SECONDS = 3.0


@attrs.define(eq=False)
class _Actor(Berth):
    """Hold what is known of an actor.

    Attributes:
        handle: what Ray reaches it by.
        node: the node that it is on; ``""`` until it has said so.
        name: what outcomes call it; ``""`` until it is ready.
        places: how many deliveries it runs at once when it is ready.
        said: what it is to be sent.
    """

    handle: Any = None
    node: str = ""
    name: str = ""
    places: int = 0
    said: list[tuple[Any, ...]] = attrs.field(factory=list)


class ActorBackend(RayBackend):
    """Carry deliveries to actors, and replace those that die."""

    berths: dict[str, _Actor]  # type: ignore[assignment]

    def open(self) -> None:
        """Start actors, and wait for the first one."""
        self._names = itertools.count(1)
        self._stillborn = 0
        size = self.connection.size
        count = size.n_workers or self._room()
        for _ in range(count):
            self._start()
        deadline = time.monotonic() + size.start_timeout
        while not self.slots():
            left = deadline - time.monotonic()
            letter = self.next_letter(max(0.0, left))
            if letter is None:
                raise self.broken(
                    f"no actor is ready after {size.start_timeout:g} s; is there room for "
                    f"{count}, with {size.num_cpus:g} CPUs each? start_timeout allows more time"
                )
            getattr(self, f"on_{letter[0]}")(*letter[1:])
            if self.lost is not None:
                raise self.lost

    def _room(self) -> int:
        size, cpus = self.connection.size, self.connection.cpus()
        return max(1, int(cpus / size.num_cpus if size.num_cpus else cpus))

    def _start(self) -> None:
        address = f"actor {next(self._names)}"
        slots = self.connection.size.max_concurrency
        handle = station.options(
            num_cpus=self.connection.size.num_cpus, scheduling_strategy="SPREAD"
        ).remote(self.session, address, slots)
        self.berths[address] = actor = _Actor(address, 0, handle=handle, places=slots)
        self._listen(actor)

    def _listen(self, actor: _Actor) -> None:
        self.call(actor.handle.tell.remote(), "heard", actor.address)

    # What streams want.

    def send(self, berth: Berth, batch: list[Sent]) -> None:
        """Have an actor run deliveries."""
        said = self.berths[berth.address].said
        for sent in batch:
            said.append(("run", sent.number, tuple(sent.delivery.cargos), sent.delivery.shipment))

    def say(self, worker: str | None, message: tuple[object, ...]) -> None:
        """Have one actor take a message, or all."""
        for actor in list(self.berths.values()):
            if worker in {None, actor.address}:
                actor.said.append(("say", message))

    def flush(self) -> None:
        """Send each actor what it is to be sent, in one call."""
        for actor in self.berths.values():
            if actor.said:
                actor.handle.hear.remote(pickle.dumps(actor.said, pickle.HIGHEST_PROTOCOL))
                actor.said.clear()

    # What actors tell.

    def on_heard(self, address: str, done: "Future[list[bytes]]") -> None:
        """Take what an actor tells, and have it tell more."""
        actor = self.berths.get(address)
        if actor is None:
            return
        if (error := done.exception()) is not None:
            self._on_death(actor, error)
            return
        self._listen(actor)
        for told in done.result():
            what, *parts = pickle.loads(told)  # noqa: S301 - what an actor of ours has to say
            if what == "answered":
                self.end(*parts)
            elif what == "joined":
                (actor.node,) = parts
            elif what == "broken":
                self.on_lose(
                    self.broken(f"{actor.name} could not read what it was sent: {parts[0]}")
                )
            elif what == "says":
                self._on_says(actor, parts[0])

    def _on_says(self, actor: _Actor, message: tuple[Any, ...]) -> None:
        if message[0] == "hello":
            actor.name = message[1]
            actor.slots, actor.ahead = actor.places, actor.places + 1
            self._stillborn = 0
            self.owner.slots_changed()
        self.owner.receive(actor.address, message)

    def _on_death(self, actor: _Actor, error: BaseException) -> None:
        """Put another actor in the place of a dead one, whose notes are read."""
        del self.berths[actor.address]
        self.owner.worker_gone(actor.address)
        with suppress(Exception):  # what cannot be reached may still run
            ray.kill(actor.handle)
        self._stillborn += not actor.name
        if self._stillborn >= MOST_STILLBORN:
            what = f"its actors die before they run anything: {first_line(error)}; "
            self.on_lose(self.broken(f"{what}stratagem-ray must be installed on every node", error))
            return
        self._start()
        why = f"its worker {actor.name} died"
        self.ask(partial(self.notes, actor.address, [actor.node]), "notes", actor, why)

    def on_notes(self, actor: _Actor, why: str, notes: Unfinished | None) -> None:
        """Tell of everything that a dead actor had."""
        for number in list(actor.out):
            found = self.taken_off(number)
            if found is not None:
                found.delivery.died(Death(why, notes))

    # How it ends.

    def leave(self) -> None:
        """Take leave of every actor, and end them."""
        actors, self.berths = self.berths, {}
        farewell = pickle.dumps([("farewell",)], pickle.HIGHEST_PROTOCOL)
        with suppress(Exception):  # Ray may be gone
            said = [actor.handle.hear.remote(farewell) for actor in actors.values() if actor.name]
            if said:
                ray.wait(said, num_returns=len(said), timeout=FAREWELL_SECONDS)
        for actor in actors.values():
            with suppress(Exception):
                ray.kill(actor.handle)
