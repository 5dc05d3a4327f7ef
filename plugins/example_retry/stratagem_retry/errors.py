"""Which errors are worth another attempt, and how long they ask to be left alone."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from stratagem import RemoteError, TransportError

__all__ = ["ErrorChoice", "chooser", "retry_after"]

OneChoice = str | type[BaseException]
ErrorChoice = OneChoice | Iterable[OneChoice] | Callable[[BaseException], bool] | None

WORTH_ANOTHER_TRY = frozenset({408, 409, 425, 429})
CLIENT_ERRORS = range(400, 500)


def chooser(on: ErrorChoice) -> Callable[[BaseException | None], bool]:
    """Make the function that says whether an error is tried again.

    Raises:
        ValueError: ``on`` is none of what it may be.
    """
    if on is None:
        return is_mendable
    if isinstance(on, str | type):
        on = (on,)
    if isinstance(on, Iterable):
        choices = tuple(on)
        if all(isinstance(choice, str | type) for choice in choices):
            return lambda error: any(_matches(error, choice) for choice in choices)
    elif callable(on):
        return lambda error: error is not None and bool(on(error))
    raise ValueError(f"on must be types or names of errors, or a function of one, not {on!r}")


def is_mendable(error: BaseException | None) -> bool:
    """Tell whether another attempt may succeed."""
    if not isinstance(error, Exception) or isinstance(error, TransportError):
        return False
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", getattr(response, "status_code", None))
    return status not in CLIENT_ERRORS or status in WORTH_ANOTHER_TRY


def _matches(error: BaseException | None, choice: OneChoice) -> bool:
    if isinstance(choice, type):
        return isinstance(error, choice) or f"{choice.__module__}.{choice.__qualname__}" in _names(
            error
        )
    return choice in _names(error)


def _names(error: BaseException | None) -> set[str]:
    if isinstance(error, RemoteError):
        dotted = set(error.bases)
    else:
        dotted = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(error).__mro__}
    return dotted | {name.rpartition(".")[2] for name in dotted}


def retry_after(error: BaseException | None) -> float:
    """Give the seconds that the server asked to wait, by ``Retry-After``; 0 for none."""
    asked = getattr(error, "retry_after", None)
    headers: Any = getattr(getattr(error, "response", None), "headers", {})
    if asked is None and hasattr(headers, "get"):
        asked = headers.get("retry-after")
    try:
        return max(0.0, float(asked or 0))
    except (TypeError, ValueError):
        return _seconds_until(asked)


def _seconds_until(date: object) -> float:
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - slow to import, seldom needed

    try:
        return max(0.0, parsedate_to_datetime(str(date)).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0
