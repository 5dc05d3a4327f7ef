"""Places of budgets for tasks in this worker: the owner of the run keeps the count of all."""

import itertools
from collections.abc import Callable

import attrs

from stratagem.budget import OnGrant

__all__ = ["RemotePlaces"]


@attrs.define(eq=False)
class _RemotePlace:
    """Be a place that the owner has, or is asked for."""

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
    """Ask the owner for places, in a worker.

    Args:
        send: sends a message to the owner, from any thread.
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
