"""Places of budgets for tasks in workers: the parent process keeps the count of all."""

from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING

from stratagem.budget import request

if TYPE_CHECKING:
    from stratagem_builtin.handle import Handle

__all__ = ["Places"]


class Places:
    """Ask for places in the name of workers, in the parent process.

    Args:
        wake: called, from any thread, when there is something to hand out.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._granted: deque[tuple[Handle, int]] = deque()
        self._wake = wake

    def ask(
        self, worker: "Handle", number: int, name: str, limit: int, context: Context | None
    ) -> None:
        """Ask for a place of a budget.

        Args:
            worker: the worker whose task asks.
            number: what that calls the place.
            name: the name of the budget.
            limit: its limit.
            context: what the task runs in, for who keeps the budget; None where that is unknown.
        """

        def note() -> None:
            self._granted.append((worker, number))
            self._wake()

        context = Context() if context is None else context.copy()
        worker.places[number] = context.run(request, name, limit, note)

    def hand_out(self) -> None:
        """Tell workers of places that they have, or can't have."""
        while self._granted:
            worker, number = self._granted.popleft()
            if number in worker.places:
                worker.send("placed", number, worker.places[number].problem)
