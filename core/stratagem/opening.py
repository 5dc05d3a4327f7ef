"""From whatever the caller gives to a source of tasks."""

from collections.abc import AsyncIterable, Iterable, Sequence
from contextvars import Context
from typing import Any

from stratagem.batch import MakeBatch
from stratagem.intake import Intake, IteratorIntake, MakeTask, SequenceIntake

__all__ = ["open_intake"]


def open_intake(
    items: Iterable[Any] | AsyncIterable[Any],
    make: MakeTask,
    context: Context,
    make_batch: MakeBatch | None = None,
) -> Intake:
    """Give the intake that fits ``items``.

    Args:
        items: a sequence, any other iterable, or an async iterable.
        make: called with index and item, gives the task.
        make_batch: called with many of both, gives their tasks; None where that needs ``make``.
        context: what the code that reads the items runs in, a copy of it.

    Raises:
        TypeError: ``items`` can't be iterated.
    """
    if isinstance(items, Sequence) and not isinstance(items, str | bytes | bytearray):
        return SequenceIntake(items, make, make_batch)
    if isinstance(items, AsyncIterable):
        from stratagem.async_intake import AsyncIntake  # noqa: PLC0415 - asyncio is slow to import

        return AsyncIntake(items, make, context.copy(), make_batch)
    if isinstance(items, Iterable):
        return IteratorIntake(items, make, context.copy(), make_batch)
    raise TypeError(
        f"the input must be iterable, plainly or asynchronously, not {type(items).__name__!r}"
    )
