"""What a task was given, as a digest: two that differ were given different things.

An input need not come back, so more has a form here than as a value:
records of attrs, dataclasses and pydantic, members of enums, plain variables of a closure.
An object without one, such as a client, is known by its type while all tasks share it;
where each task has another, what they were given cannot be compared.
"""

import dataclasses
from collections.abc import Callable
from enum import Enum
from functools import partial
from hashlib import sha256
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import attrs

from stratagem_journal.errors import ValueRefusedError
from stratagem_journal.values import dumps, refuse

__all__ = ["Fingerprints"]

_SHORT = frozenset({str, int})


class Fingerprints:
    """Digest what the tasks of one stream are given.

    Args:
        salt: keeps who reads a journal from trying out likely inputs beforehand.
    """

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self._shared: dict[object, object] = {}

    def of(self, call: Callable[[], Any]) -> tuple[bytes | None, bool]:
        """Digest what ``call`` would be called with, and tell whether the digest says it all.

        There is no digest where nothing of it can be told. It does not say all where a part,
        which counts by its type, is another object than the task before had.
        """
        if type(call) is partial and len(call.args) == 1 and not call.keywords:
            (item,) = call.args
            if type(item) in _SHORT and type(call.func) is FunctionType:  # as below, but sooner
                return sha256(b'%b{"0":%b}' % (self._salt, dumps(item))).digest(), True
        given = _given(call)
        if given is None:
            return None, False
        try:
            written = dumps(given, _shape, sort_keys=True)
        except (ValueRefusedError, RecursionError):
            return self._of_parts(given)
        return sha256(self._salt + written).digest(), True

    def _of_parts(self, given: dict[str, object]) -> tuple[bytes | None, bool]:
        whole = sha256(self._salt)
        is_known, can_compare = False, True
        for place, part in given.items():
            try:
                whole.update(dumps([place, part], _shape, sort_keys=True))
                is_known = True
            except (ValueRefusedError, RecursionError):
                can_compare = can_compare and self._shared.setdefault(place, part) is part
                whole.update(dumps([place, type(part).__qualname__]))
        return (whole.digest(), can_compare) if is_known else (None, False)


_PLAIN_CALLS = (FunctionType, BuiltinFunctionType, type(str.upper), type)


def _given(call: Callable[[], Any]) -> dict[str, object] | None:
    """Give, by their places, what is bound to a call; None where there may be more to it."""
    if type(call) is partial:
        given: dict[str, object] = {str(at): part for at, part in enumerate(call.args)}
        given |= call.keywords
        if type(call.func) is MethodType:
            given["self"] = call.func.__self__
        elif not isinstance(call.func, _PLAIN_CALLS):  # an object that is called
            given["()"] = call.func
        return given
    if type(call) is not FunctionType:
        return None
    try:
        cells = {f"({n})": cell.cell_contents for n, cell in enumerate(call.__closure__ or ())}
    except ValueError:  # a variable that is not set yet
        return None
    defaults = {str(at): part for at, part in enumerate(call.__defaults__ or ())}
    return {**cells, **defaults, **(call.__kwdefaults__ or {})}


def _shape(value: Any) -> tuple[str, Any]:
    kind = type(value)
    if isinstance(value, Enum):
        return "enum", [kind.__qualname__, value.name]
    if attrs.has(kind):
        fields = [(field.name, getattr(value, field.name)) for field in attrs.fields(kind)]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    elif callable(getattr(kind, "model_dump", None)):
        fields = [("model", value.model_dump())]
    else:
        refuse(value)
    return "object", [kind.__qualname__, dict(fields)]
