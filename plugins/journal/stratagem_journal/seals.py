"""The seal of a record: a digest that tells whether it is still what was written."""

import struct
from hashlib import sha256

__all__ = ["seal"]

_pack = struct.Struct("<qddq6q").pack


def seal(
    batch: int,
    key: str,
    name: str,
    given: bytes | None,
    status: str,
    started: float,
    seconds: float,
    worker: str,
    attempts: int,
    error: bytes | None,
    value: bytes | None,
) -> bytes:
    """Digest what an outcome is made of, with the length of each part.

    Raises:
        TypeError, struct.error: a part is not of its type.
    """
    head = _pack(
        batch,
        started,
        seconds,
        attempts,
        len(key),
        len(name),
        len(status),
        -1 if given is None else len(given),
        -1 if error is None else len(error),
        value is None,
    )
    words = f"{key}{name}{status}{worker}".encode("utf-8", "surrogatepass")
    return sha256(b"%b%b%b%b%b" % (head, words, given or b"", error or b"", value or b"")).digest()
