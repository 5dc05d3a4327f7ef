"""The tables of a journal, what tells one from another database, and the words that fill it.

One row a task: written before it is started, completed when it has ended.
``status`` is null in between, which after a crash says: in doubt.
"""

import sqlite3
import struct
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from stratagem_journal.errors import JournalDamagedError, JournalRefusedError

__all__ = [
    "BEGIN",
    "COLUMNS",
    "END",
    "FORMAT",
    "LEAVE",
    "TABLES",
    "WAITING",
    "Row",
    "check_format",
    "digest",
    "is_empty",
    "write_schema",
]

APPLICATION_ID = 0x5354524A  # "STRJ"
FORMAT = 1
WAITING = "waiting"
"""The status of a task that was about to start when its run ended, and did not."""

_META = "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID"
_EPOCH = (
    "CREATE TABLE epoch (epoch INTEGER PRIMARY KEY, host TEXT, boot_id TEXT, pid INTEGER, "
    "started TEXT, strategy TEXT, opened REAL, closed REAL, ended TEXT)"
)
_TASK = (
    "CREATE TABLE task (id INTEGER PRIMARY KEY, batch INTEGER NOT NULL, key TEXT NOT NULL, "
    "position INTEGER NOT NULL, name TEXT NOT NULL, input BLOB, epoch INTEGER NOT NULL, "
    "begun INTEGER NOT NULL, status TEXT, sequence INTEGER, started REAL, seconds REAL, "
    "worker TEXT, attempts INTEGER, attempts_in_all INTEGER NOT NULL, "
    "seconds_in_all REAL NOT NULL, sha256 BLOB, error BLOB, value BLOB, UNIQUE (batch, key))"
)
TABLES = (_META, _EPOCH, _TASK)

BEGIN = (
    "INSERT INTO task (batch, key, position, name, input, epoch, begun, attempts_in_all, "
    "seconds_in_all) VALUES (?, ?, ?, ?, ?, ?, 1, 0, 0) "
    "ON CONFLICT (batch, key) DO UPDATE SET position = excluded.position, name = excluded.name, "
    "input = excluded.input, epoch = excluded.epoch, begun = begun + 1, status = NULL, "
    "sequence = NULL, started = NULL, seconds = NULL, worker = NULL, attempts = NULL, "
    "sha256 = NULL, error = NULL, value = NULL"
)
END = (
    "UPDATE task SET status = ?, sequence = ?, started = ?, seconds = ?, worker = ?, "
    "attempts = ?, attempts_in_all = attempts_in_all + ?, seconds_in_all = seconds_in_all + ?, "
    "sha256 = ?, error = ?, value = ? WHERE batch = ? AND key = ? AND epoch = ?"
)
LEAVE = (
    f"UPDATE task SET status = '{WAITING}', begun = begun - 1 "  # noqa: S608 - all of it is ours
    "WHERE batch = ? AND key = ? AND epoch = ? AND status IS NULL"
)
COLUMNS = (
    "batch, key, position, name, input, epoch, begun, status, sequence, started, seconds, "
    "worker, attempts, attempts_in_all, seconds_in_all, sha256, error, value"
)


class Row(NamedTuple):
    """Hold what a journal knows of one task; the fields are the columns of the table."""

    batch: int
    key: str
    position: int
    name: str
    input: bytes | None
    epoch: int
    begun: int
    status: str | None
    sequence: int | None
    started: float | None
    seconds: float | None
    worker: str | None
    attempts: int | None
    attempts_in_all: int
    seconds_in_all: float
    sha256: bytes | None
    error: bytes | None
    value: bytes | None

    def digest(self) -> bytes:
        """Digest what an outcome is made of again."""
        return digest(
            (self.batch, self.attempts or 0, self.started or 0.0, self.seconds or 0.0),
            (self.key, self.name, self.status or "", self.worker or ""),
            (self.input, self.error, self.value),
        )

    def check(self, path: object) -> None:
        """See that an outcome is what was written.

        Raises:
            JournalDamagedError: it is not.
        """
        if self.status is None or self.status == WAITING:
            return
        try:
            is_whole = self.sha256 == self.digest()
        except (
            TypeError,
            AttributeError,
            struct.error,
        ):  # a field of another type than any that is written
            is_whole = False
        if not is_whole:
            raise JournalDamagedError(path, f"the record of task {self.key!r} was changed")


def digest(
    numbers: tuple[int, int, float, float],
    texts: tuple[str, str, str, str],
    parts: tuple[bytes | None, bytes | None, bytes | None],
) -> bytes:
    """Digest what an outcome is made of, each part with its length.

    Args:
        numbers: batch, attempts, started, seconds.
        texts: key, name, status, worker.
        parts: input, error, value.
    """
    written = [text.encode("utf-8", "surrogatepass") for text in texts]
    written += [b"-" if part is None else b"+" + part for part in parts]
    head = _HEAD.pack(*numbers, *map(len, written))
    return sha256(head + b"".join(written)).digest()


_HEAD = struct.Struct("<qqdd7q")


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
