"""From an outcome to its record: the value written down, or why it cannot be."""

from pathlib import Path
from typing import Any

import attrs

from stratagem import Outcome, Status, Task, TransportError
from stratagem_journal.codecs import Codec
from stratagem_journal.errors import JournalError, ValueRefusedError
from stratagem_journal.failures import Failures
from stratagem_journal.gate import Begun
from stratagem_journal.seals import seal

__all__ = ["KEY_BYTES", "Scribe", "check_key"]

KEY_BYTES = 512
SHOWN = 1024


@attrs.frozen
class Scribe:
    """Write outcomes.

    Attributes:
        codec: writes values.
        failures: writes errors.
        most_bytes: how large a value may be.
    """

    codec: Codec
    failures: Failures
    most_bytes: int

    def written(
        self, outcome: Outcome, begun: Begun, batch: int, epoch: int
    ) -> tuple[Outcome, tuple[Any, ...]]:
        """Give an outcome as it is to be handed on, and the columns of its record.

        One whose value cannot be written becomes a failure that shows the start of the value.
        """
        value: bytes | None = None
        error: bytes | None = None
        if outcome.ok:
            try:
                value = self._encoded(outcome.value)
            except Exception as reason:  # noqa: BLE001 - the codec is the caller's
                outcome = _refused(outcome, reason)
        if value is None:
            error = self.failures.encode(outcome.error)
        task = begun.task
        started, seconds = float(outcome.started_at), float(outcome.seconds)
        attempts = int(outcome.attempts)
        sealed = (
            batch,
            task.key,
            task.name,
            begun.given,  # of before it ran: a task may change what it has
            str(outcome.status),
            started,
            seconds,
            outcome.worker,
            attempts,
            error,
            value,
        )
        now = max(0, attempts - task.attempt + 1)
        columns = (begun.number, task.index, epoch, now, seconds, *sealed, seal(*sealed))
        return outcome, columns

    def _encoded(self, value: object) -> bytes:
        written = self.codec.encode(value)
        if len(written) > self.most_bytes:
            raise ValueRefusedError(
                f"takes {len(written)} bytes, more than max_value_bytes={self.most_bytes}; "
                "return less, or where it is stored"
            )
        return written


def _refused(outcome: Outcome, reason: Exception) -> Outcome:
    what = str(reason)
    if not isinstance(reason, ValueRefusedError):
        what = f"{type(reason).__name__}: {reason}"
    error = TransportError(
        "encode_result",
        f"the journal cannot keep the value: {what}",
        shown=_shown(outcome.value),
    )
    error.__cause__ = reason
    return attrs.evolve(outcome, status=Status.ERROR, value=None, error=error)


def _shown(value: object) -> str:
    try:
        shown = repr(value)
    except Exception as error:  # noqa: BLE001 - the value is the task's, and may raise anything
        return f"(its repr raised {type(error).__name__})"
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."


def check_key(path: Path, task: Task) -> None:
    """See that a key is text that a file can hold.

    Raises:
        JournalError: it is not, or too long.
    """
    try:
        size = len(task.key.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise JournalError(path, f"the key {task.key!r} is no Unicode text: {error}") from error
    if not 0 < size <= KEY_BYTES:
        raise JournalError(
            path, f"the key of input {task.index} has {size} bytes; a key has 1 to {KEY_BYTES}"
        )
