"""A journal that is open for writing, from its lease to its last checkpoint."""

import itertools
import queue
import sqlite3
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from secrets import token_bytes

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
from stratagem_journal.schema import check_format, is_empty, settle, write_schema
from stratagem_journal.writing import Records, Writer

__all__ = ["Store"]

WAL_BYTES = 64 * 2**20
WAL_PAGES = 4000
"""After so many pages the log is copied into the file: 16 MB, four times what SQLite does."""

SALT_BYTES = 16

_SYNCHRONOUS = {"full": "FULL", "process": "NORMAL"}


class Store:
    """Hold a journal open for writing; one thread of its own has the one connection that writes.

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
        numbers: number what begins, over all epochs.
        reader: reads what is committed.
        thread: writes.

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
        self.numbers = itertools.count(1)
        self._durability = durability
        self._strategy = strategy
        self._must_be_fresh = must_be_fresh
        self._queue: queue.SimpleQueue[Records | str] = queue.SimpleQueue()
        self._lease = self._prepared()
        opened: Future[None] = Future()
        self.thread = threading.Thread(
            target=self._run, args=(opened,), name="stratagem-journal", daemon=True
        )
        try:
            self.thread.start()
        except BaseException:
            self._lease.release()
            raise
        try:
            opened.result()
            self.reader: Reader = open_reader(path)
        except BaseException:
            self._queue.put("failed")
            self.thread.join()
            raise

    def _prepared(self) -> Lease:
        """Take the lease, and see to it that there is a file to be trusted."""
        is_new = not (self.path.exists() or self.path.is_symlink())
        if is_new:
            create(self.path)
        check_trust(self.path)
        return Lease(self.path)

    def put(self, records: Records) -> None:
        """Have records written, from any thread; never blocks."""
        self._queue.put(records)

    def close(self, ended: str) -> None:
        """Write what is left, say how it ended, and let the file go.

        Args:
            ended: how, in a word.
        """
        self.reader.close()
        self._queue.put(ended)
        if self.thread is not threading.current_thread():
            self.thread.join()

    # What the thread of the writer does.

    def _run(self, opened: "Future[None]") -> None:
        try:
            try:
                connection = self._connected()
            except BaseException as error:  # noqa: BLE001 - raised where the store is made
                opened.set_exception(error)
                return
            opened.set_result(None)
            writer = Writer(self.path, self.epoch, connection, self._identity, self._queue)
            writer.serve()
        finally:
            self._lease.release()

    def _connected(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                location(self.path, "mode=rw"),
                uri=True,
                timeout=BUSY_SECONDS,
                isolation_level=None,
            )
        except sqlite3.Error as error:
            raise explained(self.path, error) from error
        try:
            self._open(connection)
        except BaseException as error:
            connection.close()
            if isinstance(error, sqlite3.Error):
                raise explained(self.path, error) from error
            raise
        return connection

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
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        if sys.platform == "darwin":
            connection.execute("PRAGMA fullfsync = ON")
        if not is_new:
            self._check_pages(connection)
        self._begin_epoch(connection, is_new=is_new)
        self._identity = Identity(self.path)
        if failpoints.reach is not None:
            failpoints.reach("opened")

    def _check_pages(self, connection: sqlite3.Connection) -> None:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise JournalDamagedError(self.path, str(found).replace("\n", " "))

    def _begin_epoch(self, connection: sqlite3.Connection, *, is_new: bool) -> None:
        connection.execute("BEGIN IMMEDIATE")
        if is_new:
            write_schema(connection, {"salt": token_bytes(SALT_BYTES)})
            if failpoints.reach is not None:
                failpoints.reach("schema_written")
        self.epoch = _greatest(connection, "epoch.epoch") + 1
        last = max(_greatest(connection, "task.id"), _greatest(connection, "opened.id"))
        self.numbers = itertools.count(last + 1)
        settle(connection, self.epoch)
        self.has_rows = bool(connection.execute("SELECT EXISTS (SELECT 1 FROM task)").fetchone()[0])
        if self.has_rows and self._must_be_fresh:
            raise JournalResumeError(
                self.path,
                "it holds a run already; go on with that (`resume=True`, or --resume on the "
                "command line), or name another file",
            )
        connection.execute(
            "INSERT INTO epoch VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
            (self.epoch, *this_process().values(), self._strategy, time.time()),
        )
        self.salt = connection.execute("SELECT value FROM meta WHERE name = 'salt'").fetchone()[0]
        connection.execute("COMMIT")


def _greatest(connection: sqlite3.Connection, place: str) -> int:
    table, _, column = place.partition(".")
    found = connection.execute(f"SELECT max({column}) FROM {table}").fetchone()[0]  # noqa: S608
    return int(found or 0)
