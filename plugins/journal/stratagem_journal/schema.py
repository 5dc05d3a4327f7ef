"""The tables of a journal, what tells one from another database, and the words that fill it.

``opened`` holds what has begun and is not known to have ended, in the order in which tasks are
handed out; ``task`` the last that is known of each task, in the order in which that was begun.
"""

import sqlite3
import struct
from pathlib import Path
from typing import NamedTuple

from stratagem_journal.errors import JournalDamagedError, JournalRefusedError
from stratagem_journal.seals import seal

__all__ = [
    "ALLOW",
    "BEGIN",
    "COLUMNS",
    "DOUBT",
    "DOUBTFUL",
    "DOUBT_STATUS",
    "END",
    "FORMAT",
    "LEAVE",
    "PRUNE",
    "RECORD",
    "TABLES",
    "UNSURE",
    "Record",
    "Row",
    "check",
    "check_format",
    "is_empty",
    "settle",
    "write_schema",
]

APPLICATION_ID = 0x5354524A  # "STRJ"
FORMAT = 1
DOUBT_STATUS = "doubt"
"""The status of a task that had begun when its run was cut off: was it done?"""

UNSURE = frozenset({DOUBT_STATUS, "cancelled"})
"""How a task ended that had been handed out, and may have been done or not."""

_META = "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID"
_EPOCH = (
    "CREATE TABLE epoch (epoch INTEGER PRIMARY KEY, host TEXT, boot_id TEXT, pid INTEGER, "
    "started TEXT, strategy TEXT, opened REAL, closed REAL, ended TEXT)"
)
_FLIGHT = "CREATE TABLE flight (batch INTEGER PRIMARY KEY, most INTEGER NOT NULL)"
_OPENED = (
    "CREATE TABLE opened (id INTEGER PRIMARY KEY, position INTEGER NOT NULL, "
    "batch INTEGER NOT NULL, key TEXT NOT NULL, name TEXT NOT NULL, input BLOB)"
)
_TASK = (
    "CREATE TABLE task (id INTEGER PRIMARY KEY, position INTEGER NOT NULL, "
    "epoch INTEGER NOT NULL, begun INTEGER NOT NULL, doubts INTEGER NOT NULL, "
    "attempts_in_all INTEGER NOT NULL, seconds_in_all REAL NOT NULL, "
    "batch INTEGER NOT NULL, key TEXT NOT NULL, name TEXT NOT NULL, input BLOB, "
    "status TEXT NOT NULL, started REAL NOT NULL, seconds REAL NOT NULL, worker TEXT NOT NULL, "
    "attempts INTEGER NOT NULL, error BLOB, value BLOB, sha256 BLOB NOT NULL, "
    "UNIQUE (batch, key))"
)
TABLES = (_META, _EPOCH, _FLIGHT, _OPENED, _TASK)

RECORD = (
    "id, batch, key, name, input, status, started, seconds, worker, attempts, error, value, sha256"
)
COLUMNS = f"{RECORD}, position, epoch, begun, doubts, attempts_in_all, seconds_in_all"
_UPSERT = (
    "ON CONFLICT (batch, key) DO UPDATE SET id = max(id, excluded.id), "
    "position = excluded.position, name = excluded.name, input = excluded.input, "
    "status = excluded.status, "
    "started = excluded.started, seconds = excluded.seconds, worker = excluded.worker, "
    "attempts = excluded.attempts, error = excluded.error, value = excluded.value, "
    "sha256 = excluded.sha256, epoch = excluded.epoch, begun = begun + 1, "
    "doubts = doubts + excluded.doubts, "
    "attempts_in_all = attempts_in_all + excluded.attempts_in_all, "
    "seconds_in_all = seconds_in_all + excluded.seconds_in_all"
)
BEGIN = "INSERT INTO opened VALUES (?, ?, ?, ?, ?, ?)"
END = f"INSERT INTO task VALUES (?, ?, ?, 1, 0{', ?' * 14}) {_UPSERT}"  # noqa: S608
LEAVE = "DELETE FROM opened WHERE id = ?"
ALLOW = "INSERT INTO flight VALUES (?, ?) ON CONFLICT DO UPDATE SET most = excluded.most"
DOUBT = (
    "INSERT INTO task SELECT id, position, ?, 1, 1, 1, 0, batch, key, name, input, "  # noqa: S608
    f"'{DOUBT_STATUS}', 0, 0, '', 1, NULL, NULL, x'' FROM opened WHERE id = ? {_UPSERT}"
)
_HAS_ENDED = (
    "EXISTS (SELECT 1 FROM task WHERE (task.batch, task.key) = (opened.batch, opened.key) "
    "AND task.id >= opened.id)"
)
PRUNE = f"DELETE FROM opened WHERE {_HAS_ENDED}"  # noqa: S608 - all of it is ours
DOUBTFUL = (
    "SELECT id, position, batch, key, name, input FROM ("  # noqa: S608
    "SELECT opened.*, most, row_number() OVER (PARTITION BY batch ORDER BY id) AS place "
    f"FROM opened JOIN flight USING (batch) WHERE NOT {_HAS_ENDED}) "
    "WHERE place <= most ORDER BY id"
)
"""What may run or have run when its run was cut off.

Tasks are handed out in the order of their ids, never more than ``most`` without a recorded end:
so those after the first ``most`` that have none were never handed out.
"""


class Record(NamedTuple):
    """Hold what is recorded of the end of a task; the fields are the columns of ``RECORD``."""

    id: int
    batch: int
    key: str
    name: str
    input: bytes | None
    status: str
    started: float
    seconds: float
    worker: str
    attempts: int
    error: bytes | None
    value: bytes | None
    sha256: bytes


class Row(NamedTuple):
    """Hold all that is known of a task: the fields of a record, and those of ``COLUMNS`` beyond."""

    id: int
    batch: int
    key: str
    name: str
    input: bytes | None
    status: str
    started: float
    seconds: float
    worker: str
    attempts: int
    error: bytes | None
    value: bytes | None
    sha256: bytes
    position: int
    epoch: int
    begun: int
    doubts: int
    attempts_in_all: int
    seconds_in_all: float

    def check(self, path: object) -> None:
        """See that an outcome is what was written.

        Raises:
            JournalDamagedError: it is not.
        """
        check(self, path)


_SEALED = slice(1, 12)
"""The fields from ``batch`` to ``value``, which the digest is of."""


def check(record: Record | Row, path: object) -> None:
    """See that an outcome is what was written.

    Raises:
        JournalDamagedError: it is not.
    """
    if record.status == DOUBT_STATUS:  # it says nothing but that a task may have run
        return
    try:
        sealed = seal(*record[_SEALED])  # type: ignore[misc]
    except (TypeError, struct.error):  # a field of another type than any that is written
        sealed = b""
    if sealed != record.sha256:
        raise JournalDamagedError(path, f"the record of task {record.key!r} was changed")


def settle(connection: sqlite3.Connection, epoch: int) -> None:
    """Note which tasks an earlier run has left in doubt, and forget that others were to begin."""
    doubtful = [(epoch, row[0]) for row in connection.execute(DOUBTFUL).fetchall()]
    connection.executemany(DOUBT, doubtful)
    connection.execute("DELETE FROM opened")
    connection.execute("DELETE FROM flight")


def write_schema(connection: sqlite3.Connection, facts: dict[str, bytes]) -> None:
    """Make the tables of a new journal, inside the transaction that is open."""
    for statement in TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")
    connection.executemany("INSERT INTO meta VALUES (?, ?)", facts.items())


def is_empty(connection: sqlite3.Connection) -> bool:
    """Tell whether nothing at all was ever written to a database."""
    return (
        _pragma(connection, "application_id") == 0
        and _pragma(connection, "user_version") == 0
        and connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    )


def check_format(path: Path, connection: sqlite3.Connection) -> None:
    """Refuse a database that is no journal of this format, or holds more than one does.

    Raises:
        JournalRefusedError: naming what is wrong.
    """
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise JournalRefusedError(path, "it is a database, but no journal of stratagem")
    version = _pragma(connection, "user_version")
    if version > FORMAT:
        raise JournalRefusedError(
            path, f"it is of format {version}, and this program knows {FORMAT}; upgrade stratagem"
        )
    if version != FORMAT:
        raise JournalRefusedError(path, f"it is of format {version}, which there never was")
    found = connection.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
    ).fetchall()
    for kind, name, sql in found:
        if sql not in TABLES:
            raise JournalRefusedError(
                path, f"it has the {kind} {name!r}, which no journal has: it may run code of others"
            )
    if len(found) != len(TABLES):
        raise JournalRefusedError(path, "it misses tables that every journal has")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    found: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return found
