"""Tasks that crash their interpreter, and tasks that do not return; they travel by name.

One that does not return waits for a file, the gate, so that a test can let go of it at last.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from stratagem.testing.waiting import POLL, note

__all__ = [
    "abort",
    "block_loop",
    "kill_own_process",
    "leave_with_success",
    "leave_with_three",
    "segfault",
    "start_child_and_wait",
    "swallow_cancel",
    "wait",
    "wait_async",
]

LONGEST = 120.0
"""Seconds after which a task ends whose test forgot it."""


def kill_own_process() -> None:
    """Have the interpreter killed."""
    os.kill(os.getpid(), signal.SIGKILL)


def leave_with_success() -> None:
    """End the interpreter at once, with the code of success."""
    os._exit(0)


def leave_with_three() -> None:
    """End the interpreter at once, with the code 3."""
    os._exit(3)


def segfault() -> None:
    """Read where no memory is."""
    ctypes.string_at(0)


def abort() -> None:
    """End the interpreter as a failed assertion in C does."""
    os.abort()


def wait(begun: Path, gate: Path) -> str:
    """Note that it has begun, and block until the gate is there."""
    note(begun, os.getpid())
    _block(gate)
    return "let go"


async def wait_async(begun: Path, gate: Path) -> str:
    """Note that it has begun, and await the gate; note also that it is over, however it ends."""
    note(begun, os.getpid())
    try:
        for seconds in _waits(gate):
            await asyncio.sleep(seconds)
    finally:
        note(begun, "over")
    return "let go"


async def swallow_cancel(begun: Path, gate: Path) -> str:
    """Await the gate, and go on waiting when cancelled."""
    note(begun, os.getpid())
    for seconds in _waits(gate):
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            note(begun, "cancelled")
    return "let go"


async def block_loop(begun: Path, gate: Path) -> str:
    """Block the loop that it runs on until the gate is there."""
    return wait(begun, gate)


def start_child_and_wait(begun: Path, gate: Path, *, own_session: bool) -> str:
    """Start a child, note both processes, and block until the gate is there."""
    command = [sys.executable, "-S", "-E", "-c", f"import time; time.sleep({LONGEST})"]
    child = subprocess.Popen(command, start_new_session=own_session)  # noqa: S603 - our own words
    note(begun, f"{os.getpid()} {child.pid}")
    _block(gate)
    child.kill()
    child.wait()
    return "let go"


def _block(gate: Path) -> None:
    for seconds in _waits(gate):
        time.sleep(seconds)


def _waits(gate: Path) -> Iterator[float]:
    """Give the seconds of one more wait, again and again, until the gate is there."""
    deadline = time.monotonic() + LONGEST
    while not gate.exists() and time.monotonic() < deadline:
        yield POLL
