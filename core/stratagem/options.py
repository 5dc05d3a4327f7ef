"""Checks of option values, with errors that say what is right."""

import logging
import math

__all__ = ["require_count", "require_level", "require_seconds"]


def require_count(option: str, count: int, *, least: int = 1) -> int:
    """Give ``count`` back.

    Raises:
        ValueError: it is no whole number, or less than ``least``.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < least:
        raise ValueError(f"{option} must be a whole number of at least {least}, not {count!r}")
    return count


def require_seconds(option: str, seconds: float, *, zero: bool = True) -> float:
    """Give ``seconds`` back.

    Raises:
        ValueError: it is no finite number, negative, or 0 where ``zero`` is not allowed.
    """
    fits = (
        isinstance(seconds, int | float)
        and not isinstance(seconds, bool)
        and math.isfinite(seconds)
        and (seconds > 0 or (zero and seconds == 0))
    )
    if not fits:
        bound = "of 0 or more" if zero else "over 0"
        raise ValueError(f"{option} must be a number of seconds {bound}, not {seconds!r}")
    return seconds


def require_level(option: str, level: str | bool | None) -> str | bool | None:  # noqa: FBT001
    """Give ``level`` back.

    Raises:
        ValueError: it is neither True, False, None, nor the name of a level of ``logging``.
    """
    names = logging.getLevelNamesMapping()
    if (
        level is None
        or isinstance(level, bool)
        or (isinstance(level, str) and level.upper() in names)
    ):
        return level
    known = ", ".join(sorted(name.lower() for name in names))
    raise ValueError(f"{option} must be True or one of {known}, not {level!r}")
