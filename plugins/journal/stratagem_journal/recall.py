"""What a journal knows of the tasks of a run that is resumed: which need not run, and why."""

from pathlib import Path
from typing import Any

import attrs

from stratagem import Outcome, Status, Task, TaskLostError
from stratagem_journal.codecs import Codec
from stratagem_journal.errors import JournalDamagedError, JournalError, JournalMismatchError
from stratagem_journal.failures import decode_failure
from stratagem_journal.fingerprints import Fingerprints
from stratagem_journal.policy import Policy
from stratagem_journal.reading import Finder
from stratagem_journal.schema import UNSURE, Record, check

__all__ = ["DOUBT", "Known", "Recall"]

DOUBT = (
    "it had begun when an earlier run was cut off, and whether it was done is not known; "
    'in_doubt="rerun" runs it again'
)
_OK = Status.OK

ToRun = tuple[Task, bytes | None]


@attrs.define
class Known:
    """Hold what is known of some tasks.

    Attributes:
        recalled: the outcomes of those that need not run.
        to_run: the others, each with the fingerprint of its input.
    """

    recalled: list[Outcome] = attrs.field(factory=list)
    to_run: list[ToRun] = attrs.field(factory=list)


class Recall:
    """Tell tasks whose outcome is known from those to run.

    Args:
        path: the journal, for messages.
        finder: finds what was recorded; None where nothing was.
        policy: what becomes of tasks that are known.
        codec: reads values.
        fingerprints: tells whether inputs are the same.
    """

    def __init__(
        self,
        path: Path,
        finder: Finder | None,
        policy: Policy,
        codec: Codec,
        fingerprints: Fingerprints,
    ) -> None:
        self._path = path
        self._finder = finder
        self._policy = policy
        self._codec = codec
        self._fingerprints = fingerprints

    def sort_out(self, tasks: list[Task]) -> Known:
        """Say of each task whether it is to run.

        Raises:
            JournalMismatchError: some are not those that were recorded under their keys.
            JournalDamagedError: a record is not what was written.
        """
        known = Known()
        recorded: list[tuple[Task, Record]] = []
        mismatches: list[tuple[str, str]] = []
        rows = self._rows_of(tasks)
        for task in tasks:
            given, can_compare = self._fingerprints.of(task.call)
            row = rows.get(task.key) if task.attempt == 1 else None  # others failed a moment ago
            if row is None or not (row.status == "ok" or self._is_final(row)):
                known.to_run.append((task, given))
                continue
            check(row, self._path)
            is_same = given == row.input and task.name == row.name and can_compare
            problem = "" if is_same else _mismatch(task, row, given)
            if not problem or self._policy.on_mismatch == "reuse":
                recorded.append((task, row))
            elif self._policy.on_mismatch == "rerun":
                known.to_run.append((task, given))
            else:
                mismatches.append((task.key, problem))
        if mismatches:
            raise JournalMismatchError(self._path, mismatches)
        known.recalled = self._outcomes(recorded)
        return known

    def _rows_of(self, tasks: list[Task]) -> dict[str, Record]:
        if self._finder is None:
            return {}
        return self._finder.find([task.key for task in tasks if task.attempt == 1])

    def _is_final(self, row: Record) -> bool:
        """Tell whether the task of a row that is no success need not run, if it is the same."""
        if row.status in UNSURE:
            return self._policy.in_doubt == "fail"
        if row.status == "lost" and self._policy.in_doubt == "fail":
            return True  # its worker died with it
        return not self._policy.retry_failed

    def _outcomes(self, recorded: list[tuple[Task, Record]]) -> list[Outcome]:
        values = iter(self._values([one for one in recorded if one[1].status == "ok"]))
        return [
            _recalled(task, row, _OK, value=next(values))
            if row.status == "ok"
            else self._failed(task, row)
            for task, row in recorded
        ]

    def _values(self, succeeded: list[tuple[Task, Record]]) -> list[Any]:
        """Read values, all at once, which costs half; one by one to name one that is wrong."""
        try:
            return self._codec.decode_all([row.value or b"" for _, row in succeeded])
        except (LookupError, ValueError):
            return [self._value(task, row) for task, row in succeeded]

    def _value(self, task: Task, row: Record) -> Any:
        try:
            return self._codec.decode(row.value or b"")
        except LookupError as error:
            problem = f"the value of task {task.key!r} cannot be read: {error.args[0]}"
            raise JournalError(self._path, problem) from error
        except ValueError as error:
            raise JournalDamagedError(self._path, f"task {task.key!r}: {error}") from error

    def _failed(self, task: Task, row: Record) -> Outcome:
        if row.status in UNSURE:
            return _recalled(task, row, Status.LOST, error=TaskLostError(task.key, DOUBT))
        try:
            return _recalled(task, row, Status(row.status), error=decode_failure(row.error or b""))
        except ValueError as error:
            raise JournalDamagedError(self._path, f"task {task.key!r}: {error}") from error


def _mismatch(task: Task, row: Record, given: bytes | None) -> str:
    """Say how a task differs from the one that was recorded; nothing where it does not."""
    if task.name != row.name:
        return f"calls {task.name!r} and called {row.name!r} when it was recorded"
    if given != row.input:
        return "has another input than was recorded"
    if task.key == str(task.index):
        return "has an input that cannot be compared, and no key of its own: give `key=`"
    return ""


def _recalled(
    task: Task,
    row: Record,
    status: Status,
    *,
    value: Any = None,
    error: BaseException | None = None,
) -> Outcome:
    return Outcome(
        task.index,
        task.key,
        task.name,
        status,
        value,
        error,
        row.started,
        row.seconds,
        row.worker,
        row.attempts,
        task.parent,
        True,
    )
