"""Errors as they are written: what they are, not what they hold."""

from stratagem import Redactor, RemoteError
from stratagem_journal.values import dumps, loads

__all__ = ["Failures", "decode_failure"]

LONGEST = 4096
LOOKED_AT = 4 * LONGEST
"""Characters that are searched for secrets: one that is cut in two would not be found."""


class Failures:
    """Write errors: the type, the names of its bases, the message without secrets.

    Args:
        redact: takes secrets out of a message.
    """

    def __init__(self, redact: Redactor) -> None:
        self._redact = redact

    def encode(self, error: BaseException | None) -> bytes:
        """Write an error; ``decode_failure`` reads it."""
        if isinstance(error, RemoteError):
            name, bases, message = error.type_name, list(error.bases), error.message
        else:
            bases = [f"{base.__module__}.{base.__qualname__}" for base in type(error).__mro__[:-1]]
            name, message = type(error).__qualname__, _message(error)
        return dumps({"type": name, "bases": bases, "message": self._cut(message)})

    def _cut(self, message: str) -> str:
        safe = self._redact(message[:LOOKED_AT])
        if len(safe) <= LONGEST and len(message) <= LOOKED_AT:
            return safe
        return f"{safe[:LONGEST]}... ({len(message)} characters)"


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
