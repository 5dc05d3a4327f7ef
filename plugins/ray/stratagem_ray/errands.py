"""Shipments that run in a process of Ray, as many at once as it has slots, and those that wait."""

import threading
from collections import deque
from collections.abc import Callable
from functools import partial

import attrs

from stratagem.threads import Crew

__all__ = ["Desk", "Errand"]


@attrs.define(eq=False)
class Errand:
    """Be a shipment that runs here.

    Attributes:
        number: what the owner calls it.
        numbers: the numbers of the tasks in it.
        shipment: what has travelled.
        waits: how many parts of it wait for children.
        over: whether it has ended.
    """

    number: int
    numbers: tuple[int, ...]
    shipment: bytes
    waits: int = 0
    over: bool = False


class Desk:
    """Run errands in threads, so many at once that do not wait for children.

    Who goes on after a wait needs no leave: the owner of the run counts too, and lets it go on
    when there is a slot.

    Args:
        slots: how many.
        crew: the threads.
        work: runs an errand; must not raise.
        on_lent: called when an errand begins to wait, from the thread that asks for children.
        on_reclaimed: called when it goes on, from the one that brings the answer.
    """

    def __init__(
        self,
        slots: int,
        crew: Crew,
        work: Callable[[Errand], None],
        on_lent: Callable[[Errand], None] | None = None,
        on_reclaimed: Callable[[Errand], None] | None = None,
    ) -> None:
        self._slots = slots
        self._crew = crew
        self._work = work
        self._on_lent = on_lent
        self._on_reclaimed = on_reclaimed
        self._lock = threading.Lock()
        self._queue: deque[Errand] = deque()
        self._running = 0
        self._by_task: dict[int, Errand] = {}
        self._by_nest: dict[int, Errand] = {}

    def put(self, errand: Errand) -> None:
        """Run an errand as soon as there is a slot."""
        with self._lock:
            self._by_task.update(dict.fromkeys(errand.numbers, errand))
            self._queue.append(errand)
        self._start()

    def _start(self) -> None:
        while True:
            with self._lock:
                if not self._queue or self._running >= self._slots:
                    return
                self._running += 1
                errand = self._queue.popleft()
            self._crew.run(partial(self._run, errand))

    def _run(self, errand: Errand) -> None:
        self._work(errand)
        with self._lock:
            errand.over = True
            self._running -= not errand.waits
            for number in errand.numbers:
                self._by_task.pop(number, None)
        self._start()

    def asks(self, nest: int, task: int) -> None:
        """Note that a task is about to ask for children: it lends its slot."""
        with self._lock:
            errand = self._by_task.get(task)
            if errand is None:
                return
            self._by_nest[nest] = errand
            errand.waits += 1
            lent = errand.waits == 1
            self._running -= lent
        if lent:
            if self._on_lent is not None:
                self._on_lent(errand)
            self._start()

    def is_answered(self, nest: int) -> None:
        """Note that a task is about to be told what became of its children."""
        with self._lock:
            errand = self._by_nest.pop(nest, None)
            if errand is None:
                return
            errand.waits -= 1
            if errand.over or errand.waits:
                return
            self._running += 1
        if self._on_reclaimed is not None:
            self._on_reclaimed(errand)
