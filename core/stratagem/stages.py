"""The streams that an input reads, which end with the run whose input it is."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol, runtime_checkable
from weakref import WeakKeyDictionary, WeakMethod

from stratagem.scope import current_hold

__all__ = ["Stage", "Stages"]


@runtime_checkable
class Stage(Protocol):
    """Be a stream that is read as the input of another run."""

    def stop(self) -> None:
        """Ask it to stop, from any thread, without waiting for it."""

    def close(self) -> None:
        """Stop it, and wait until everything announced is settled."""

    def is_read_in(self, ident: int) -> bool:
        """Tell whether that thread is busy with it, or with a stage before it."""


class Stages:
    """Hold the streams that one input reads, as long as somebody else does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stops: WeakKeyDictionary[Stage, WeakMethod[Callable[[], None]]] = WeakKeyDictionary()
        self._stopped = False

    def add(self, stage: Stage, stop: Callable[[], None]) -> None:
        """Have a stream stopped by ``stop``, a bound method, with the others."""
        with self._lock:
            self._stops[stage] = WeakMethod(stop)
            stopped = self._stopped
        if stopped:
            stop()

    def forget(self) -> None:
        """Leave the streams alone: their outcomes were read as far as they were wanted."""
        with self._lock:
            self._stops.clear()

    def _now(self) -> list[Stage]:
        with self._lock:
            return list(self._stops)

    def stop(self) -> None:
        """Ask them all to stop, and those that are still to come, without waiting for them."""
        with self._lock:
            self._stopped = True
            stops = list(self._stops.values())
        for reference in stops:
            if (stop := reference()) is not None:
                stop()

    def hurry(self) -> None:
        """Ask those that can to wait for nothing that still runs."""
        for stage in self._now():
            hurry = getattr(stage, "hurry", None)
            if hurry is not None:
                hurry()

    def settle(self) -> None:
        """Wait until they are settled; the task that waits, if any, lends its slot meanwhile."""
        stages = self._now()
        if not stages:
            return
        hold = current_hold()
        lent = hold is not None and hold.lend()
        try:
            with ExitStack() as closing:  # all of them, whatever one raises
                for stage in stages:
                    closing.callback(stage.close)
        finally:
            if lent and hold is not None:
                hold.reclaim()

    def is_read_in(self, ident: int) -> bool:
        """Tell whether that thread is busy with one of them."""
        return any(stage.is_read_in(ident) for stage in self._now())
