"""What each worker does once before its first task, and the state that this leaves to its tasks."""

import pkgutil
import re
from collections.abc import Callable
from typing import Any

import attrs

from stratagem.invoke import callable_name
from stratagem.transport import decode, encode

__all__ = ["Initializer", "initializer_of", "keep_state", "worker_state"]

PLACE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_NOTHING = object()
_state: Any = _NOTHING


@attrs.frozen
class Initializer:
    """Hold a callable on its way to the workers.

    Attributes:
        name: what people call it.
        pickled: the callable; None where ``name`` is the place to import it from.
    """

    name: str
    pickled: bytes | None = None

    def load(self) -> Callable[[], Any]:
        """Give the callable, in a worker.

        Raises:
            TypeError: what stands in that place cannot be called.
        """
        if self.pickled is not None:
            return decode(self.pickled, "decode_task")  # type: ignore[no-any-return]
        found = pkgutil.resolve_name(self.name)
        if not callable(found):
            raise TypeError(f"{self.name} is of type {type(found).__name__}, which is not callable")
        return found  # type: ignore[no-any-return]


def initializer_of(given: Callable[[], Any] | str | None) -> Initializer | None:
    """Give what workers are sent for the option ``initializer``.

    Raises:
        TypeError: it is neither a callable nor text.
        ValueError: the text names no place, as ``package.module:function`` does.
        TransportError: the callable cannot be pickled.
    """
    if given is None:
        return None
    if isinstance(given, str):
        if not PLACE.fullmatch(given):
            raise ValueError(f"initializer must be written package.module:function, not {given!r}")
        return Initializer(given)
    if not callable(given):
        raise TypeError(
            "initializer must be a callable of no arguments, or the place of one as text "
            f"(package.module:function), not {given!r}"
        )
    return Initializer(callable_name(given), encode(given, "encode_task"))


def worker_state() -> Any:
    """Give what the ``initializer`` of this worker process returned.

    Raises:
        RuntimeError: this is no worker process that has an initializer.
    """
    if _state is _NOTHING:
        raise RuntimeError(
            "there is no worker state here; worker_state() is for tasks of "
            "processes(initializer=...), in their worker process"
        )
    return _state


def keep_state(state: Any = _NOTHING) -> None:
    """Make ``state`` that of this worker; without one, forget what a fork has copied here."""
    global _state  # noqa: PLW0603 - it is that of the process
    _state = state
