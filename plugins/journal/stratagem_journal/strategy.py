"""The strategy itself: what it is given, and which stream goes through the journal."""

import os
import threading
from collections.abc import Iterator
from contextvars import Context, ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from stratagem import (
    CurrentTask,
    ExecutionStrategy,
    Outcome,
    Redactor,
    StreamingStrategy,
    TaskSource,
    current_task,
    outcomes_of,
)
from stratagem_journal.errors import JournalInUseError, JournalResumeError
from stratagem_journal.policy import Durability, InDoubt, OnMismatch, Policy

if TYPE_CHECKING:  # SQLite and what values are made of are imported when a journal is
    from stratagem_journal.session import Session
    from stratagem_journal.store import Store

__all__ = ["JournalStrategy"]

MOST_BYTES = 64 * 2**20
_tasks_of: "ContextVar[tuple[JournalStrategy, ...]]" = ContextVar("stratagem_journal", default=())
"""The strategies that keep the task in a journal that runs here."""

UNTIL_IT_ENDS = 1e6
"""Seconds, more than any grace: the inner strategy ends within its own."""


class JournalStrategy(StreamingStrategy):
    """Run tasks by another strategy, each kept in a file from before it begins.

    That a task begins is on disk before it does, and its outcome before anybody hears of it.
    Where the file holds outcomes already, those come back, marked ``recalled``, and their tasks
    do not run. The file is open, and locked, while a stream is.

    Streams that are open at once are told apart by the order in which they were opened.
    What a task starts on the strategy that runs it is part of the task, and is not written down.

    Args:
        inner: the strategy that runs the tasks.
        path: the file; it is made, for its owner alone, where there is none.
        resume: True to insist that the file is there, False that it holds no run; None, the
            default, to do what is open.
        durability: ``"full"`` outlives a crash of the machine, ``"process"`` one of the process.
        in_doubt: whether tasks that may have begun when a run was cut off run again
            (``"rerun"``), or come back as lost (``"fail"``).
        retry_failed: whether tasks that failed run again.
        on_mismatch: what to do where a key is known with another input: ``"error"`` ends the run,
            ``"rerun"`` runs the task again, ``"reuse"`` gives what was recorded.
        codec: how values are kept that are not plain data: a class of attrs, dataclasses or
            pydantic, several, or two functions, one to take a value apart and one to make it;
            or where one of them is found, as text: ``module:name``.
        max_value_bytes: how large one value may be when written.

    Raises:
        ValueError, TypeError: an option is not what it must be.
    """

    def __init__(
        self,
        inner: ExecutionStrategy,
        path: str | os.PathLike[str],
        *,
        resume: bool | None = None,
        durability: Durability = "full",
        in_doubt: InDoubt = "rerun",
        retry_failed: bool = True,
        on_mismatch: OnMismatch = "error",
        codec: object = None,
        max_value_bytes: int = MOST_BYTES,
    ) -> None:
        from stratagem_journal.codecs import read_codec  # noqa: PLC0415 - as said above
        from stratagem_journal.failures import Failures  # noqa: PLC0415
        from stratagem_journal.scribe import Scribe  # noqa: PLC0415
        from stratagem_journal.session import Terms  # noqa: PLC0415

        self.inner = inner
        self.path = _as_path(path)
        _one_of("resume", resume, (True, False, None))
        self._resume = resume
        _one_of("durability", durability, ("full", "process"))
        self._durability: Durability = durability
        _one_of("in_doubt", in_doubt, ("rerun", "fail"))
        _one_of("retry_failed", retry_failed, (True, False))
        _one_of("on_mismatch", on_mismatch, ("error", "rerun", "reuse"))
        most_bytes = _require_count("max_value_bytes", max_value_bytes)
        self._terms = Terms(
            Policy(in_doubt, retry_failed, on_mismatch),
            Scribe(read_codec(codec), Failures(Redactor()), most_bytes),
        )
        # A garbage collection that drops a stream may come back here in the same thread.
        self._lock = threading.RLock()
        self._store: Store | None = None
        self._open_for: dict[int, CurrentTask | None] = {}

    def stream(self, tasks: TaskSource) -> Iterator[Outcome]:
        """Open the file, and yield outcomes that are on disk.

        Raises:
            JournalError: the file cannot be opened, or not be trusted.
        """
        if self in _tasks_of.get():  # one of ours started it
            return self.inner.stream(tasks)
        from stratagem_journal.session import Session  # noqa: PLC0415

        store, batch = self._opened()
        try:
            session = Session(self.inner, tasks, store, batch, self._terms, self._mark)
            return _Stream(self, session, batch)
        except BaseException:
            self.leave(batch, "failed")
            raise

    def _mark(self, context: Context) -> None:
        """Have it known, in the context of our tasks, that what they start is part of them."""
        ours = context.get(_tasks_of, ())
        if self not in ours:
            context.run(_tasks_of.set, (*ours, self))

    def _opened(self) -> "tuple[Store, int]":
        opener = current_task()
        with self._lock:
            if any(other != opener for other in self._open_for.values()):
                raise JournalInUseError(
                    self.path,
                    "streams of several tasks cannot share it: they are known by the order in "
                    "which they were opened, which differs from run to run; "
                    "give each a journal of its own",
                )
            if self._store is None:
                self._store = self._open()
            taken = self._open_for
            batch = next(number for number in range(len(taken) + 1) if number not in taken)
            self._open_for[batch] = opener
            return self._store, batch

    def _open(self) -> "Store":
        from stratagem_journal.store import Store  # noqa: PLC0415

        if self._resume and not self.path.exists():
            raise JournalResumeError(self.path, "there is no such file, so nothing to resume")
        is_fresh = self._resume is False
        name = type(self.inner).__name__
        return Store(self.path, self._durability, name, must_be_fresh=is_fresh)

    @staticmethod
    def describe(path: str | os.PathLike[str]) -> Iterator[str]:
        """Say in some lines what a journal holds; for ``stratagem runs``."""
        from stratagem_journal.looking import describe  # noqa: PLC0415

        return describe(_as_path(path))

    @staticmethod
    def outcomes(path: str | os.PathLike[str]) -> Iterator[Outcome]:
        """Give what became of the tasks in a journal; for ``stratagem export``."""
        from stratagem_journal.looking import outcomes  # noqa: PLC0415

        return outcomes(_as_path(path))

    @staticmethod
    def salvage(path: str | os.PathLike[str], target: str | os.PathLike[str]) -> Iterator[str]:
        """Copy what is whole of a damaged journal; for ``stratagem salvage``."""
        from stratagem_journal.salvage import salvage  # noqa: PLC0415

        return salvage(_as_path(path), _as_path(target))

    def leave(self, batch: int, ended: str) -> None:
        """Let a stream go; the last one closes the file."""
        with self._lock:
            self._open_for.pop(batch, None)
            store = self._store
            if store is None:
                return
            if self._open_for:
                store.has_rows = True  # which the next stream of this number finds
                return
            self._store = None
            store.close(ended)


class _Stream(Iterator[Outcome]):
    """Be the outcomes of one stream, and let go of the file at its end, also when never read."""

    def __init__(self, strategy: JournalStrategy, session: "Session", batch: int) -> None:
        self._strategy: JournalStrategy | None = strategy
        self._session = session
        self._batch = batch
        self._outcomes = outcomes_of(session, UNTIL_IT_ENDS)

    def __next__(self) -> Outcome:
        try:
            return next(self._outcomes)
        except StopIteration:
            self._leave("finished" if self._session.whole else "stopped")
            raise
        except KeyboardInterrupt:
            self._leave("interrupted")
            raise
        except BaseException:
            self._leave("failed")
            raise

    def close(self) -> None:
        """End the stream."""
        try:
            self._outcomes.close()
        finally:
            self._leave("stopped")

    def __del__(self) -> None:
        if getattr(self, "_strategy", None) is not None:
            self.close()

    def _leave(self, ended: str) -> None:
        strategy, self._strategy = self._strategy, None
        if strategy is not None:
            strategy.leave(self._batch, ended)


def _as_path(given: object) -> Path:
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f"path must be the name of a file, not {given!r}")
    if not os.fspath(given):
        raise ValueError("path must be the name of a file, and is empty")
    return Path(os.fspath(given)).absolute()


def _one_of(option: str, given: object, choices: tuple[object, ...]) -> None:
    if not any(type(given) is type(choice) and given == choice for choice in choices):
        raise ValueError(f"{option} must be one of {choices}, not {given!r}")


def _require_count(option: str, given: object) -> int:
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"{option} must be a whole number, not {given!r}")
    if given < 1:
        raise ValueError(f"{option} must be at least 1, not {given!r}")
    return given
