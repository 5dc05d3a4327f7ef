"""Values as strict JSON, from which the same values come back: same type, same content.

What JSON has stands for itself; everything else is an object ``{"$": tag, "v": content}``.
What has no such form is refused, with the path to it; nothing is ever pickled or imported.
"""

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from json.encoder import encode_basestring_ascii
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NoReturn
from uuid import UUID
from zoneinfo import ZoneInfo

from stratagem import Expansion
from stratagem_journal.errors import ValueRefusedError

__all__ = ["Other", "dumps", "loads", "loads_all", "plain", "refuse"]

DEEPEST = 200
"""Each level takes two frames to write and to read, of the thousand that Python has."""

DECIMAL_BITS = 4096
"""Integers up to here are decimal: Python itself refuses to read those of over 4,300 digits."""

Other = Callable[[Any], tuple[str, Any]]
"""Gives the tag and the content of a value that has none here, or refuses it."""
Rebuild = Callable[[str, Any], Any]
"""Gives the value of a tag that is unknown here, or raises LookupError."""

_PLENTY = 2**63
_TOO_DEEP = f"is nested more than {DEEPEST} deep, or contains itself"
_HALVES = "\\ud"
"""Stands in what is written of characters beyond 16 bits, and of halves of them."""

_MARK = b'"$"'
"""Stands in what is written of every value that JSON does not have, and of few others."""

_AS_IT_IS = frozenset({type(None), bool, str})
_NUMBERS = frozenset({int, float})
_SETS: dict[type, str] = {set: "set", frozenset: "frozenset"}


def refuse(value: object) -> NoReturn:
    """Refuse a value of a type that is unknown here.

    Raises:
        ValueRefusedError: always.
    """
    raise ValueRefusedError(
        f"is of type {type(value).__qualname__!r}, which has no JSON form that brings it back; "
        "return plain data, or give the journal a `codec`"
    )


def dumps(value: Any, other: Other = refuse, *, sort_keys: bool = False) -> bytes:
    """Write a value as JSON, in ASCII.

    Raises:
        ValueRefusedError: it has no such form.
    """
    kind = type(value)
    if kind is str and value.isascii():  # what is most frequent, as below, but sooner
        return encode_basestring_ascii(value).encode("ascii")
    if kind is int and -_PLENTY < value < _PLENTY:
        return b"%d" % value
    try:
        shape = plain(value, other)
    except RecursionError:
        raise ValueRefusedError(_TOO_DEEP) from None
    written = (_encode_sorted if sort_keys else _encode)(shape)
    if _HALVES in written and _decode(written)[0] != shape:
        raise ValueRefusedError("has text with halves of characters, which come back as whole ones")
    return written.encode("ascii")


_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_encode_sorted = json.JSONEncoder(allow_nan=False, separators=(",", ":"), sort_keys=True).encode


def plain(value: Any, other: Other = refuse, depth: int = 0) -> Any:
    """Give what JSON is written of.

    Raises:
        ValueRefusedError: there is none.
    """
    kind = type(value)
    if kind in _NUMBERS:
        return _number(value, kind)
    if kind in _AS_IT_IS:
        return value
    if depth > DEEPEST:
        raise ValueRefusedError(_TOO_DEEP)
    if kind is list:
        return _items(value, other, depth)
    if kind is dict:
        return _dict(value, other, depth)
    if kind in _SETS:  # in an order that does not change from run to run
        return _tagged(_SETS[kind], sorted(_items(value, other, depth), key=_encode))
    write = _WRITERS.get(kind)
    tag, content = other(value) if write is None else write(value)
    return _tagged(tag, plain(content, other, depth + 1))


def _number(value: Any, kind: type) -> Any:
    if kind is int:
        return value if value.bit_length() <= DECIMAL_BITS else _tagged("int", hex(value))
    return value if math.isfinite(value) else _tagged("float", repr(value))


def _tagged(tag: str, content: object) -> dict[str, object]:
    return {"$": tag, "v": content}


def _items(values: Iterable[Any], other: Other, depth: int) -> list[Any]:
    parts: list[Any] = []
    for part in values:
        if type(part) in _AS_IT_IS:
            parts.append(part)
            continue
        try:
            parts.append(plain(part, other, depth + 1))
        except ValueRefusedError as error:
            error.steps.append(f"[{len(parts)}]")
            raise
    return parts


def _dict(value: dict[Any, Any], other: Other, depth: int) -> dict[str, Any]:
    parts = {}
    for key, part in value.items():
        if type(key) is not str or key == "$":
            return _tagged("dict", _items(map(list, value.items()), other, depth))
        if type(part) in _AS_IT_IS:
            parts[key] = part
            continue
        try:
            parts[key] = plain(part, other, depth + 1)
        except ValueRefusedError as error:
            error.steps.append(f".{key}" if key.isidentifier() else f"[{key!r}]")
            raise
    return parts


def _datetime(value: datetime) -> tuple[str, Any]:
    return "datetime", [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, _zone(value)]


def _time(value: time) -> tuple[str, Any]:
    return "time", [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, _zone(value)]


def _zone(value: datetime | time) -> str | float | None:
    zone = value.tzinfo
    if zone is None:
        return None
    if type(zone) is ZoneInfo and zone.key is not None:
        return zone.key
    offset = zone.utcoffset(None) if type(zone) is timezone else None
    if offset is None or repr(timezone(offset)) != repr(zone):
        raise ValueRefusedError(f"has the time zone {zone!r}, which cannot be written")
    return offset.total_seconds()


_Writer = Callable[[Any], tuple[str, Any]]
_WRITERS: dict[type, _Writer] = {
    tuple: lambda value: ("tuple", list(value)),
    bytes: lambda value: ("bytes", b64encode(value).decode("ascii")),
    bytearray: lambda value: ("bytearray", b64encode(value).decode("ascii")),
    complex: lambda value: ("complex", [value.real, value.imag]),
    range: lambda value: ("range", [value.start, value.stop, value.step]),
    Decimal: lambda value: ("decimal", str(value)),
    UUID: lambda value: ("uuid", str(value)),
    datetime: _datetime,
    date: lambda value: ("date", value.isoformat()),
    time: _time,
    timedelta: lambda value: ("timedelta", [value.days, value.seconds, value.microseconds]),
    type(Path()): lambda value: ("path", str(value)),
    PurePosixPath: lambda value: ("posix-path", str(value)),
    PureWindowsPath: lambda value: ("windows-path", str(value)),
    Expansion: lambda value: ("expansion", [value.value, list(value.items)]),
}


def _unknown(tag: str, _content: Any) -> NoReturn:
    raise LookupError(f"it has a value of the unknown kind {tag!r}")


def loads(written: bytes, rebuild: Rebuild = _unknown) -> Any:
    """Give the value that ``dumps`` wrote.

    Args:
        written: what it wrote.
        rebuild: gives the values of tags that are unknown here.

    Raises:
        LookupError: a part is of a kind that nobody here knows.
        ValueError: it is none of ours.
    """
    try:
        shape, end = _decode(written.decode("ascii"))
        if end != len(written):
            raise ValueError("there is more after it")
        return _read(shape, rebuild) if _MARK in written else shape
    except (KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"it is no value: {type(error).__name__}: {error}") from error


def loads_all(written: list[bytes], rebuild: Rebuild = _unknown) -> list[Any]:
    """Give the values that ``dumps`` wrote, one after another; faster than one by one.

    Raises:
        LookupError, ValueError: as ``loads`` does.
    """
    whole = b"[%b]" % b",".join(written)
    if _MARK in whole:
        return [loads(one, rebuild) for one in written]
    values: list[Any] = loads(whole)
    if len(values) != len(written):
        raise ValueError("there is more after one of them")
    return values


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_decode = json.JSONDecoder(parse_constant=_no_constant).raw_decode


def _read(shape: Any, rebuild: Rebuild) -> Any:
    if type(shape) is list:
        return [_read(part, rebuild) for part in shape]
    if type(shape) is not dict:
        return shape
    if "$" not in shape:
        return {key: _read(part, rebuild) for key, part in shape.items()}
    tag, content = shape["$"], _read(shape["v"], rebuild)
    read = _READERS.get(tag)
    return rebuild(tag, content) if read is None else read(content)


def _at(zone: str | float | None) -> timezone | ZoneInfo | None:
    if zone is None:
        return None
    return ZoneInfo(zone) if isinstance(zone, str) else timezone(timedelta(seconds=zone))


def _read_datetime(content: Any) -> datetime:
    naive, fold, zone = content
    return datetime.fromisoformat(naive).replace(fold=fold, tzinfo=_at(zone))


def _read_time(content: Any) -> time:
    naive, fold, zone = content
    return time.fromisoformat(naive).replace(fold=fold, tzinfo=_at(zone))


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "int": lambda content: int(content, 16),
    "float": float,
    "dict": dict,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "bytes": lambda content: b64decode(content, validate=True),
    "bytearray": lambda content: bytearray(b64decode(content, validate=True)),
    "complex": lambda content: complex(*content),
    "range": lambda content: range(*content),
    "decimal": Decimal,
    "uuid": UUID,
    "datetime": _read_datetime,
    "date": date.fromisoformat,
    "time": _read_time,
    "timedelta": lambda content: timedelta(*content),
    "path": Path,
    "posix-path": PurePosixPath,
    "windows-path": PureWindowsPath,
    "expansion": lambda content: Expansion(content[0], content[1]),
}
