"""Tasks that do what they should, at module level so that they travel to any worker by name."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from stratagem.nesting import nested, nested_async
from stratagem.scope import current_task
from stratagem.testing.waiting import note

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


def square(number: int) -> int:
    """Give the square."""
    return number * number


async def square_async(number: int) -> int:
    """Give the square, after a turn of the loop."""
    await asyncio.sleep(0)
    return number * number


def square_either_way(number: int) -> object:
    """Give the square, and for odd numbers an awaitable of it."""
    return square_async(number) if number % 2 else square(number)


def fail_at_three(number: int) -> int:
    """Give the number, but raise at 3."""
    if number == 3:  # noqa: PLR2004 - as its name says
        raise KeyError("three")
    return number


async def fail_at_three_async(number: int) -> int:
    """Give the number, but raise at 3, after a turn of the loop."""
    await asyncio.sleep(0)
    return fail_at_three(number)


def return_lock() -> object:
    """Give what cannot be pickled."""
    return threading.Lock()


def square_and_note(path: Path, number: int) -> int:
    """Note the number and give its square."""
    note(path, number)
    return square(number)


def set_variable(value: str) -> tuple[str, str]:
    """Give what the context variable was and now is."""
    before = VARIABLE.get()
    VARIABLE.set(value)
    return before, VARIABLE.get()


async def set_variable_async(value: str) -> tuple[str, str]:
    """Give what the context variable was and, after a turn of the loop, is."""
    before = VARIABLE.get()
    VARIABLE.set(value)
    await asyncio.sleep(0)
    return before, VARIABLE.get()


def own_key(_item: object) -> tuple[str, str]:
    """Give run id and key as a task sees them."""
    task = current_task()
    return ("", "") if task is None else (task.run_id, task.key)


async def own_key_async(_item: object) -> tuple[str, str]:
    """Give run id and key as a coroutine sees them after a turn of the loop."""
    await asyncio.sleep(0)
    return own_key(_item)


def count_leaves(depth: int) -> int:
    """Give the number of leaves of a binary tree of nested runs."""
    if depth == 0:
        return 1
    return sum(nested([partial(count_leaves, depth - 1), partial(count_leaves, depth - 1)]))


async def count_leaves_async(depth: int) -> int:
    """Give the number of leaves of a binary tree of nested runs of coroutines."""
    if depth == 0:
        return 1
    children: list[Callable[[], object]] = [partial(count_leaves_async, depth - 1)] * 2
    return sum(await nested_async(children))


def child_fails() -> str:
    """Give the name of what a child raised."""
    try:
        nested([partial(square, 2), partial(fail_at_three, 3)])
    except KeyError as error:
        return type(error).__name__
    return "nothing"
