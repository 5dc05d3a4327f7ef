"""Executors of the standard library at hand: given by the caller, or made when one is needed."""

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Protocol

__all__ = ["Given", "Host", "Made", "is_of", "runs_here", "workers_of"]

_log = logging.getLogger("stratagem")


class Host(Protocol):
    """Have the executor."""

    def executor(self) -> Executor:
        """Give the executor, made now if need be."""

    def replace(self, broken: Executor) -> bool:
        """Have another executor in the place of one that broke; False where there is none."""

    def shut_down(self, grace: float) -> None:
        """Shut the executor down if it was made here; wait for that so long at the most."""


class Given:
    """Have an executor that the caller made, and keeps."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def executor(self) -> Executor:
        """Give it."""
        return self._executor

    def replace(self, _broken: Executor) -> bool:
        """Say that there is no other."""
        return False

    def shut_down(self, _grace: float) -> None:
        """Leave it open."""


class Made:
    """Have an executor that is made when it is asked for, and made again when it broke."""

    def __init__(self, make: Callable[[], Executor]) -> None:
        if not callable(make):
            raise TypeError(f"executor must be an Executor or what makes one, not {make!r}")
        self._make = make
        self._lock = threading.RLock()
        self._executor: Executor | None = None

    def executor(self) -> Executor:
        """Give it, made now if need be."""
        with self._lock:
            if self._executor is None:
                made = self._make()
                if not isinstance(made, Executor):
                    raise TypeError(
                        f"a concurrent.futures.Executor was to be made, not {type(made).__name__}"
                    )
                self._executor = made
            return self._executor

    def replace(self, broken: Executor) -> bool:
        """Make another when one is asked for again."""
        with self._lock:
            if self._executor is broken:
                self._executor = None
        _shut_down(broken, 0.0)
        return True

    def shut_down(self, grace: float) -> None:
        """Shut it down; make another when one is asked for again."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            _shut_down(executor, grace)


def _shut_down(executor: Executor, grace: float) -> None:
    """Shut an executor down; one whose tasks never end is left to itself after the grace."""
    if grace > 0:
        shutting = partial(_shut_down_now, executor, wait=True)
        thread = threading.Thread(target=shutting, name="stratagem-shutdown", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter ends
            _shut_down_now(executor, wait=False)
        else:
            thread.join(grace)
    else:
        _shut_down_now(executor, wait=False)


def _shut_down_now(executor: Executor, *, wait: bool) -> None:
    try:
        executor.shutdown(wait=wait)
    except Exception:  # noqa: BLE001 - it is that of a stranger, and may be broken
        _log.debug("executor_shutdown_failed", exc_info=True)


def workers_of(executor: Executor) -> int:
    """Give how many workers an executor says it has; as many as there are CPUs if it does not."""
    for name in ("_max_workers", "max_workers"):
        told = getattr(executor, name, None)
        if isinstance(told, int) and told > 0:
            return told
    return os.cpu_count() or 1


def is_of(executor: Executor, module: str) -> bool:
    """Tell, without importing that, whether an executor is one of ``concurrent.futures.module``."""
    wanted = f"concurrent.futures.{module}"
    return any(cls.__module__ == wanted for cls in type(executor).__mro__)


def runs_here(executor: Executor) -> bool:
    """Tell whether an executor runs calls in this process: it says so, or is one of threads."""
    told = getattr(executor, "shares_memory", None)
    if isinstance(told, bool):
        return told
    return is_of(executor, "thread") and not is_of(executor, "interpreter")
