"""From an outcome to one line of JSON, whatever its value or its error is."""

import dataclasses
import json
from datetime import date, time
from enum import Enum
from functools import cache, singledispatch
from math import isfinite
from pathlib import PurePath
from typing import Any
from uuid import UUID

import attrs

from stratagem.errors import RemoteError, TransportError
from stratagem.redaction import Redactor
from stratagem.task import Outcome, Status

__all__ = ["encode", "error_record", "line_of", "record_of"]

MESSAGE_CHARACTERS = 4096
SHOWN_CHARACTERS = 65536


def record_of(outcome: Outcome) -> dict[str, Any]:
    """Give the fields of the line for ``outcome``, in their order."""
    failed = outcome.error is not None
    return {
        "index": outcome.index,
        "key": outcome.key,
        "status": outcome.status,
        "error" if failed else "value": error_record(outcome.error) if failed else outcome.value,
        "seconds": round(outcome.seconds, 6),
        "attempts": outcome.attempts,
        **({"recalled": True} if outcome.recalled else {}),
    }


def line_of(outcome: Outcome) -> bytes | None:
    """Give the line for an outcome that is ok, the same as ``encode`` gives, in half the time.

    None for any other, for one with something out of the common, and where that has to say that
    the value has no JSON form.
    """
    if outcome.error is not None or outcome.status != "ok" or outcome.recalled:
        return None
    seconds, value = outcome.seconds, outcome.value
    if not (type(seconds) is float and isfinite(seconds) and type(outcome.attempts) is int):
        return None
    try:
        written = "null" if value is None else _encode(value)
    except Exception:  # noqa: BLE001 - the value is the task's, and may raise anything
        return None
    return (
        f'{{"index": {outcome.index}, "key": {_quote(outcome.key)}, "status": "ok", '
        f'"value": {written}, "seconds": {round(seconds, 6)!r}, "attempts": {outcome.attempts}}}\n'
    ).encode("ascii")


def encode(record: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Give the record and its line.

    A value that has no JSON form makes the record one of an error, with the start of its ``repr``,
    so that the answer is not wholly lost.
    """
    try:
        return record, _line(record)
    except Exception as error:  # noqa: BLE001 - the value is the task's, and may raise anything
        record = _without_value(record, error)
        return record, _line(record)


def _line(record: dict[str, Any]) -> bytes:
    return _encode(record).encode("ascii") + b"\n"


def _without_value(record: dict[str, Any], reason: Exception) -> dict[str, Any]:
    value = record["value"]
    problem = f"a value of type {_type_name(value)} cannot be written as JSON: {_text(reason)}"
    failure = {
        **error_record(TransportError("encode_result", problem)),
        "repr": _cut(_representation(value), SHOWN_CHARACTERS),
    }
    return {
        ("error" if field == "value" else field): (
            failure if field == "value" else Status.ERROR if field == "status" else content
        )
        for field, content in record.items()
    }


def error_record(error: BaseException | None) -> dict[str, str]:
    """Give type and message of an exception as text, without secrets, the message cut at 4 KB."""
    name = error.type_name if isinstance(error, RemoteError) else _type_name(error)
    message = error.message if isinstance(error, RemoteError) else _text(error)
    safe = _redactor()(message[:SHOWN_CHARACTERS])
    return {"type": name, "message": _cut(safe, MESSAGE_CHARACTERS)}


@cache
def _redactor() -> Redactor:
    return Redactor()


def _type_name(value: object) -> str:
    kind = type(value)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def _text(error: object) -> str:
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001 - a message that cannot be had is none
        return f"(its message raised {type(second).__name__})"


def _representation(value: object) -> str:
    try:
        return repr(value)
    except Exception as second:  # noqa: BLE001 - as above
        return f"(its repr raised {type(second).__name__})"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


@singledispatch
def _plain(value: Any) -> Any:
    """Give what JSON has for a value that is not JSON by itself: a record is its fields."""
    if attrs.has(type(value)):
        return {field.name: getattr(value, field.name) for field in attrs.fields(type(value))}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if callable(getattr(type(value), "model_dump", None)):
        return value.model_dump(mode="json")
    raise TypeError(f"{_type_name(value)} has no JSON form")


@_plain.register(set)
@_plain.register(frozenset)
def _(value: set[Any] | frozenset[Any]) -> list[Any]:
    return list(value)


@_plain.register(date)
@_plain.register(time)
def _(value: date | time) -> str:
    return value.isoformat()


@_plain.register(PurePath)
@_plain.register(UUID)
def _(value: PurePath | UUID) -> str:
    return str(value)


@_plain.register(Enum)
def _(value: Enum) -> Any:
    return value.value


_encode = json.JSONEncoder(allow_nan=False, default=_plain).encode
_quote = json.encoder.encode_basestring_ascii
