"""What a journal holds, for people and for programs, without running anything."""

import heapq
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from stratagem import Outcome, RemoteError, Status, TaskLostError
from stratagem_journal.errors import JournalDamagedError
from stratagem_journal.failures import decode_failure
from stratagem_journal.files import is_written
from stratagem_journal.reading import Reader, open_reader
from stratagem_journal.recall import DOUBT
from stratagem_journal.schema import DOUBT_STATUS, UNSURE, Row
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


@attrs.define
class _Sum:
    """Add up what a journal holds."""

    statuses: Counter[str] = attrs.field(factory=Counter)
    kinds: Counter[str] = attrs.field(factory=Counter)
    examples: dict[str, str] = attrs.field(factory=dict)
    doubtful: list[str] = attrs.field(factory=list)
    slowest: list[tuple[float, str]] = attrs.field(factory=list)
    doubts: int = 0
    attempts: int = 0
    seconds: float = 0.0
    again: int = 0

    def add(self, row: Row, error: RemoteError | None) -> None:
        """Add a task, and its error if it has one."""
        self.statuses[row.status] += 1
        self.attempts += row.attempts_in_all
        self.seconds += row.seconds_in_all
        self.again += row.begun > 1
        self.doubts += row.doubts
        if row.status in UNSURE:
            self.doubtful.append(row.key)
        elif error is not None:
            self.kinds[error.type_name] += 1
            cause = f"task {row.key!r}: {error.message[:MESSAGE_SHOWN]}"
            self.examples.setdefault(error.type_name, cause)
        heapq.heappush(self.slowest, (row.seconds, row.key))
        if len(self.slowest) > SHOWN:
            heapq.heappop(self.slowest)


def _described(reader: Reader) -> Iterator[str]:
    found = _Sum()
    for row in reader.all_rows(by_input=False):
        row.check(reader.path)
        found.add(row, None if row.error is None else _error_of(reader, row))
    runs = is_written(reader.path)
    unknown = "in flight" if runs else "in doubt"
    names = {DOUBT_STATUS: unknown}
    told = [f"{n} {names.get(status, status)}" for status, n in found.statuses.most_common()]
    yield f"{reader.path}: {found.statuses.total()} tasks" + f": {', '.join(told)}" * bool(told)
    yield from _epochs(reader, runs=runs)
    least = "at least " * bool(found.doubts)
    yield (
        f"attempts: {least}{found.attempts}, {least}{found.seconds:.1f} s in all; "
        f"{found.again} tasks ran again"
    )
    slowest = sorted(found.slowest, reverse=True)
    yield from (f"slowest: task {key!r}, {took:.3f} s" for took, key in slowest if took)
    yield from (
        f"{count} x {kind}, first with {found.examples[kind]}"
        for kind, count in found.kinds.most_common()
    )
    yield from (f"{unknown}: task {key!r}" for key in found.doubtful)


def _epochs(reader: Reader, *, runs: bool) -> Iterator[str]:
    epochs = reader.epochs()
    for number, host, pid, strategy, opened, closed, ended in epochs:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(opened))
        end = "runs" if runs and number == epochs[-1][0] else "was cut off"
        if closed is not None:
            end = f"{ended} after {max(0.0, closed - opened):.1f} s"
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
            row.check(path)
            yield _outcome(reader, row)
    finally:
        reader.close()


def _outcome(reader: Reader, row: Row) -> Outcome:
    status = Status.LOST if row.status == DOUBT_STATUS else _status(reader, row)
    value: Any = None
    error: BaseException | None = None
    if status is Status.OK:
        try:
            value = loads(row.value or b"", _parts)
        except ValueError as problem:
            raise JournalDamagedError(reader.path, f"task {row.key!r}: {problem}") from problem
    else:
        is_known = row.status != DOUBT_STATUS
        error = _error_of(reader, row) if is_known else TaskLostError(row.key, DOUBT)
    return Outcome(
        row.position,
        row.key,
        row.name,
        status,
        value,
        error,
        row.started,
        row.seconds,
        row.worker,
        row.attempts,
        recalled=True,
    )


def _status(reader: Reader, row: Row) -> Status:
    try:
        return Status(row.status)
    except ValueError as problem:
        raise JournalDamagedError(reader.path, f"task {row.key!r}: {problem}") from problem


def _error_of(reader: Reader, row: Row) -> RemoteError:
    try:
        return decode_failure(row.error or b"")
    except ValueError as problem:
        raise JournalDamagedError(reader.path, f"task {row.key!r}: {problem}") from problem


def _parts(tag: str, content: Any) -> Any:
    """Give what a value of an unknown kind was taken apart into."""
    is_object = tag == "object" and isinstance(content, list) and len(content) == len(("name", "v"))
    return content[1] if is_object else content
