"""Which errors end the whole run, since every further call would only fail, or cost, in vain."""

from collections.abc import Callable

from stratagem.errors import RemoteError, StopRun

__all__ = ["StopOn", "authentication_failed", "find_stop", "stop_rule"]

StopOn = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
_REFUSED = frozenset({401, 403})  # unauthorized, forbidden
_STATUS_NAMES = ("status_code", "status", "code")


def stop_rule(stop_on: StopOn | None) -> Callable[[BaseException], bool] | None:
    """Make the function that says whether an error ends the run.

    Raises:
        ValueError: ``stop_on`` is none of what it may be.
    """
    if stop_on is None:
        return None
    types = stop_on if isinstance(stop_on, tuple) else (stop_on,)
    if types and all(isinstance(one, type) and issubclass(one, BaseException) for one in types):
        return lambda error: any(_is_one(error, one) for one in types)  # type: ignore[arg-type]
    if callable(stop_on) and not isinstance(stop_on, type):
        return stop_on
    raise ValueError(
        "stop_on must be a type of error, a tuple of them, or a function that is given the error "
        f"and tells whether it ends the run, not {stop_on!r}"
    )


def _is_one(error: BaseException, kind: type[BaseException]) -> bool:
    """Tell whether an error is of a type, also where only its description crossed a border."""
    if isinstance(error, RemoteError):
        name = kind.__qualname__
        dotted = name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"
        if dotted in error.bases:
            return True
    return isinstance(error, kind)


def find_stop(error: BaseException | None) -> BaseException | None:
    """Give the ``StopRun`` that an error is or, being a group, holds; None where there is none."""
    if isinstance(error, StopRun):
        return error
    if isinstance(error, RemoteError):
        return error if _is_one(error, StopRun) else None
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(find_stop, error.exceptions)), None)
    return None


def authentication_failed(error: BaseException) -> bool:
    """Tell whether a server refused who asked: HTTP status 401 or 403.

    A rule for ``stop_on``: a key that is wrong for one call is wrong for all that share it.
    The status is read where clients keep it: ``status_code``, ``status`` or ``code`` of the error,
    or ``response.status_code``.
    """
    found = [getattr(error, name, None) for name in _STATUS_NAMES]
    found.append(getattr(getattr(error, "response", None), "status_code", None))
    return any(isinstance(status, int) and status in _REFUSED for status in found)
