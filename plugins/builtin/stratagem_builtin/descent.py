"""The processes that descend from a worker, found and killed, and no others.

On Linux a worker adopts the orphans among them,
so that also what daemonised or made a session of its own stays below it.
"""

import ctypes
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["adopt_orphans", "has_children", "kill_descendants", "kill_group", "kill_tree"]

PR_SET_CHILD_SUBREAPER = 36
MOST_SECONDS = 2.0


def adopt_orphans() -> None:
    """Become the parent of whatever orphans descend from this process, where the system can."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_tree(pid: int) -> None:
    """Kill a worker, its process group, and all that descends from it.

    It is stopped first, so that it starts nothing while its children are looked for.
    """
    if hasattr(signal, "SIGSTOP"):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGSTOP)
    kill_descendants(pid)
    kill_group(pid)


def kill_descendants(pid: int) -> None:
    """Kill all that descends from a process, and look again until nothing new is there."""
    if not has_children(pid):
        return
    import psutil  # noqa: PLC0415 - only a task that left something costs its import

    killed: set[psutil.Process] = set()
    give_up_at = time.monotonic() + MOST_SECONDS
    with suppress(psutil.NoSuchProcess):
        worker = psutil.Process(pid)
        while time.monotonic() < give_up_at:
            found = set(worker.children(recursive=True)) - killed
            for process in found:
                with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    process.kill()
            if not found:
                return
            killed |= found


def has_children(pid: int) -> bool:
    """Tell whether a process has children; True where that cannot be told at a look."""
    try:
        return any(
            (thread / "children").read_bytes() for thread in Path(f"/proc/{pid}/task").iterdir()
        )
    except FileNotFoundError:
        return not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists()


def kill_group(pid: int) -> None:
    """Kill the process group that a worker leads, if it got so far as to lead one."""
    if not hasattr(os, "killpg"):
        return
    try:
        if os.getpgid(0) != pid:
            os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
