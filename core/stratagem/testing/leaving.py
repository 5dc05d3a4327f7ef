"""What this process holds, and what of it was left behind: threads, processes, descriptors."""

import multiprocessing
import os
import stat
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs

from stratagem.testing.waiting import PATIENCE, POLL

__all__ = ["Stock", "leftovers", "take_stock"]

_OPEN = next((path for path in map(Path, ("/proc/self/fd", "/dev/fd")) if path.is_dir()), None)
_KEPT_BY_PYTHON = ("multiprocessing.forkserver", "multiprocessing.resource_tracker")


@attrs.frozen
class Stock:
    """Hold what a process had at a moment.

    Attributes:
        threads: its threads.
        processes: the ids of its children, and theirs, with what they are.
        descriptors: what its descriptors lead to, and how many lead there.
        foreign: the ids of children that are looked at no further, nor are theirs.
    """

    threads: frozenset[threading.Thread]
    processes: dict[int, str]
    descriptors: Counter[str]
    foreign: frozenset[int] = frozenset()


def take_stock(foreign: Collection[int] = ()) -> Stock:
    """Write down what this process holds.

    Children of children are seen where psutil is installed.
    What Python starts once and keeps until it ends is no part of it:
    the fork server and the resource tracker.

    Args:
        foreign: the ids of children that only run beside what is tested, such as a cluster.
    """
    apart = frozenset(foreign)
    threads, descriptors = frozenset(threading.enumerate()), Counter(_descriptors())
    return Stock(threads, _processes(apart), descriptors, apart)


def leftovers(since: Stock, *, patience: float = PATIENCE) -> list[str]:
    """Name what this process holds and did not ``since``; it has ``patience`` seconds to go.

    Use what you test once before you take stock:
    a first use opens what Python keeps, such as the pipe to the fork server.
    """
    deadline = time.monotonic() + patience
    while (left := _beyond(since)) and time.monotonic() < deadline:
        time.sleep(POLL)
    return left


def _beyond(since: Stock) -> list[str]:
    now = take_stock(since.foreign)
    started = now.processes.items() - since.processes.items()
    opened = now.descriptors - since.descriptors
    return [
        *sorted(f"thread {thread.name}" for thread in now.threads - since.threads),
        *sorted(f"process {pid}: {command}" for pid, command in started),
        *sorted(f"descriptor {target}" for target in opened.elements()),
    ]


def _processes(foreign: frozenset[int]) -> dict[int, str]:
    try:
        psutil: Any = import_module("psutil")
    except ImportError:
        return {
            child.pid: child.name
            for child in multiprocessing.active_children()
            if child.pid is not None and child.pid not in foreign
        }
    me = psutil.Process()
    found: dict[int, str] = {}
    apart = set(foreign)
    for child in me.children(recursive=True):  # parents before their children
        try:
            command = " ".join(child.cmdline()) or child.name()
            parent = child.ppid()
        except psutil.NoSuchProcess:
            continue
        if child.pid in apart or parent in apart:
            apart.add(child.pid)
            continue
        ours = parent == me.pid
        if not (ours and any(module in command for module in _KEPT_BY_PYTHON)):
            found[child.pid] = command
    return found


def _descriptors() -> Iterator[str]:
    """Say of each descriptor what it leads to, by which one that was opened anew is told apart."""
    for entry in () if _OPEN is None else _OPEN.iterdir():
        try:
            status = os.fstat(int(entry.name))
        except OSError:  # the one that listed them
            continue
        yield f"{stat.filemode(status.st_mode)} {status.st_dev}:{status.st_ino}{_target(entry)}"


def _target(entry: Path) -> str:
    try:
        return f" {entry.readlink()}"
    except OSError:  # not every system says
        return ""
