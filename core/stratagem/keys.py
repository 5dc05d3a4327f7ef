"""The names of tasks within a run."""

__all__ = ["KEY_BYTES", "checked_key", "child_key"]

KEY_BYTES = 512


def checked_key(given: object, what: str) -> str:
    """Give what a ``key`` function gave as a key.

    Args:
        given: what it gave.
        what: whose key it is.

    Raises:
        ValueError: it is too long, or empty.
    """
    key = given if isinstance(given, str) else str(given)
    size = _size(key)
    if not 0 < size <= KEY_BYTES:
        raise ValueError(f"the key of {what} has {size} bytes of UTF-8; a key has 1 to {KEY_BYTES}")
    return key


def child_key(parent: str, position: int) -> str:
    """Name the child of a task: by the path to it, whose head is digested where it is too long."""
    key = f"{parent}/{position}"
    if _size(key) <= KEY_BYTES:
        return key
    from hashlib import blake2b  # noqa: PLC0415 - slow to import, and few keys are so long

    head = blake2b(parent.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"~{head}/{position}"


def _size(key: str) -> int:
    return len(key.encode("utf-8", "surrogatepass"))
