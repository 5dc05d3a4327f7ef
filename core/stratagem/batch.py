"""Tasks that differ only in what their function is called with, as columns."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, overload

from stratagem.task import Outcome, Status, Task

__all__ = ["Batch", "MakeBatch"]

_new = object.__new__
_OK = Status.OK


class Batch(Sequence[Task]):
    """Be the tasks that call one function with an item each; a task is made when asked for.

    Who has thousands of them to send needs no object for each: the columns tell the same.

    Args:
        template: what the tasks share; index, key and call of it say nothing.
        function: what they call.
        indices: the index of each.
        keys: the key of each.
        items: what the function is called with.
    """

    __slots__ = ("function", "indices", "items", "keys", "template")

    def __init__(
        self,
        template: Task,
        function: Callable[[Any], Any],
        indices: Sequence[int],
        keys: Sequence[str],
        items: Sequence[Any],
    ) -> None:
        self.template = template
        self.function = function
        self.indices = indices
        self.keys = keys
        self.items = items

    def __len__(self) -> int:
        """Count the tasks."""
        return len(self.indices)

    @overload
    def __getitem__(self, at: int) -> Task: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Task]: ...
    def __getitem__(self, at: int | slice) -> Task | Sequence[Task]:
        """Make the task at a place, or those of a slice."""
        if isinstance(at, slice):
            return [self[place] for place in range(*at.indices(len(self)))]
        shared = self.template
        return Task(
            self.indices[at],
            self.keys[at],
            shared.name,
            partial(self.function, self.items[at]),
            shared.timeout,
            shared.attempt,
            shared.tags,
            shared.context,
            shared.parent,
        )

    def succeeded(
        self, at: int, value: Any, started_at: float, seconds: float, worker: str
    ) -> Outcome:
        """Give the outcome of the task at a place, which did."""
        shared = self.template
        outcome = _new(Outcome)  # field by field, as `stratagem.invoke.succeeded` does
        outcome.index = self.indices[at]
        outcome.key = self.keys[at]
        outcome.name = shared.name
        outcome.status = _OK
        outcome.value = value
        outcome.error = None
        outcome.started_at = started_at
        outcome.seconds = seconds
        outcome.worker = worker
        outcome.attempts = shared.attempt
        outcome.parent = shared.parent
        outcome.recalled = False
        return outcome


MakeBatch = Callable[[Sequence[int], Sequence[Any]], Batch]
"""Makes the tasks of items, given their indices and them."""
