"""The writer: as many records a commit as there are, then their owners are told."""

import logging
import queue
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs

from stratagem_journal import failpoints
from stratagem_journal.errors import JournalError
from stratagem_journal.files import Identity
from stratagem_journal.schema import PRUNE

__all__ = ["Ledger", "Records", "Writer"]

MOST_TOGETHER = 512
"""How many records go into one commit, about, at the most."""

TRY_AGAIN = 0.25
"""Seconds after which a commit is tried again for which there was no room."""

MOST_TRIES = 8
"""How often that is tried before what had ended is given back, to stand in the report alone."""

PRUNE_AFTER = 4096
"""How many records are written before those of what began and has ended since are taken out."""

_NO_ROOM = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE})
"""After these nothing was written, so that the same commit may go well later.

After a sync that failed nobody knows what was: it is never tried again.
"""
_log = logging.getLogger("stratagem.journal")


class Ledger(Protocol):
    """Be told what became of one's records, in the thread of the writer."""

    def committed(self, records: "Sequence[Records]") -> None:
        """Hear that they are on disk."""

    def failed(self, error: JournalError) -> None:
        """Hear that nothing is written any more, or not for now."""

    def unrecorded(self, records: "Sequence[Records]") -> None:
        """Hear that they will never be written."""


@attrs.define(eq=False)
class Records:
    """Be some records on their way to the disk.

    Attributes:
        statement: what is executed for each.
        rows: with what.
        ledger: whose they are; None for nobody to be told.
        subjects: what the ledger knows them by.
    """

    statement: str
    rows: Sequence[tuple[Any, ...]]
    ledger: Ledger | None = None
    subjects: Sequence[Any] = ()


class Writer:
    """Write what is put into a queue, until a word says how the journal ended.

    Args:
        path: the journal, for messages.
        epoch: the number of this time that it is driven; a greater one in the file fences it off.
        connection: the connection that writes, of the thread that calls ``serve``.
        identity: tells whether the file is still the same.
        awaited: the queue.
    """

    def __init__(
        self,
        path: Path,
        epoch: int,
        connection: sqlite3.Connection,
        identity: Identity,
        awaited: "queue.SimpleQueue[Records | str]",
    ) -> None:
        self._path = path
        self._epoch = epoch
        self._connection = connection
        self._identity = identity
        self._queue = awaited
        self._held: list[Records] = []
        self._failure: JournalError | None = None
        self._retries = True
        self._tries = 0
        self._unpruned = 0

    def serve(self) -> None:
        """Write until it ended, then close the connection."""
        ended: str | None = None
        while ended is None:
            new, ended = self._gather()
            self._held += new
            if self._held and self._may_write and self._record(self._held):
                self._held = []
            if not (self._may_write and self._tries < MOST_TRIES):
                self._give_back()
        self._give_back()
        self._end(ended)

    @property
    def _may_write(self) -> bool:
        return self._failure is None or self._retries

    def _gather(self) -> tuple[list[Records], str | None]:
        """Wait for records, and give all there are; tell how the journal ended, once it has."""
        new: list[Records] = []
        count = 0
        try:
            found = self._queue.get(timeout=TRY_AGAIN if self._held else None)
            while not isinstance(found, str):
                new.append(found)
                count += len(found.rows)
                if count >= MOST_TOGETHER:
                    return new, None
                found = self._queue.get_nowait()
        except queue.Empty:
            return new, None
        return new, found

    def _record(self, group: list[Records]) -> bool:
        try:
            self._commit(group)
        except Exception as error:  # noqa: BLE001 - whatever it is, they who wait must hear of it
            self._fail(group, error)
            return False
        for ledger, records in _by_ledger(group).items():
            self._tell(ledger.committed, records)
        _reach("released")
        return True

    def _commit(self, group: list[Records]) -> None:
        connection = self._connection
        _reach("before_commit")
        self._identity.check()
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("SELECT max(epoch) FROM epoch").fetchone()[0] != self._epoch:
            raise JournalError(self._path, "another run has taken it over")
        for statement, rows in _by_statement(group).items():
            connection.executemany(statement, rows)
            self._unpruned += len(rows)
        if self._unpruned > PRUNE_AFTER:
            connection.execute(PRUNE)
            self._unpruned = 0
        _reach("in_commit")
        connection.execute("COMMIT")
        _reach("after_commit")

    def _fail(self, group: list[Records], error: Exception) -> None:
        if self._connection.in_transaction:
            self._connection.rollback()
        self._retries = getattr(error, "sqlite_errorcode", None) in _NO_ROOM
        self._tries += 1
        if self._failure is None:
            self._failure = error if isinstance(error, JournalError) else self._unwritable(error)
        for ledger in _by_ledger(group):
            self._tell(ledger.failed, self._failure)

    def _unwritable(self, error: Exception) -> JournalError:
        failure = JournalError(
            self._path,
            f"it cannot be written ({error}), so no further task was begun; "
            "what had ended and is not in it stands in the report of the run alone",
        )
        failure.__cause__ = error
        return failure

    def _give_back(self) -> None:
        for ledger, records in _by_ledger(self._held).items():
            if self._failure is not None:  # whoever came later has not heard of it
                self._tell(ledger.failed, self._failure)
            self._tell(ledger.unrecorded, records)
        self._held = []

    @staticmethod
    def _tell(hear: Any, news: object) -> None:
        try:
            hear(news)
        except Exception:  # noqa: BLE001 - a loop that is closed, say: the others must still hear
            _log.exception("a listener of the journal failed")

    def _end(self, ended: str) -> None:
        connection = self._connection
        _reach("before_close")
        try:
            if self._may_write:
                self._identity.check()
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(PRUNE)
                connection.execute(
                    "UPDATE epoch SET closed = ?, ended = ? WHERE epoch = ?",
                    (time.time(), ended, self._epoch),
                )
                connection.execute("COMMIT")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except (sqlite3.Error, JournalError):  # what was committed is safe in the log
            pass
        finally:
            connection.close()
        _reach("closed")


def _by_ledger(group: list[Records]) -> dict[Ledger, list[Records]]:
    found: dict[Ledger, list[Records]] = {}
    for records in group:
        if records.ledger is not None:
            found.setdefault(records.ledger, []).append(records)
    return found


def _by_statement(group: list[Records]) -> dict[str, list[tuple[Any, ...]]]:
    """Give what each statement is executed with.

    No group holds two records of one task: its end is known only once its begin is on disk.
    """
    found: dict[str, list[tuple[Any, ...]]] = {}
    for records in group:
        found.setdefault(records.statement, []).extend(records.rows)
    return found


def _reach(point: str) -> None:
    if failpoints.reach is not None:
        failpoints.reach(point)
