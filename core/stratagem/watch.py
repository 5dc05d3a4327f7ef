"""The watch over runs: it says when nothing has succeeded for a while, and what is waited for."""

import logging
import threading
import time
import weakref
from collections.abc import Mapping
from typing import Protocol

import attrs

from stratagem.budget import waiting
from stratagem.snapshot import RunningTask, Snapshot

__all__ = ["STALL_AFTER", "Watch", "Watched", "what_is_waited_for"]

STALL_AFTER = 60.0
LOOKS = 4
"""How often a run is looked at before its silence is a stall."""
LINGER = 1.0
"""Seconds that the thread stays when there is no run, since the next one is often near."""
CLOSE_SECONDS = 1.0
SHOWN = 3
_log = logging.getLogger("stratagem.watch")


class Watched(Protocol):
    """Be a run that is watched: every question is answered at any time, from any thread."""

    @property
    def succeeded(self) -> int:
        """Count the tasks that succeeded in it, and in what they started."""

    @property
    def failed(self) -> int:
        """Count the tasks that failed."""

    @property
    def last_error(self) -> str:
        """Name the type of the error of the last failure."""

    def snapshot(self) -> Snapshot:
        """Say what it is doing."""


@attrs.define(eq=False)
class _Entry:
    run: weakref.ref[Watched]
    stall_after: float
    since: float
    look_at: float
    warn_after: float
    succeeded: int = 0
    failed: int = 0


class Watch:
    """Look at runs from time to time, in one thread for all, which ends when there are none.

    A task costs it nothing: what it compares are the counts of two moments.
    """

    def __init__(self) -> None:
        # A garbage collection that drops a stream may come back here in the same thread.
        self._changed = threading.Condition(threading.RLock())
        self._entries: dict[int, _Entry] = {}
        self._thread: threading.Thread | None = None
        self._closing = False
        self._sleeps_until = 0.0

    def add(self, run: Watched, stall_after: float) -> None:
        """Watch a run that begins; who drops it need not say so."""
        now = time.monotonic()
        look_at = now + stall_after / LOOKS
        entry = _Entry(weakref.ref(run), stall_after, now, look_at, stall_after)
        with self._changed:
            self._entries[id(run)] = entry
            self._closing = False
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._tick, name="stratagem-watch", daemon=True
                )
                self._thread.start()
            elif look_at < self._sleeps_until:
                self._changed.notify()

    def remove(self, run: Watched) -> None:
        """Watch a run no more."""
        with self._changed:
            self._entries.pop(id(run), None)
            if not self._entries:  # the thread may go soon
                self._changed.notify()

    def close(self) -> None:
        """Watch nothing any more, and wait for the thread to go."""
        with self._changed:
            self._entries.clear()
            self._closing = True
            thread = self._thread
            self._changed.notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSE_SECONDS)

    def _tick(self) -> None:
        while (due := self._next_due()) is not None:
            for entry in due:
                run = entry.run()
                if run is not None:
                    _look(entry, run)
                del run  # else a stream that is dropped could not go until the next look

    def _next_due(self) -> list[_Entry] | None:
        """Wait for the next look; None when there was no run for a while."""
        with self._changed:
            idle = not self._entries
            now = time.monotonic()
            next_look = min(
                (entry.look_at for entry in self._entries.values()), default=now + LINGER
            )
            self._sleeps_until = next_look
            if next_look > now and not self._closing:
                self._changed.wait(min(next_look - now, threading.TIMEOUT_MAX))
            if (idle or self._closing) and not self._entries:
                self._thread = None
                return None
            now = time.monotonic()
            for key in [key for key, entry in self._entries.items() if entry.run() is None]:
                del self._entries[key]
            return [entry for entry in self._entries.values() if entry.look_at <= now]


def _look(entry: _Entry, run: Watched) -> None:
    """Warn of a run that has had no success for too long, then only when twice that is over."""
    now = time.monotonic()
    entry.look_at = now + entry.stall_after / LOOKS
    succeeded = run.succeeded
    if succeeded != entry.succeeded:
        entry.succeeded, entry.failed = succeeded, run.failed
        entry.since, entry.warn_after = now, entry.stall_after
    elif now - entry.since >= entry.warn_after:
        entry.warn_after *= 2
        snapshot = run.snapshot()
        _log.warning(
            "run_stalled: nothing has succeeded for %.3g s in run %s (%s); %s",
            now - entry.since,
            snapshot.run_id,
            snapshot.name or "callables",
            what_is_waited_for(snapshot, run.failed - entry.failed, run.last_error, waiting()),
        )


def what_is_waited_for(
    snapshot: Snapshot, failed: int, last_error: str, budgets: Mapping[str, int]
) -> str:
    """Say in a few words why a run may have come to a stand.

    Args:
        snapshot: what it is doing.
        failed: how many tasks have failed since the last success.
        last_error: the type of the last error.
        budgets: how many calls of this program wait for a place of which budget.
    """
    nested = [task for child in snapshot.descendants for task in child.running]
    said = [
        _failures(failed, last_error),
        f"it is being stopped ({snapshot.stopped})" * bool(snapshot.stopped),
        "nobody reads its outcomes" * snapshot.awaits_reader,
        "its input gives nothing" * snapshot.awaits_input,
        *(f"{count} calls wait for the budget {name!r}" for name, count in budgets.items()),
        _those_that_run("running", snapshot.running),
        f"{snapshot.taken} taken and not known to run" * bool(snapshot.taken),
        _those_that_run("nested", tuple(sorted(nested, key=_seconds, reverse=True))),
        f"{snapshot.waiting} waiting" * bool(snapshot.waiting),
        f"{snapshot.done} done",
    ]
    return "; ".join(filter(None, said))


def _failures(count: int, last_error: str) -> str:
    if not count:
        return ""
    many = f"the last {count} tasks" if count > 1 else "the last task"
    return f"{many} failed, most recently with {last_error}"


def _those_that_run(what: str, running: tuple[RunningTask, ...]) -> str:
    if not running:
        return ""
    oldest = ", ".join(f"{task.key!r} for {task.seconds:.3g} s" for task in running[:SHOWN])
    more = ", ..." * (len(running) > SHOWN)
    return f"{len(running)} {what}: {oldest}{more}"


def _seconds(task: RunningTask) -> float:
    return task.seconds
