"""Copy what is whole of a damaged journal into a new one; the old one stays as it is."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from secrets import token_bytes

from stratagem_journal.errors import JournalDamagedError, JournalRefusedError
from stratagem_journal.files import check_trust, create
from stratagem_journal.reading import connected, explained, guard
from stratagem_journal.schema import COLUMNS, Row, check_format, write_schema

__all__ = ["salvage"]

MOST_MISSING = 10_000
"""After so many ids in a row without a record, where nobody knows the last one, it is the end."""

SHOWN = 10


def salvage(path: Path, target: Path) -> Iterator[str]:
    """Copy each record that is what was written; say in some lines what was and what is lost.

    Tasks that are not in the copy run again when that is resumed.

    Raises:
        JournalError: the old one cannot be read at all or not be trusted, or there is a new one.
    """
    check_trust(path)
    if target.exists() or target.is_symlink():
        raise JournalRefusedError(target, "it is there already; name a new file")
    try:
        source = connected(path)
    except sqlite3.Error as error:
        raise explained(path, error) from error
    try:
        guard(source)
        check_format(path, source)
        create(target)
        yield from _copied(path, source, target)
    except sqlite3.Error as error:
        raise JournalDamagedError(path, f"nothing of it can be read: {error}") from error
    finally:
        source.close()


def _copied(path: Path, source: sqlite3.Connection, target: Path) -> Iterator[str]:
    broken: list[str] = []
    whole: list[Row] = []
    seen = 0
    for identity in _identities(source):
        try:
            columns = source.execute(
                f"SELECT {COLUMNS} FROM task WHERE id = ?",  # noqa: S608
                (identity,),
            ).fetchone()
            if columns is None:
                continue
            seen += 1
            row = Row._make(columns)
            row.check(path)
            whole.append(row)
        except sqlite3.Error:
            broken.append(f"record {identity}")
        except JournalDamagedError:
            broken.append(f"task {row.key!r}")
    knows_salt = _write(target, _salt(source), whole)
    yield f"{len(whole)} records copied to {target}"
    if not knows_salt:
        yield 'inputs can no longer be compared: resume with on_mismatch="reuse"'
    if broken:
        more = f" and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        yield f"{len(broken)} lost: {', '.join(broken[:SHOWN])}{more}"


def _identities(source: sqlite3.Connection) -> Iterator[int]:
    """Give every number that a record may have."""
    try:
        last = source.execute("SELECT max(id) FROM task").fetchone()[0] or 0
    except sqlite3.Error:
        last = None
    if last is not None:
        yield from range(1, last + 1)
        return
    missing = identity = 0
    while missing < MOST_MISSING:
        identity += 1
        try:
            found = source.execute("SELECT 1 FROM task WHERE id = ?", (identity,)).fetchone()
        except sqlite3.Error:
            found = True
        missing = 0 if found else missing + 1
        yield identity


def _salt(source: sqlite3.Connection) -> bytes | None:
    try:
        found = source.execute("SELECT value FROM meta WHERE name = 'salt'").fetchone()
    except sqlite3.Error:
        return None
    return found[0] if found and isinstance(found[0], bytes) else None


def _write(target: Path, salt: bytes | None, rows: list[Row]) -> bool:
    places = ", ".join("?" * len(Row._fields))
    connection = sqlite3.connect(target, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        write_schema(connection, {"salt": salt or token_bytes(16)})
        connection.executemany(f"INSERT INTO task ({COLUMNS}) VALUES ({places})", rows)  # noqa: S608
        connection.execute("COMMIT")
    finally:
        connection.close()
    return salt is not None
