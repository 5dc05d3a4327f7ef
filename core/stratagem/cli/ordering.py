"""Lines in input order, out of outcomes in the order in which they end."""

from collections.abc import Callable

__all__ = ["InOrder"]


class InOrder:
    """Hold a line back until all before it are written.

    What it holds is what ended behind the slowest task still running, as finished lines.

    Args:
        write: called with each line in its turn.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._next = 0
        self._waiting: dict[int, bytes] = {}

    def add(self, index: int, line: bytes) -> None:
        """Write the line at ``index``, and those that waited for it, or hold it back."""
        if index != self._next:
            self._waiting[index] = line
            return
        self._write(line)
        self._next += 1
        while self._waiting and (following := self._waiting.pop(self._next, None)) is not None:
            self._write(following)
            self._next += 1

    def release(self) -> None:
        """Write what is still held back, in order, over the gaps of what will not come."""
        for index in sorted(self._waiting):
            self._write(self._waiting.pop(index))
