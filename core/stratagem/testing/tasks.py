"""Tasks of every kind, at module level so that they travel to any worker by name."""

import asyncio
import contextvars
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial

from stratagem.nesting import nested, nested_async
from stratagem.scope import current_task

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


class TwoArgumentsError(Exception):
    """Be an exception that its own pickle cannot rebuild."""

    def __init__(self, first: str, second: int) -> None:
        super().__init__(f"{first} and {second}")
        self.second = second


class SilentError(Exception):
    """Be an exception whose ``str`` raises."""

    def __str__(self) -> str:
        """Raise."""
        raise RuntimeError("no words")


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


def raise_two_arguments() -> None:
    """Raise what no pickle can rebuild."""
    raise TwoArgumentsError("one", 2)


def raise_silent() -> None:
    """Raise what cannot say what it is."""
    raise SilentError


def raise_chained() -> None:
    """Raise with a cause and notes."""
    try:
        raise KeyError("inner")  # noqa: TRY301 - the point is the chain
    except KeyError as inner:
        outer = ValueError("outer")
        outer.add_note("a note")
        raise outer from inner


def raise_group() -> None:
    """Raise a group."""
    raise ExceptionGroup("several", [ValueError("one"), TypeError("two")])


def exit_interpreter() -> None:
    """Try to end the interpreter."""
    sys.exit(3)


def raise_keyboard_interrupt() -> None:
    """Raise what Ctrl-C raises."""
    raise KeyboardInterrupt


def raise_stop_iteration() -> None:
    """Raise what ends a for loop."""
    raise StopIteration


def raise_generator_exit() -> None:
    """Raise what ends a generator."""
    raise GeneratorExit


def raise_cancelled() -> None:
    """Raise what cancels a coroutine."""
    raise asyncio.CancelledError


async def raise_cancelled_async() -> None:
    """Raise what cancels a coroutine, from one."""
    await asyncio.sleep(0)
    raise asyncio.CancelledError


async def exit_interpreter_async() -> None:
    """Try to end the interpreter from a coroutine."""
    await asyncio.sleep(0)
    sys.exit(3)


def return_lock() -> object:
    """Give what cannot be pickled."""
    return threading.Lock()


def kill_own_process() -> None:
    """Have the interpreter killed."""
    os.kill(os.getpid(), signal.SIGKILL)


def leave_with_success() -> None:
    """End the interpreter at once, with the code of success."""
    os._exit(0)


def sleep(seconds: float) -> float:
    """Sleep and give the seconds."""
    time.sleep(seconds)
    return seconds


async def sleep_async(seconds: float) -> float:
    """Sleep on the loop and give the seconds."""
    await asyncio.sleep(seconds)
    return seconds


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
