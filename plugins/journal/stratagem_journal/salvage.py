"""Copy what is whole of a damaged journal into a new one; the old one stays as it is."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from secrets import token_bytes

import attrs

from stratagem_journal.errors import JournalDamagedError, JournalRefusedError
from stratagem_journal.files import check_trust, create
from stratagem_journal.reading import connected, explained, guard
from stratagem_journal.schema import (
    ALLOW,
    BEGIN,
    COLUMNS,
    DOUBTFUL,
    Row,
    check_format,
    write_schema,
)

__all__ = ["salvage"]

MOST_MISSING = 10_000
"""After so many ids in a row without a record, where nobody knows the next one, it is the end."""

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


@attrs.define
class _Found:
    whole: int = 0
    broken: list[str] = attrs.field(factory=list)


def _copied(path: Path, source: sqlite3.Connection, target: Path) -> Iterator[str]:
    found = _Found()
    salt = _salt(source)
    with closing(sqlite3.connect(target, isolation_level=None)) as copy:
        copy.execute("BEGIN IMMEDIATE")
        write_schema(copy, {"salt": salt or token_bytes(16)})
        places = ", ".join("?" * len(Row._fields))
        for row in _whole_rows(path, source, found):
            copy.execute(f"INSERT OR REPLACE INTO task ({COLUMNS}) VALUES ({places})", row)  # noqa: S608
            found.whole += 1
        knows_doubts = _copy_doubts(source, copy)
        copy.execute("COMMIT")
    yield f"{found.whole} records copied to {target}"
    if not knows_doubts:
        yield "which tasks were in doubt cannot be read: they run again when it is resumed"
    if salt is None:
        yield 'inputs can no longer be compared: resume with on_mismatch="reuse"'
    if found.broken:
        lost, shown = len(found.broken), ", ".join(found.broken[:SHOWN])
        yield f"{lost} lost: {shown}" + f" and {lost - SHOWN} more" * (lost > SHOWN)


def _copy_doubts(source: sqlite3.Connection, copy: sqlite3.Connection) -> bool:
    """Copy what is needed to know which tasks were in doubt; tell whether it could be read."""
    try:
        doubtful = source.execute(DOUBTFUL).fetchall()
    except sqlite3.Error:
        return False
    copy.executemany(BEGIN, doubtful)
    copy.executemany(ALLOW, {(batch, len(doubtful)) for _, _, batch, *_ in doubtful})
    return True


def _whole_rows(path: Path, source: sqlite3.Connection, found: _Found) -> Iterator[Row]:
    unsure: list[str] = []
    for number, is_there in _numbers(source):
        if is_there:  # then those before, which cannot be read, are some too
            found.broken += unsure
            unsure.clear()
        try:
            columns = source.execute(
                f"SELECT {COLUMNS} FROM task WHERE id = ?",  # noqa: S608 - all of it is ours
                (number,),
            ).fetchone()
        except sqlite3.Error:
            (found.broken if is_there else unsure).append(f"record {number}")
            continue
        if columns is None:
            continue
        row = Row._make(columns)
        try:
            row.check(path)
        except JournalDamagedError:
            found.broken.append(f"task {row.key!r}")
        else:
            yield row
    if unsure:
        found.broken.append(f"{unsure[0]} and all after it, nobody knows how many")


def _numbers(source: sqlite3.Connection) -> Iterator[tuple[int, bool]]:
    """Give every number that a record has, or may have, and whether it has."""
    number = missing = 0
    while missing < MOST_MISSING:
        try:
            found = source.execute("SELECT min(id) FROM task WHERE id > ?", (number,)).fetchone()
        except sqlite3.Error:
            number += 1
            missing += 1
            yield number, False
            continue
        if found[0] is None:
            return
        number, missing = found[0], 0
        yield number, True


def _salt(source: sqlite3.Connection) -> bytes | None:
    try:
        found = source.execute("SELECT value FROM meta WHERE name = 'salt'").fetchone()
    except sqlite3.Error:
        return None
    return found[0] if found and isinstance(found[0], bytes) else None
