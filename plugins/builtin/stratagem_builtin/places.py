"""Places of budgets for tasks in workers: the parent process keeps the count of all."""

import itertools
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from stratagem.budget import OnGrant, request

if TYPE_CHECKING:
    from stratagem_builtin.handle import Handle

__all__ = ["Places", "RemotePlaces"]


class Places:
    """Ask for places in the name of workers, in the parent process.

    Args:
        wake: called, from any thread, when there is something to hand out.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._granted: deque[tuple[Handle, int]] = deque()
        self._wake = wake

    def ask(self, worker: "Handle", number: int, name: str, limit: int) -> None:
        """Ask for a place of a budget, which ``worker`` calls ``number``."""

        def note() -> None:
            self._granted.append((worker, number))
            self._wake()

        worker.places[number] = request(name, limit, note)

    def hand_out(self) -> None:
        """Tell workers of places that they have, or can't have."""
        while self._granted:
            worker, number = self._granted.popleft()
            if number in worker.places:
                worker.send("placed", number, worker.places[number].problem)


@attrs.define(eq=False)
class _RemotePlace:
    """Be a place that the parent process has, or is asked for."""

    number: int
    on_grant: OnGrant
    give: Callable[[int], None]
    problem: str = ""
    granted: bool = False
    over: bool = False

    def give_back(self) -> None:
        if not self.over:
            self.over, self.granted = True, False
            self.give(self.number)


class RemotePlaces:
    """Ask the parent process for places, in a worker.

    Args:
        send: sends a message to the parent, from any thread.
    """

    def __init__(self, send: Callable[..., None]) -> None:
        self._send = send
        self._numbers = itertools.count(1)
        self._asked: dict[int, _RemotePlace] = {}

    def request(self, name: str, limit: int, on_grant: OnGrant) -> _RemotePlace:
        """Ask for a place of a budget."""
        number = next(self._numbers)
        place = _RemotePlace(number, on_grant, self._give)
        self._asked[number] = place
        self._send("take", number, name, limit)
        return place

    def receive(self, number: int, problem: str) -> None:
        """Hand a place, or why there is none, to the one who asked for it."""
        place = self._asked.pop(number, None)
        if place is not None:
            place.problem, place.granted = problem, not problem
            place.on_grant()

    def _give(self, number: int) -> None:
        self._asked.pop(number, None)
        self._send("give", number)
