"""What tasks print: by the line, each with the key of its task, none within another's."""

import io
import os
import sys
from collections.abc import Callable
from threading import get_ident
from typing import Any

from stratagem import current_task

__all__ = ["Printing"]

ONE_WRITE = 4_096
"""So many bytes go into a pipe in one piece, whoever else writes."""
KEY_CHARACTERS = 80

Begun = dict[tuple[int, int], tuple[bytes, list[bytes]]]
"""By descriptor and thread: how a line starts, and what there is of it."""


class Printing:
    """Be where the standard streams of a worker go.

    Args:
        running_key: gives the key of the task that the worker runs, None between tasks.

    Attributes:
        begun: the lines that are not finished; mostly empty.
    """

    def __init__(self, running_key: Callable[[], str | None]) -> None:
        self.begun: Begun = {}
        self._running_key = running_key

    def take_over(self) -> None:
        """Put line writers in the place of ``sys.stdout`` and ``sys.stderr``, if they are open."""
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            now = getattr(sys, name)
            if now is None or not _is_open(descriptor):
                continue
            lines = _Lines(descriptor, self.begun, self._label)
            stream = io.TextIOWrapper(
                lines,  # type: ignore[type-var]
                encoding=getattr(now, "encoding", None) or "utf-8",
                errors="backslashreplace",
                write_through=True,
            )
            setattr(sys, name, stream)

    def finish(self) -> None:
        """Write the lines that were begun, each with a line end."""
        while self.begun:
            (descriptor, _), (label, pieces) = self.begun.popitem()
            _write(descriptor, label + b"".join(pieces) + b"\n")

    def _label(self) -> bytes:
        task = current_task()
        # A thread that a task starts has no context: it is taken for one of the running task.
        key = self._running_key() if task is None else task.key
        if key is None:
            return b""
        shown = key if key.isprintable() else ascii(key)[1:-1]
        return f"[{shown[:KEY_CHARACTERS]}] ".encode(errors="backslashreplace")


class _Lines(io.RawIOBase):
    """Write whole lines to a descriptor, each in one piece; keep what is not one yet."""

    def __init__(self, descriptor: int, begun: Begun, label: Callable[[], bytes]) -> None:
        self._descriptor = descriptor
        self._begun = begun
        self._label = label

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, given: Any) -> int:
        data = bytes(given)
        whole, end, rest = data.rpartition(b"\n")
        where = (self._descriptor, get_ident())
        if end:
            label, pieces = self._begun.pop(where) if where in self._begun else (self._label(), [])
            self._put(label, b"".join([*pieces, whole]))
        if rest:
            begun = self._begun.get(where)
            if begun is None:
                begun = self._begun[where] = (self._label(), [])
            begun[1].append(rest)
        return len(data)

    def _put(self, label: bytes, whole: bytes) -> None:
        lines = [label + line + b"\n" for line in whole.split(b"\n")]
        if len(whole) + len(lines) * (len(label) + 1) <= ONE_WRITE:
            lines = [b"".join(lines)]
        for line in lines:
            _write(self._descriptor, line)


def _write(descriptor: int, line: bytes) -> None:
    left = memoryview(line)
    while left:
        left = left[os.write(descriptor, left) :]


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
