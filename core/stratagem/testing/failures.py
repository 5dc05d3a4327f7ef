"""Tasks that raise, in every way there is; at module level so that they travel by name."""

import asyncio
import gc
import sys

__all__ = [
    "SilentError",
    "TwoArgumentsError",
    "exit_interpreter",
    "exit_interpreter_async",
    "raise_cancelled",
    "raise_cancelled_async",
    "raise_chained",
    "raise_generator_exit",
    "raise_generator_exit_async",
    "raise_group",
    "raise_keyboard_interrupt",
    "raise_keyboard_interrupt_async",
    "raise_silent",
    "raise_stop_iteration",
    "raise_stop_iteration_async",
    "raise_two_arguments",
    "recurse_for_ever",
]


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


async def exit_interpreter_async() -> None:
    """Try to end the interpreter from a coroutine."""
    await asyncio.sleep(0)
    sys.exit(3)


def raise_keyboard_interrupt() -> None:
    """Raise what Ctrl-C raises."""
    raise KeyboardInterrupt


async def raise_keyboard_interrupt_async() -> None:
    """Raise what Ctrl-C raises, from a coroutine."""
    await asyncio.sleep(0)
    raise KeyboardInterrupt


def raise_stop_iteration() -> None:
    """Raise what ends a for loop."""
    raise StopIteration


async def raise_stop_iteration_async() -> None:
    """Raise what ends a for loop from a coroutine, which Python makes a RuntimeError."""
    await asyncio.sleep(0)
    raise StopIteration


def raise_generator_exit() -> None:
    """Raise what ends a generator."""
    raise GeneratorExit


async def raise_generator_exit_async() -> None:
    """Raise what ends a generator, from a coroutine."""
    await asyncio.sleep(0)
    raise GeneratorExit


def raise_cancelled() -> None:
    """Raise what cancels a coroutine."""
    raise asyncio.CancelledError


async def raise_cancelled_async() -> None:
    """Raise what cancels a coroutine, from one."""
    await asyncio.sleep(0)
    raise asyncio.CancelledError


def recurse_for_ever() -> None:
    """Call itself until Python has enough of it."""
    gc.collect()  # no garbage of others is to be finalized where there is no stack left for that
    _recurse()


def _recurse() -> None:
    _recurse()
