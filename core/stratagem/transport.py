"""How calls, values and exceptions cross a process border, so that none of them can break it.

Pickle goes first, cloudpickle where pickle can't.
An exception travels as data and, beside that, as a pickle only if that was proven to load.
"""

import pickle
import sys
import traceback
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MemberDescriptorType, ModuleType
from typing import Any

import cloudpickle

from stratagem.errors import RemoteError, TransportError

__all__ = [
    "decode",
    "decode_error",
    "encode",
    "encode_error",
    "unloadable",
    "unpicklable",
    "without_frames",
]

MESSAGE = 4_096
TRACEBACK = 16_384
SHOWN = 1_024
CHAIN = 16
PICKLED_ERROR = 1_048_576
DEEPEST = 500
GUARDED = 1_000
"""Up to this recursion limit, Python's own, pickle raises before it uses up the stack of C."""
MAIN_HINT = (
    '; workers import the script without what stands under `if __name__ == "__main__":`, '
    "so define what tasks use at the top of the script or in a module"
)
_PLAIN = (str, int, float, bool, bytes, type(None))
_FLAT = frozenset(
    {*_PLAIN, complex, bytearray, range, type, ModuleType, FunctionType, BuiltinFunctionType}
)
_SEQUENCES: tuple[Any, ...] = (list, tuple, set, frozenset)
_GROUPS = (BaseExceptionGroup, ExceptionGroup)


def encode(value: object, stage: str) -> bytes:
    """Pickle a value, by value what only exists in an interactive session.

    Args:
        value: what is to travel.
        stage: ``encode_task`` or ``encode_result``, for the error.

    Raises:
        TransportError: neither pickle nor cloudpickle can, or it is nested too deep for either.
    """
    if (
        stage == "encode_result"
        and sys.getrecursionlimit() > GUARDED
        and depth_exceeds(value, DEEPEST)
    ):
        raise TransportError(
            stage,
            f"a {type(value).__qualname__} is nested more than {DEEPEST} deep; "
            "return it flatter, or as text",
        )
    try:
        pickled = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        if b"__main__" not in pickled or main_is_importable():
            return pickled
    except Exception:  # noqa: BLE001, S110 - whatever pickle raises, cloudpickle has its turn
        pass
    try:
        return cloudpickle.dumps(value)  # type: ignore[no-any-return]
    except Exception as error:
        raise unpicklable(value, stage, error) from error


def unpicklable(value: object, stage: str, error: BaseException) -> TransportError:
    """Say that a value cannot be pickled, and why."""
    return TransportError(
        stage,
        f"a {type(value).__qualname__} cannot be pickled: {safe_str(error)}",
        shown=safe_repr(value) if stage == "encode_result" else "",
    )


def depth_exceeds(value: object, most: int) -> bool:
    """Tell whether pickle would go deeper into ``value`` than so many objects, one in another.

    It goes the way that pickle goes, once into each object, without recursion.
    """
    if type(value) in _FLAT:
        return False
    seen: set[int] = set()
    inside = [iter((value,))]
    while inside:
        for part in inside[-1]:
            if type(part) in _FLAT or id(part) in seen:
                continue
            seen.add(id(part))
            parts = _parts(part)
            if not _FLAT.issuperset(map(type, parts)):
                inside.append(iter(parts))
                break
        else:
            inside.pop()
        if len(inside) > most + 1:
            return True
    return False


def _parts(value: Any) -> Collection[Any]:
    """Give what an object is made of, without running code of its class."""
    for kind in _SEQUENCES:
        if isinstance(value, kind):
            return value if type(value) is kind else list(kind.__iter__(value))
    if isinstance(value, dict):
        return [part for pair in dict.items(value) for part in pair]
    parts = list(_attributes(value).values())
    for cls in type(value).__mro__:
        for member in vars(cls).values():
            if type(member) is MemberDescriptorType:
                with suppress(AttributeError):  # it was never set
                    parts.append(member.__get__(value))
    return parts


def _attributes(value: object) -> dict[str, Any]:
    try:
        return object.__getattribute__(value, "__dict__")  # type: ignore[no-any-return]
    except AttributeError:
        return {}


def decode(pickled: bytes, stage: str) -> Any:
    """Load what ``encode`` gave.

    Raises:
        TransportError: it does not load.
    """
    try:
        return pickle.loads(pickled)  # noqa: S301 - only what our own processes send each other
    except BaseException as error:
        raise unloadable(stage, error) from error


def unloadable(stage: str, error: BaseException) -> TransportError:
    """Say that what was pickled does not load, and why."""
    said = safe_str(error)
    hint = MAIN_HINT if "__main__" in said or "__mp_main__" in said else ""
    unloaded = TransportError(stage, f"cannot be unpickled: {type(error).__name__}: {said}{hint}")
    unloaded.__cause__ = error
    return unloaded


def without_frames(error: TransportError) -> TransportError:
    """Take the traceback off an error and its causes: the frames would keep alive what they saw."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error


def main_is_importable() -> bool:
    """Tell whether a worker process can import what runs here as ``__main__``."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    return getattr(main, "__spec__", None) is not None or (file is not None and Path(file).exists())


def safe_str(error: BaseException) -> str:
    """Give ``str(error)``, whatever that does, cut to a bound."""
    try:
        text = str(error)
    except BaseException as failure:  # noqa: BLE001 - user code
        return f"<str() failed: {type(failure).__name__}>"
    return cut(text, MESSAGE)


def safe_repr(value: object) -> str:
    """Give ``repr(value)``, whatever that does, cut to a bound."""
    try:
        text = repr(value)
    except BaseException as failure:  # noqa: BLE001 - user code
        return f"<repr() failed: {type(failure).__name__}>"
    return cut(text, SHOWN)


def cut(text: str, most: int) -> str:
    """Give ``text``, or its start with a mark and its length."""
    return text if len(text) <= most else f"{text[:most]}... (cut, {len(text)} characters)"


def encode_error(error: BaseException) -> dict[str, Any]:
    """Describe an exception and its chain as plain data that always travels."""
    return _describe(error, 0, set())


def _describe(error: BaseException, depth: int, seen: set[int]) -> dict[str, Any]:
    seen.add(id(error))

    def linked(other: BaseException | None) -> dict[str, Any] | None:
        if other is None or id(other) in seen or depth >= CHAIN:
            return None
        return _describe(other, depth + 1, seen)

    children: Iterable[BaseException] = (
        error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    )
    # The parts of a group first: one that is also its cause or context must not be missing there.
    described = [child for child in map(linked, children) if child is not None]
    return {
        "type": _dotted(type(error)),
        "bases": [_dotted(base) for base in type(error).__mro__ if base is not object],
        "message": safe_str(error),
        "traceback": _formatted(error),
        "notes": [cut(str(note), MESSAGE) for note in getattr(error, "__notes__", ())],
        "cause": linked(error.__cause__),
        "context": linked(error.__context__),
        "suppress_context": error.__suppress_context__,
        "children": described,
        "attributes": _plain_attributes(error),
        "pickle": None if type(error) in _GROUPS else _proven_pickle(error),
    }


def _dotted(cls: type) -> str:
    if cls.__module__ == "builtins":
        return cls.__qualname__
    module = "__main__" if cls.__module__ == "__mp_main__" else cls.__module__
    return f"{module}.{cls.__qualname__}"


def _formatted(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_tb(error.__traceback__))
    except Exception:  # noqa: BLE001 - a traceback is a courtesy
        return ""
    return cut(text, TRACEBACK)


def _plain_attributes(error: BaseException) -> dict[str, object]:
    try:
        attributes = dict(vars(error))
    except TypeError:
        return {}
    plain = {
        name: cut(value, MESSAGE) if isinstance(value, str) else value
        for name, value in attributes.items()
        if type(value) in _PLAIN and name != "__notes__" and _is_small(value)
    }
    return _told_by_response(error) | plain


def _told_by_response(error: BaseException) -> dict[str, object]:
    """Give what the HTTP response of an error says: the response itself does not travel."""
    told: dict[str, object] = {}
    try:
        response = error.response  # type: ignore[attr-defined]
        if isinstance(response.status_code, int):
            told["status_code"] = int(response.status_code)
        asked = response.headers.get("retry-after")
        if isinstance(asked, str):
            told["retry_after"] = asked
    except Exception:  # noqa: BLE001, S110 - no HTTP error, or one of another make
        pass
    return told


def _is_small(value: object) -> bool:
    return not isinstance(value, bytes) or len(value) <= MESSAGE


def _proven_pickle(error: BaseException) -> bytes | None:
    try:
        pickled = encode(error, "encode_result")
        if len(pickled) > PICKLED_ERROR:
            return None
        again = pickle.loads(pickled)  # noqa: S301 - made a line ago
        proven = type(again) is type(error) and safe_str(again) == safe_str(error)
    except BaseException:  # noqa: BLE001 - user code; the description travels without it
        return None
    return pickled if proven else None


def decode_error(described: dict[str, Any]) -> BaseException:
    """Rebuild an exception: the original where it can be, else a RemoteError."""
    error = _rebuilt(described)
    for note in described["notes"]:
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
    cause, context = described["cause"], described["context"]
    if context is not None:
        error.__context__ = decode_error(context)
    if cause is not None:
        error.__cause__ = decode_error(cause)
    error.__suppress_context__ = described["suppress_context"]
    return error


def _rebuilt(described: dict[str, Any]) -> BaseException:
    error = _original(described)
    if error is None:
        return RemoteError(
            described["type"],
            described["message"],
            bases=described["bases"],
            remote_traceback=described["traceback"],
            attributes=described["attributes"],
        )
    with suppress(Exception):  # an exception with slots goes without
        error.remote_traceback = described["traceback"]  # type: ignore[attr-defined]
    return error


def _original(described: dict[str, Any]) -> BaseException | None:
    if described["children"] and described["type"] in {group.__name__ for group in _GROUPS}:
        children = [decode_error(child) for child in described["children"]]
        message = described["message"].rpartition(" (")[0]
        return BaseExceptionGroup(message, children)
    pickled = described["pickle"]
    if pickled is None:
        return None
    try:
        error = pickle.loads(pickled)  # noqa: S301 - only what our own processes send each other
    except BaseException:  # noqa: BLE001 - it may load there and not here
        return None
    return error if isinstance(error, BaseException) else None
