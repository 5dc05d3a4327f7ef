"""Tasks that differ only in what their function is called with, as columns."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, overload

from stratagem.task import Outcome, Status, Task

__all__ = ["Batch", "MakeBatch", "as_range"]

_new = object.__new__
_OK = Status.OK


class Batch(Sequence[Task]):
    """Be the tasks that call one function with an item each; a task is made when asked for.

    Who has thousands of them to send needs no object for each: the columns tell the same.
    The key of each is its index as text.

    Args:
        template: what the tasks share; index, key and call of it say nothing.
        function: what they call.
        indices: the index of each.
        items: what the function is called with.
    """

    __slots__ = ("function", "indices", "items", "keys", "template")

    def __init__(
        self,
        template: Task,
        function: Callable[[Any], Any],
        indices: Sequence[int],
        items: Sequence[Any],
    ) -> None:
        self.template = template
        self.function = function
        self.indices = indices
        self.keys = list(map(str, indices))
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
        self,
        first: int,
        values: Iterable[Any],
        started_at: Sequence[float],
        seconds: Sequence[float],
        worker: str,
    ) -> list[Outcome]:
        """Give the outcomes of tasks that did: of that at a place, and of those that follow it.

        Args:
            first: the place.
            values: what each returned.
            started_at: when each began, in seconds since the epoch.
            seconds: how long each ran.
            worker: who ran them.
        """
        outcomes: list[Outcome] = []
        shared, of_them = self.template, slice(first, first + len(seconds))
        name, attempt, parent = shared.name, shared.attempt, shared.parent
        columns = (self.indices[of_them], self.keys[of_them], values, started_at, seconds)
        for index, key, value, began, ran in zip(*columns, strict=True):
            outcome = _new(Outcome)  # field by field, as `stratagem.invoke.succeeded` does
            outcome.index = index
            outcome.key = key
            outcome.name = name
            outcome.status = _OK
            outcome.value = value
            outcome.error = None
            outcome.started_at = began
            outcome.seconds = ran
            outcome.worker = worker
            outcome.attempts = attempt
            outcome.parent = parent
            outcome.recalled = False
            outcomes.append(outcome)
        return outcomes


MakeBatch = Callable[[Sequence[int], Sequence[Any]], Batch]
"""Makes the tasks of items, given their indices and them."""


def as_range(numbers: Sequence[int]) -> Sequence[int]:
    """Give ascending numbers, at least one, as a range if none is left out: it costs nothing."""
    first, last = numbers[0], numbers[-1]
    return range(first, last + 1) if last - first + 1 == len(numbers) else numbers
