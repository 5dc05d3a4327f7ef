"""Waiting for what another thread or process brings about, and notes that tasks leave for tests."""

import os
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["PATIENCE", "POLL", "is_running", "lines", "note", "until"]

PATIENCE = 20.0
"""Seconds after which a test takes what it waits for as never to come."""

POLL = 0.02


def until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait until ``condition`` gives something true.

    Raises:
        TimeoutError: it did not within ``patience`` seconds.
    """
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"what was waited for did not come within {patience:g} s")
        time.sleep(POLL)


def note(path: Path, text: object) -> None:
    """Add a line to a file that several processes write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


def lines(path: Path) -> list[str]:
    """Give the lines noted so far."""
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def is_running(pid: int) -> bool:
    """Tell whether a process lives; one that has ended and was not waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return not Path("/proc/self/stat").exists()
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}
