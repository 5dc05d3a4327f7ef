"""What a journal knows of the tasks of a run that is resumed: which need not run, and why."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from stratagem import Outcome, RemoteError, Status, Task, TaskLostError
from stratagem_journal.codecs import Codec
from stratagem_journal.errors import JournalDamagedError, JournalError, JournalMismatchError
from stratagem_journal.fingerprints import Fingerprints
from stratagem_journal.policy import Policy
from stratagem_journal.schema import WAITING, Row
from stratagem_journal.values import dumps, loads

__all__ = ["Known", "Recall", "encode_failure", "is_in_doubt"]

MESSAGE = 4096
DOUBT = (
    "it had begun when an earlier run was cut off, and whether it was done is not known; "
    'in_doubt="rerun" runs it again'
)


@attrs.define
class Known:
    """Hold what is known of some tasks.

    Attributes:
        recalled: the outcomes of those that need not run.
        to_run: the others.
    """

    recalled: list[Outcome] = attrs.field(factory=list)
    to_run: list[Task] = attrs.field(factory=list)


class Recall:
    """Tell tasks whose outcome is known from those to run.

    Args:
        path: the journal, for messages.
        policy: what becomes of tasks that are known.
        codec: reads values.
        fingerprints: tells whether inputs are the same.
    """

    def __init__(
        self, path: Path, policy: Policy, codec: Codec, fingerprints: Fingerprints
    ) -> None:
        self._path = path
        self._policy = policy
        self._codec = codec
        self._fingerprints = fingerprints

    def sort_out(self, tasks: list[Task], rows_of: Callable[[list[str]], dict[str, Row]]) -> Known:
        """Say of each task whether it is to run.

        Raises:
            JournalMismatchError: some are not those that were recorded under their keys.
            JournalDamagedError: a record is not what was written.
        """
        first = [task.key for task in tasks if task.attempt == 1]  # others failed a moment ago
        rows = rows_of(first) if first else {}
        known = Known()
        mismatches: list[tuple[str, str]] = []
        for task in tasks:
            row = rows.get(task.key) if task.attempt == 1 else None
            if row is None or not self._is_settled(row):
                known.to_run.append(task)
                continue
            row.check(self._path)
            problem = self._mismatch(task, row)
            if problem and self._policy.on_mismatch == "error":
                mismatches.append((task.key, problem))
            elif problem and self._policy.on_mismatch == "rerun":
                known.to_run.append(task)
            else:
                known.recalled.append(self._outcome(task, row))
        if mismatches:
            raise JournalMismatchError(self._path, mismatches)
        return known

    def _is_settled(self, row: Row) -> bool:
        """Tell whether the task of a row need not run, if it is the same."""
        if row.status == Status.OK:
            return True
        if is_in_doubt(row):
            return self._policy.in_doubt == "fail"
        return row.status != WAITING and not self._policy.retry_failed

    def _mismatch(self, task: Task, row: Row) -> str:
        """Say how a task differs from the one that was recorded; nothing where it does not."""
        if task.name != row.name:
            return f"calls {task.name!r} and called {row.name!r} when it was recorded"
        given = self._fingerprints.of(task.call)
        if given != row.input:
            return "has another input than was recorded"
        if given is None and task.key == str(task.index):
            return "has an input that cannot be compared, and no key of its own: give `key=`"
        return ""

    def _outcome(self, task: Task, row: Row) -> Outcome:
        status, value, error = self._ended(task, row)
        return Outcome(
            task.index,
            task.key,
            task.name,
            status,
            value,
            error,
            row.started or 0.0,
            row.seconds or 0.0,
            row.worker or "",
            row.attempts or 1,
            task.parent,
            True,
        )

    def _ended(self, task: Task, row: Row) -> tuple[Status, Any, BaseException | None]:
        if is_in_doubt(row):
            return Status.LOST, None, TaskLostError(task.key, DOUBT)
        try:
            status = _STATUSES[row.status or ""]
            if status is Status.OK:
                return status, self._codec.decode(row.value or b""), None
            return status, None, decode_failure(row.error or b"")
        except KeyError as error:
            raise JournalDamagedError(self._path, f"task {task.key!r}: {error}") from error
        except LookupError as error:
            problem = f"the value of task {task.key!r} cannot be read: {error.args[0]}"
            raise JournalError(self._path, problem) from error
        except ValueError as error:
            raise JournalDamagedError(self._path, f"task {task.key!r}: {error}") from error


_STATUSES = {status.value: status for status in Status}


def is_in_doubt(row: Row) -> bool:
    """Tell whether the task of a row had begun, and nobody knows whether it was done."""
    return row.status is None or row.status == Status.CANCELLED


def encode_failure(error: BaseException | None) -> bytes:
    """Write what an error is: its type, the names of its bases, its message; nothing else of it."""
    if isinstance(error, RemoteError):
        name, bases, message = error.type_name, list(error.bases), error.message
    else:
        bases = [f"{base.__module__}.{base.__qualname__}" for base in type(error).__mro__[:-1]]
        name, message = type(error).__qualname__, _message(error)
    if len(message) > MESSAGE:
        message = f"{message[:MESSAGE]}... ({len(message)} characters)"
    return dumps({"type": name, "bases": bases, "message": message})


def _message(error: object) -> str:
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001 - a message that cannot be had is none
        return f"(its message raised {type(second).__name__})"


def decode_failure(written: bytes) -> RemoteError:
    """Give what stands for an error that was written.

    Raises:
        ValueError: it is none of ours.
    """
    parts = loads(written)
    try:
        return RemoteError(parts["type"], parts["message"], bases=parts["bases"])
    except (KeyError, TypeError) as error:
        raise ValueError("it has no error") from error
