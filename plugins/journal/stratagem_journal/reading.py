"""Readers: connections that can only read, what they refuse, and how rows are found."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from stratagem_journal.errors import JournalDamagedError, JournalError
from stratagem_journal.files import check_trust
from stratagem_journal.schema import (
    COLUMNS,
    DOUBT_STATUS,
    DOUBTFUL,
    RECORD,
    UNSURE,
    Record,
    Row,
    check_format,
    is_empty,
)

__all__ = ["Finder", "Reader", "connected", "explained", "guard", "location", "open_reader"]

BUSY_SECONDS = 5.0
MOST_AT_ONCE = 256
MOST_AHEAD = 4096


def location(path: Path, mode: str) -> str:
    """Name a database to SQLite."""
    return f"file:{quote(str(path))}?{mode}"


def guard(connection: sqlite3.Connection) -> None:
    """Have SQLite run nothing that stands in a file, and look closely at its pages."""
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")


def explained(path: Path, error: sqlite3.Error) -> JournalError:
    """Say what an error of SQLite means for the journal."""
    if isinstance(error, sqlite3.OperationalError):
        return JournalError(path, f"SQLite says: {error}")
    return JournalDamagedError(path, f"SQLite says: {error}")


class Reader:
    """Read a journal, one thread at a time, while it may be written.

    Args:
        path: the file.
        connection: a connection to it that cannot write.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._turn = threading.Lock()

    def records(self, batch: int, keys: Sequence[str]) -> list[Record]:
        """Give the records of those of the keys that are known.

        Raises:
            JournalError: they cannot be read.
        """
        found: list[Record] = []
        for first in range(0, len(keys), MOST_AT_ONCE):
            asked = keys[first : first + MOST_AT_ONCE]
            found += self._records(f"batch = ? AND key IN ({_places(asked)})", batch, *asked)
        return found

    def records_after(self, batch: int, number: int, most: int) -> list[Record]:
        """Give so many records of a batch, those that were begun after a certain one."""
        return self._records("id > ? AND +batch = ? ORDER BY id LIMIT ?", number, batch, most)

    def all_rows(self, *, by_input: bool = True) -> Iterator[Row]:
        """Give what is known last of each task.

        Args:
            by_input: in the order of their batches and inputs; else in that of the records, which
                is faster.
        """
        doubtful = {(row.batch, row.key): row for row in self._doubtful()}
        for rows in self._by_input() if by_input else self._by_record():
            for row in rows:
                yield _with_doubt(row, doubtful.pop((row.batch, row.key), None))
        yield from sorted(doubtful.values(), key=lambda row: (row.batch, row.position))

    def _by_input(self) -> Iterator[list[Row]]:
        order = self._fetched("SELECT id FROM task ORDER BY batch, position, id")
        for first in range(0, len(order), MOST_AT_ONCE):
            asked = [number for (number,) in order[first : first + MOST_AT_ONCE]]
            rows = {row.id: row for row in self._selected(f"id IN ({_places(asked)})", *asked)}
            yield [rows[number] for number in asked if number in rows]

    def _by_record(self) -> Iterator[list[Row]]:
        last = 0
        while rows := self._selected("id > ? ORDER BY id LIMIT ?", last, MOST_AT_ONCE):
            yield rows
            last = rows[-1].id

    def in_doubt(self, batch: int | None = None) -> list[str]:
        """Name the tasks that were handed out, and of which nobody knows whether they were done."""
        asked = sorted(UNSURE)
        query = f"SELECT position, key, batch FROM task WHERE status IN ({_places(asked)})"  # noqa: S608
        known = self._fetched(query, *asked)
        found = {(row.position, row.key, row.batch) for row in self._doubtful()}.union(known)
        return [key for _, key, its in sorted(found) if batch in {None, its}]

    def _doubtful(self) -> list[Row]:
        """Give a row for each task whose begin alone is written."""
        doubt = DOUBT_STATUS, 0.0, 0.0, "", 1, None, None, b""
        return [
            Row._make((number, *whose, *doubt, position, 0, 1, 1, 1, 0.0))
            for number, position, *whose in self._fetched(DOUBTFUL)
        ]

    def facts(self) -> dict[str, bytes]:
        """Give what stands in the table of facts."""
        return dict(self._fetched("SELECT name, value FROM meta"))

    def epochs(self) -> list[tuple[Any, ...]]:
        """Give a tuple for each time that a run was driven, the first one first."""
        return self._fetched(
            "SELECT epoch, host, pid, strategy, opened, closed, ended FROM epoch ORDER BY epoch"
        )

    def _selected(self, condition: str, *parameters: object) -> list[Row]:
        query = f"SELECT {COLUMNS} FROM task WHERE {condition}"  # noqa: S608 - all of it is ours
        return list(map(Row._make, self._fetched(query, *parameters)))

    def _records(self, condition: str, *parameters: object) -> list[Record]:
        query = f"SELECT {RECORD} FROM task WHERE {condition}"  # noqa: S608 - all of it is ours
        return list(map(Record._make, self._fetched(query, *parameters)))

    def _fetched(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self._turn:
            try:
                return self._connection.execute(query, parameters).fetchall()
            except sqlite3.Error as error:
                raise explained(self.path, error) from error

    def close(self) -> None:
        """Close the connection."""
        with self._turn:
            self._connection.close()


def _places(asked: Sequence[object]) -> str:
    return ", ".join("?" * len(asked))


def _with_doubt(row: Row, doubt: Row | None) -> Row:
    """Give what is known of a task that had ended and was begun again."""
    if doubt is None:
        return row
    return doubt._replace(
        begun=row.begun + 1,
        doubts=row.doubts + 1,
        attempts_in_all=row.attempts_in_all + 1,
        seconds_in_all=row.seconds_in_all,
    )


class Finder:
    """Find the records of tasks that come in about the order in which they were recorded.

    Then most are found in what is read ahead, which costs a third of looking them up by key.

    Args:
        reader: reads them.
        batch: whose they are.
    """

    def __init__(self, reader: Reader, batch: int) -> None:
        self._reader = reader
        self._batch = batch
        self._ahead: dict[str, Record] = {}
        self._last = 0
        self._is_over = False

    def find(self, keys: list[str]) -> dict[str, Record]:
        """Give the records of those of the keys that are known.

        Raises:
            JournalError: they cannot be read.
        """
        found = self._found_ahead(keys) if self._ahead else {}
        if len(found) < len(keys) and not self._is_over:
            rows = self._read_on(len(keys))
            if not found and [row.key for row in rows] == keys:  # as most are
                return dict(zip(keys, rows, strict=True))
            self._ahead.update((row.key, row) for row in rows)
            found |= self._found_ahead(keys)
        missing = [key for key in keys if key not in found]
        looked_up = self._reader.records(self._batch, missing) if missing else []
        if looked_up:  # go on reading from there
            self._ahead.clear()
            self._last = max(row.id for row in looked_up)
            self._is_over = False
        found.update((row.key, row) for row in looked_up)
        return found

    def _found_ahead(self, keys: list[str]) -> dict[str, Record]:
        ahead = self._ahead
        return {key: ahead.pop(key) for key in keys if key in ahead}

    def _read_on(self, most: int) -> list[Record]:
        rows = self._reader.records_after(self._batch, self._last, most)
        self._is_over = len(rows) < most
        if rows:
            self._last = rows[-1].id
        if len(self._ahead) > MOST_AHEAD:  # of inputs that are no longer there
            self._ahead.clear()
        return rows


def open_reader(path: Path) -> Reader:
    """Open a journal to read it, also while a run writes it.

    Raises:
        JournalError: it is missing, not to be trusted, of another format, or damaged.
    """
    check_trust(path)
    try:
        connection = connected(path)
    except sqlite3.Error as error:
        raise explained(path, error) from error
    try:
        _check(path, connection)
    except BaseException:
        connection.close()
        raise
    return Reader(path, connection)


def _check(path: Path, connection: sqlite3.Connection) -> None:
    try:
        guard(connection)
        is_nothing = is_empty(connection)
        if not is_nothing:
            check_format(path, connection)
    except sqlite3.Error as error:
        raise explained(path, error) from error
    if is_nothing:
        raise JournalError(path, "nothing was ever written to it")


def connected(path: Path) -> sqlite3.Connection:
    """Connect; a file in a directory that cannot be written is read as one that never changes."""
    options: dict[str, bool | float | None] = {
        "uri": True,
        "check_same_thread": False,
        "timeout": BUSY_SECONDS,
        "isolation_level": None,
    }
    connection = sqlite3.connect(location(path, "mode=ro"), **options)  # type: ignore[arg-type]
    with suppress(sqlite3.OperationalError):
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        return connection
    connection.close()
    if Path(f"{path}-wal").exists():
        raise sqlite3.OperationalError(
            "its write-ahead log cannot be read here; copy it, with the files beside it, elsewhere"
        )
    return sqlite3.connect(location(path, "immutable=1"), **options)  # type: ignore[arg-type]
