"""The strategy ``executor``: an executor by the place of its class."""

import pkgutil
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any

from stratagem import ExecutorStrategy
from stratagem_builtin.initializer import PLACE

__all__ = ["executor"]


def executor(
    place: str,
    *,
    max_in_flight: int | None = None,
    grace: float = 5.0,
    shares_memory: bool | None = None,
    **options: Any,
) -> ExecutorStrategy:
    """Make the strategy over an executor that is named by its place.

    Args:
        place: where the class is, or a function that makes one: ``"package.module:Class"``.
        max_in_flight: as for ``ExecutorStrategy``.
        grace: the same.
        shares_memory: the same.
        options: what the class is called with.

    Raises:
        ValueError: there is nothing in that place, or an option is out of range.
        TypeError: what is there makes no executor, or does not take the options.
    """
    return ExecutorStrategy(
        partial(_found(place), **options),
        max_in_flight=max_in_flight,
        grace=grace,
        shares_memory=shares_memory,
    )


def _found(place: str) -> Callable[..., Executor]:
    if not isinstance(place, str) or not PLACE.fullmatch(place):
        raise ValueError(f"place must be written package.module:Class, not {place!r}")
    try:
        found = pkgutil.resolve_name(place)
    except Exception as error:
        raise ValueError(f"{place} cannot be imported: {error}") from error
    if not callable(found):
        raise TypeError(f"{place} is of type {type(found).__name__}, which makes no executor")
    return found  # type: ignore[no-any-return]
