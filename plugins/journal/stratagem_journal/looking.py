"""What a journal holds, for people and for programs, without running anything."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stratagem import Outcome, RemoteError, Status, TaskLostError
from stratagem_journal.errors import JournalDamagedError
from stratagem_journal.reading import Reader, open_reader
from stratagem_journal.recall import DOUBT, decode_failure
from stratagem_journal.schema import WAITING, Row
from stratagem_journal.values import loads

__all__ = ["describe", "outcomes"]

SHOWN = 5
MESSAGE_SHOWN = 200


def describe(path: Path) -> Iterator[str]:
    """Say in some lines what ran, what came of it, and what is not known.

    Raises:
        JournalError: it cannot be read, or not be trusted.
    """
    reader = open_reader(path)
    try:
        yield from _described(reader)
    finally:
        reader.close()


def _described(reader: Reader) -> Iterator[str]:
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    examples: dict[str, str] = {}
    doubtful: list[str] = []
    slowest: list[tuple[float, str]] = []
    attempts, seconds, again = 0, 0.0, 0
    for row in reader.all_rows():
        row.check(reader.path)
        counts[row.status or "in doubt"] += 1
        attempts += row.attempts_in_all
        seconds += row.seconds_in_all
        again += row.begun > 1
        if row.status is None:
            doubtful.append(row.key)
        if row.error is not None and row.status != Status.CANCELLED:
            error = _error_of(reader, row)
            kinds[error.type_name] += 1
            cause = f"task {row.key!r}: {error.message[:MESSAGE_SHOWN]}"
            examples.setdefault(error.type_name, cause)
        slowest = sorted([*slowest, (row.seconds or 0.0, row.key)], reverse=True)[:SHOWN]
    told = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    yield f"{reader.path}: {counts.total()} tasks" + f": {told}" * bool(told)
    yield from _epochs(reader)
    least = "at least " * bool(doubtful)
    yield f"attempts: {least}{attempts}, {least}{seconds:.1f} s in all; {again} tasks ran again"
    yield from (f"slowest: task {key!r}, {took:.3f} s" for took, key in slowest if took)
    yield from (
        f"{count} x {kind}, first with {examples[kind]}" for kind, count in kinds.most_common()
    )
    yield from (f"in doubt: task {key!r}" for key in doubtful)


def _epochs(reader: Reader) -> Iterator[str]:
    for number, host, pid, strategy, opened, closed, ended in reader.epochs():
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(str(opened))))
        end = "runs, or was cut off"
        if closed is not None:
            end = f"{ended} after {max(0.0, float(str(closed)) - float(str(opened))):.1f} s"
        yield f"run {number}: {began} under {strategy}, process {pid} on {host}: {end}"


def outcomes(path: Path) -> Iterator[Outcome]:
    """Give what became of each task that had begun, in the order of the input.

    Values of types that only a codec knows come as what they were taken apart into.

    Raises:
        JournalError: it cannot be read, or not be trusted.
    """
    reader = open_reader(path)
    try:
        for row in reader.all_rows():
            if row.status != WAITING:
                row.check(path)
                yield _outcome(reader, row)
    finally:
        reader.close()


def _outcome(reader: Reader, row: Row) -> Outcome:
    status = Status.LOST if row.status is None else Status(row.status)
    value: Any = None
    error: BaseException | None = None
    if status is Status.OK:
        try:
            value = loads(row.value or b"", _parts)
        except ValueError as problem:
            raise JournalDamagedError(reader.path, f"task {row.key!r}: {problem}") from problem
    else:
        error = TaskLostError(row.key, DOUBT) if row.status is None else _error_of(reader, row)
    return Outcome(
        row.position,
        row.key,
        row.name,
        status,
        value,
        error,
        row.started or 0.0,
        row.seconds or 0.0,
        row.worker or "",
        row.attempts or 1,
        recalled=True,
    )


def _error_of(reader: Reader, row: Row) -> RemoteError:
    try:
        return decode_failure(row.error or b"")
    except ValueError as problem:
        raise JournalDamagedError(reader.path, f"task {row.key!r}: {problem}") from problem


def _parts(tag: str, content: Any) -> Any:
    """Give what a value of an unknown kind was taken apart into."""
    is_object = tag == "object" and isinstance(content, list) and len(content) == len(("name", "v"))
    return content[1] if is_object else content
