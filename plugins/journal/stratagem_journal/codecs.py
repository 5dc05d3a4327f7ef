"""How values of types that the journal does not know are written, and come back.

A type travels under its name and is only ever made where the caller has given it:
nothing that stands in a file decides what is imported.
"""

import dataclasses
import pkgutil
import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import attrs

from stratagem_journal.values import dumps, loads, loads_all, refuse

__all__ = ["Codec", "read_codec"]

_KEPT = (bytes, bytearray, complex, Decimal, UUID, datetime, date, time, timedelta)
"""Types that the journal writes by itself, so that what takes objects apart leaves them."""

_PLACE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")

Pair = tuple[Callable[[Any], Any], Callable[[Any], Any]]
_WHOLE = "coded"


@attrs.frozen
class _Whole:
    content: Any


def _take_whole(value: Any) -> tuple[str, Any]:
    return (_WHOLE, value.content) if isinstance(value, _Whole) else refuse(value)


@attrs.frozen
class Codec:
    """Write values and read them back.

    Attributes:
        types: how values of each of these types are taken apart and made again, by name.
        whole: takes whole values apart and makes them again; None to leave them as they are.
    """

    types: dict[str, tuple[type, Pair]] = attrs.field(factory=dict)
    whole: Pair | None = None

    def encode(self, value: Any) -> bytes:
        """Write a value.

        Raises:
            ValueRefusedError: it has no form from which it comes back.
        """
        if self.whole is not None:
            return dumps(_Whole(self.whole[0](value)), _take_whole)
        return dumps(value, self._take_apart)

    def decode(self, written: bytes) -> Any:
        """Read a value.

        Raises:
            LookupError: a part of it is of a kind that this codec does not know.
            ValueError: it is none of ours.
        """
        value = loads(written, self._make)
        if self.whole is None:
            return value
        if isinstance(value, _Whole):
            return _made(self.whole[1], value.content)
        raise LookupError("it was written without the functions that are given as `codec`")

    def decode_all(self, written: list[bytes]) -> list[Any]:
        """Read values; faster than one by one.

        Raises:
            LookupError, ValueError: as ``decode`` does.
        """
        if self.whole is None:
            return loads_all(written, self._make)
        return [self.decode(one) for one in written]

    def _take_apart(self, value: Any) -> tuple[str, Any]:
        kind = type(value)
        known, (take_apart, _) = self.types.get(kind.__qualname__, (None, (refuse, refuse)))
        if known is not kind:
            refuse(value)
        return "object", [kind.__qualname__, take_apart(value)]

    def _make(self, tag: str, content: Any) -> Any:
        if tag == _WHOLE and self.whole is not None:
            return _Whole(content)
        if tag == _WHOLE:
            raise LookupError("it was written by a pair of functions; give them as `codec`")
        if tag != "object":
            raise LookupError(f"it has a value of the unknown kind {tag!r}")
        name, parts = content
        if name not in self.types:
            raise LookupError(f"it has a value of type {name!r}; give that type as `codec`")
        return _made(self.types[name][1][1], parts)


def _made(make: Callable[[Any], Any], parts: Any) -> Any:
    try:
        return make(parts)
    except Exception as error:
        raise LookupError(f"the codec raised {type(error).__name__}: {error}") from error


def _as_it_is(value: Any) -> Any:
    return value


def _as_it_was(value: Any, _kind: Any) -> Any:
    return value


def read_codec(given: object) -> Codec:
    """Make a codec of what a caller gives: None, a type, several, or two functions.

    In their place stands the text ``module:name`` where one of them is found.

    Raises:
        TypeError: it is none of these, or what takes such a type apart is not installed.
        ValueError: the text names no place, or there is nothing there.
    """
    if isinstance(given, str):
        given = _found(given)
    if given is None:
        return Codec()
    if isinstance(given, type):
        given = (given,)
    if isinstance(given, Iterable):
        parts = list(given)
        if parts and all(isinstance(part, type) for part in parts):
            return Codec({part.__qualname__: (part, _pair_of(part)) for part in parts})
        if len(parts) == len(("encode", "decode")) and all(callable(part) for part in parts):
            return Codec(whole=(parts[0], parts[1]))
    raise TypeError(
        "codec must be a type, several types, or a pair of functions that take a value apart "
        f"and make it again, or the place of one as text (package.module:name), not {given!r}"
    )


def _found(place: str) -> object:
    if not _PLACE.fullmatch(place):
        raise ValueError(f"codec must be written package.module:name, not {place!r}")
    try:
        return pkgutil.resolve_name(place)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"codec {place!r} cannot be had: {error}") from error


def _pair_of(kind: Any) -> Pair:
    if callable(getattr(kind, "model_dump", None)) and callable(
        getattr(kind, "model_validate", None)
    ):
        return (lambda value: value.model_dump()), kind.model_validate
    is_record: bool = attrs.has(kind) or dataclasses.is_dataclass(kind)
    if not is_record:
        raise TypeError(
            f"codec has {kind.__qualname__!r}, which is no class of attrs, dataclasses or "
            "pydantic; give a pair of functions instead"
        )
    try:
        import cattrs  # noqa: PLC0415 - optional: only who has such types needs it
    except ImportError as error:
        raise TypeError(
            f"codec has {kind.__qualname__!r}, which cattrs takes apart and makes again; "
            "install it (`pip install cattrs`), or give a pair of functions"
        ) from error
    converter = cattrs.Converter()
    for kept in _KEPT:
        converter.register_unstructure_hook(kept, _as_it_is)
        converter.register_structure_hook(kept, _as_it_was)
    return converter.unstructure, lambda parts: converter.structure(parts, kind)
