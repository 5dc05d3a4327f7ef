"""The program that workers belong to: its ``__main__``, imported by them and not before them.

``multiprocessing`` imports it before any code of ours runs in a worker,
where an error, an endless loop or the death of the parent could not be seen.
So it is told of none, and the worker imports it when it can tell what happens.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import process, spawn
from threading import Lock
from typing import Any

from stratagem.transport import main_is_importable

__all__ = ["WORKER_NAME", "describe_main", "import_main", "untold_main"]

WORKER_NAME = "stratagem-worker"
_KEYS = ("init_main_from_name", "init_main_from_path")
_patching = Lock()


def describe_main() -> dict[str, str]:
    """Say how to import the program; nothing where there is no file, as with one on stdin.

    What such a program defines is sent by value instead.

    Raises:
        RuntimeError: this is a worker that is importing it right now, for want of a guard.
    """
    with _patching:  # else what another pool is about to start would be told of no program
        known = spawn.get_preparation_data(WORKER_NAME)
    return {key: known[key] for key in _KEYS if key in known} if main_is_importable() else {}


def import_main(described: dict[str, str]) -> None:
    """Import what ``describe_main`` described, in a worker, which may start no worker meanwhile."""
    current: Any = process.current_process()
    current._inheriting = True
    try:
        spawn.prepare(described)
    finally:
        del current._inheriting


@contextmanager
def untold_main() -> Iterator[None]:
    """Start workers without a word on ``__main__``; processes of others are told as ever."""
    with _patching:
        told = spawn.get_preparation_data

        def untold(name: str) -> dict[str, Any]:
            known = told(name)
            if name == WORKER_NAME:
                for key in _KEYS:
                    known.pop(key, None)
            return known

        spawn.get_preparation_data = untold
        try:
            yield
        finally:
            spawn.get_preparation_data = told
