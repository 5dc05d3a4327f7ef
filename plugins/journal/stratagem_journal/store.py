"""The writer: one thread, one connection, as many records a commit as there are."""

import itertools
import queue
import sqlite3
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from secrets import token_bytes
from typing import Any, Protocol

import attrs

from stratagem_journal import failpoints
from stratagem_journal.errors import JournalDamagedError, JournalError, JournalResumeError
from stratagem_journal.files import Identity, Lease, check_trust, create, this_process
from stratagem_journal.policy import Durability
from stratagem_journal.reading import (
    BUSY_SECONDS,
    Reader,
    explained,
    guard,
    location,
    open_reader,
)
from stratagem_journal.schema import END, check_format, is_empty, write_schema

__all__ = ["Entry", "Ledger", "Store"]

MOST_TOGETHER = 512
"""How many records go into one commit at the most."""

TRY_AGAIN = 0.25
"""Seconds after which a commit is tried again for which there was no room."""

MOST_TRIES = 8
"""How often that is tried before what had ended is given back, to stand in the report alone."""

WAL_BYTES = 64 * 2**20
SALT_BYTES = 16

_SYNCHRONOUS = {"full": "FULL", "process": "NORMAL"}
_NO_ROOM = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE})
"""After these nothing was written, so that the same commit may go well later.

After a sync that failed nobody knows what was: it is never tried again.
"""


class Ledger(Protocol):
    """Be told what became of one's entries, in the thread of the writer."""

    def committed(self, entries: "Sequence[Entry]") -> None:
        """Hear that they are on disk."""

    def failed(self, error: JournalError) -> None:
        """Hear that nothing is written any more, or not for now."""

    def unrecorded(self, entries: "Sequence[Entry]") -> None:
        """Hear that they will never be written."""


@attrs.define(eq=False)
class Entry:
    """Be one record on its way to the disk.

    Attributes:
        ledger: whose it is.
        statement: what is executed.
        columns: with what.
        subject: what the ledger knows it by: a task that begins, an outcome.
    """

    ledger: Ledger
    statement: str
    columns: tuple[Any, ...]
    subject: Any = None


class Store:
    """Hold a journal open for writing, from its lease to its last checkpoint.

    Args:
        path: the file; it is made where there is none.
        durability: whether a commit outlives a crash of the machine, or one of the process.
        strategy: what runs the tasks, for people.
        must_be_fresh: refuse a file that holds tasks.

    Attributes:
        path: the file.
        epoch: the number of this time that the run is driven.
        salt: goes into the fingerprints of inputs.
        has_rows: whether it held tasks when it was opened.
        sequence: numbers what ends, over all epochs.
        reader: reads what is committed.

    Raises:
        JournalError: it cannot be opened, or not be trusted.
    """

    def __init__(
        self, path: Path, durability: Durability, strategy: str, *, must_be_fresh: bool = False
    ) -> None:
        self.path = path
        self.epoch = 0
        self.salt = b""
        self.has_rows = False
        self.sequence = itertools.count(1)
        self._durability = durability
        self._strategy = strategy
        self._must_be_fresh = must_be_fresh
        self._queue: queue.SimpleQueue[Entry | str] = queue.SimpleQueue()
        self._held: list[Entry] = []
        self._failure: JournalError | None = None
        self._retries = True
        self._tries = 0
        self._lease = self._prepared()
        opened: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(opened,), name="stratagem-journal", daemon=True
        )
        try:
            self._thread.start()
            opened.result()
            self.reader: Reader = open_reader(path)
        except BaseException:
            self._queue.put("failed")
            if self._thread.ident is not None:
                self._thread.join()
            self._lease.release()
            raise

    def _prepared(self) -> Lease:
        """Take the lease, and see to it that there is a file to be trusted."""
        is_new = not (self.path.exists() or self.path.is_symlink())
        if is_new:
            create(self.path)
        check_trust(self.path)
        return Lease(self.path)

    def put(self, entry: Entry) -> None:
        """Have a record written, from any thread; never blocks."""
        self._queue.put(entry)

    def close(self, ended: str) -> None:
        """Write what is left, say how it ended, and let the file go.

        Args:
            ended: how, in a word.
        """
        self.reader.close()
        self._queue.put(ended)
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._lease.release()

    # What the thread of the writer does.

    def _run(self, opened: "Future[None]") -> None:
        try:
            connection = sqlite3.connect(
                location(self.path, "mode=rw"),
                uri=True,
                timeout=BUSY_SECONDS,
                isolation_level=None,
            )
        except sqlite3.Error as error:
            opened.set_exception(explained(self.path, error))
            return
        try:
            try:
                self._open(connection)
            except sqlite3.Error as error:
                raise explained(self.path, error) from error
        except BaseException as error:  # noqa: BLE001 - raised where the store is made
            connection.close()
            opened.set_exception(error)
            return
        opened.set_result(None)
        self._serve(connection)

    def _open(self, connection: sqlite3.Connection) -> None:
        guard(connection)
        is_new = is_empty(connection)
        if not is_new:
            check_format(self.path, connection)
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise JournalError(
                self.path, "its file system has no write-ahead logs; put it on a local disk"
            )
        connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[self._durability]}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        if sys.platform == "darwin":
            connection.execute("PRAGMA fullfsync = ON")
        if not is_new:
            self._check_pages(connection)
        self._begin_epoch(connection, is_new=is_new)
        self._identity = Identity(self.path)
        _reach("opened")

    def _check_pages(self, connection: sqlite3.Connection) -> None:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise JournalDamagedError(self.path, str(found).replace("\n", " "))

    def _begin_epoch(self, connection: sqlite3.Connection, *, is_new: bool) -> None:
        me = this_process()
        connection.execute("BEGIN IMMEDIATE")
        if is_new:
            write_schema(connection, {"salt": token_bytes(SALT_BYTES)})
            _reach("schema_written")
        self.has_rows = connection.execute("SELECT EXISTS (SELECT 1 FROM task)").fetchone()[0] == 1
        if self.has_rows and self._must_be_fresh:
            raise JournalResumeError(
                self.path,
                "it holds a run already; go on with that (`resume=True`, or --resume on the "
                "command line), or name another file",
            )
        last = connection.execute("SELECT max(epoch) FROM epoch").fetchone()[0] or 0
        self.epoch = last + 1
        connection.execute(
            "INSERT INTO epoch VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
            (self.epoch, *me.values(), self._strategy, time.time()),
        )
        self.salt = connection.execute("SELECT value FROM meta WHERE name = 'salt'").fetchone()[0]
        last = connection.execute("SELECT max(sequence) FROM task").fetchone()[0] or 0
        self.sequence = itertools.count(last + 1)
        connection.execute("COMMIT")

    def _serve(self, connection: sqlite3.Connection) -> None:
        ended: str | None = None
        while ended is None:
            new, ended = self._gather()
            self._held += new
            while self._held:
                group = self._held[:MOST_TOGETHER]
                if not self._record(connection, group):
                    break
                del self._held[: len(group)]
            if self._failure is not None and not (self._retries and self._tries < MOST_TRIES):
                self._give_back()
        self._give_back()
        self._end(connection, ended)

    def _gather(self) -> tuple[list[Entry], str | None]:
        """Wait for a record, and give all there are; tell how the journal ended, once it has."""
        new: list[Entry] = []
        try:
            found = self._queue.get(timeout=TRY_AGAIN if self._held else None)
            while not isinstance(found, str):
                new.append(found)
                if len(new) >= MOST_TOGETHER:
                    return new, None
                found = self._queue.get_nowait()
        except queue.Empty:
            return new, None
        return new, found

    def _record(self, connection: sqlite3.Connection, group: list[Entry]) -> bool:
        if self._failure is not None and not self._retries:
            return False
        try:
            self._commit(connection, group)
        except (sqlite3.Error, JournalError) as error:
            self._fail(connection, group, error)
            return False
        for ledger, entries in _by_ledger(group).items():
            ledger.committed(entries)
        _reach("released")
        return True

    def _commit(self, connection: sqlite3.Connection, group: list[Entry]) -> None:
        _reach("before_commit")
        self._identity.check()
        connection.execute("BEGIN IMMEDIATE")
        mine = connection.execute("SELECT max(epoch) FROM epoch").fetchone()[0]
        if mine != self.epoch:
            raise JournalError(self.path, "another run has taken it over")
        for statement, many in _by_statement(group).items():
            changed = connection.executemany(statement, many).rowcount
            if statement is END and changed != len(many):
                raise JournalDamagedError(self.path, "tasks that were begun are gone from it")
        _reach("in_commit")
        connection.execute("COMMIT")
        _reach("after_commit")

    def _fail(self, connection: sqlite3.Connection, group: list[Entry], error: Exception) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        code = getattr(error, "sqlite_errorcode", None)
        self._retries = code in _NO_ROOM
        self._tries += 1
        if self._failure is None:
            self._failure = error if isinstance(error, JournalError) else self._unwritable(error)
        for ledger in _by_ledger(group):
            ledger.failed(self._failure)

    def _unwritable(self, error: Exception) -> JournalError:
        failure = JournalError(
            self.path,
            f"it cannot be written ({error}), so no further task was begun; "
            "what had ended and is not in it stands in the report of the run alone",
        )
        failure.__cause__ = error
        return failure

    def _give_back(self) -> None:
        for ledger, entries in _by_ledger(self._held).items():
            ledger.unrecorded(entries)
        self._held = []

    def _end(self, connection: sqlite3.Connection, ended: str) -> None:
        _reach("before_close")
        try:
            if self._failure is None or self._retries:
                self._identity.check()
                connection.execute(
                    "UPDATE epoch SET closed = ?, ended = ? WHERE epoch = ?",
                    (time.time(), ended, self.epoch),
                )
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except (sqlite3.Error, JournalError):  # what was committed is safe in the log
            pass
        finally:
            connection.close()
        _reach("closed")


def _by_ledger(group: list[Entry]) -> dict[Ledger, list[Entry]]:
    found: dict[Ledger, list[Entry]] = {}
    for entry in group:
        found.setdefault(entry.ledger, []).append(entry)
    return found


def _by_statement(group: list[Entry]) -> dict[str, list[tuple[Any, ...]]]:
    """Give what each statement is executed with.

    No group holds two records of one task: its end is known only once its begin is on disk.
    """
    found: dict[str, list[tuple[Any, ...]]] = {}
    for entry in group:
        found.setdefault(entry.statement, []).append(entry.columns)
    return found


def _reach(point: str) -> None:
    if failpoints.reach is not None:
        failpoints.reach(point)
