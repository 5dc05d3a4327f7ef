"""Readers: connections that can only read, and what they refuse."""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from stratagem_journal.errors import JournalDamagedError, JournalError
from stratagem_journal.files import check_trust
from stratagem_journal.schema import COLUMNS, Row, check_format, is_empty

__all__ = ["Reader", "connected", "explained", "guard", "location", "open_reader"]

BUSY_SECONDS = 5.0
MOST_AT_ONCE = 256


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

    def rows(self, batch: int, keys: Sequence[str]) -> dict[str, Row]:
        """Give the rows of those of the keys that are known.

        Raises:
            JournalError: they cannot be read.
        """
        known: dict[str, Row] = {}
        for first in range(0, len(keys), MOST_AT_ONCE):
            asked = keys[first : first + MOST_AT_ONCE]
            places = ", ".join("?" * len(asked))
            query = f"SELECT {COLUMNS} FROM task WHERE batch = ? AND key IN ({places})"  # noqa: S608
            for row in self._selected(query, (batch, *asked)):
                known[row.key] = row
        return known

    def all_rows(self) -> Iterator[Row]:
        """Give all rows, in the order of their batches and inputs."""
        yield from self._selected(f"SELECT {COLUMNS} FROM task ORDER BY batch, position, id")  # noqa: S608

    def in_doubt(self, batch: int | None = None) -> list[str]:
        """Name the tasks that were begun and whose end is not known."""
        query = "SELECT key FROM task WHERE status IS NULL AND ? IN (batch, -1) ORDER BY position"
        with self._reading():
            asked = (-1 if batch is None else batch,)
            return [key for (key,) in self._connection.execute(query, asked)]

    def facts(self) -> dict[str, bytes]:
        """Give what stands in the table of facts."""
        with self._reading():
            return dict(self._connection.execute("SELECT name, value FROM meta").fetchall())

    def epochs(self) -> list[tuple[object, ...]]:
        """Give a tuple for each time that a run was driven, the first one first."""
        query = "SELECT epoch, host, pid, strategy, opened, closed, ended FROM epoch ORDER BY epoch"
        with self._reading():
            return self._connection.execute(query).fetchall()

    def _selected(self, query: str, parameters: Iterable[object] = ()) -> Iterator[Row]:
        with self._reading():
            found = self._connection.execute(query, tuple(parameters))
            yield from map(Row._make, found)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._turn:
            try:
                yield
            except sqlite3.Error as error:
                raise explained(self.path, error) from error

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


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
