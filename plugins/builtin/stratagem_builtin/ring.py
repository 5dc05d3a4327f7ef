"""Results in memory that a worker and its parent share, so that they outlive the worker.

One writer, one reader. A record is published by moving the head once its bytes are there,
so that whatever kills the worker, every finished result can still be read.
"""

import struct
import time
from collections.abc import Callable
from multiprocessing.heap import Arena
from zlib import crc32

__all__ = ["Record", "Ring", "allocate"]

Record = tuple[int, int, float, float, bytes]
"""The number of a task, the kind of what it gave, when it began in seconds since the epoch,
how many seconds it ran, and what it gave, pickled."""

CAPACITY = 262_144
LARGEST = CAPACITY // 4
_HEADER = struct.Struct("<IIqBdd")
_MASK = 0xFFFFFFFF
_WORD = struct.Struct("<q")
_MOMENT = struct.Struct("<d")
_RUN = struct.Struct("<dq")  # the moment first: a new number must not stand beside an old one
_HEAD, _TAIL, _BEGAN, _RUNNING, _BODY = 0, 8, 16, 24, 32


def allocate() -> Arena:
    """Allocate the shared memory of one ring, to be handed to a worker as an argument."""
    return Arena(_BODY + CAPACITY)


class Ring:
    """Read or write the results of one worker, and which task it runs since when.

    Args:
        memory: what ``allocate`` gave.
    """

    def __init__(self, memory: Arena) -> None:
        self._memory = memory
        self._view = memoryview(memory.buffer)
        self._head = 0
        self._tail = 0

    def begin(self, number: int) -> None:
        """Note that the task ``number`` runs from now on. Only the worker calls it."""
        _RUN.pack_into(self._view, _BEGAN, time.monotonic(), number)

    def running(self) -> tuple[int, float]:
        """Give the number of the last task begun, 0 for none, and its ``time.monotonic()``."""
        number: int = _WORD.unpack_from(self._view, _RUNNING)[0]
        return number, _MOMENT.unpack_from(self._view, _BEGAN)[0]

    def write(self, record: Record, wait: Callable[[], None]) -> bool:
        """Publish a record with a body of ``LARGEST`` bytes at the most. Only the worker calls it.

        Args:
            record: what to publish.
            wait: called, again and again, while there is no room.

        Returns:
            Whether the parent should read now, since half of the room is taken.
        """
        number, kind, started_at, seconds, body = record
        check = crc32(body, number & _MASK)
        packed = _HEADER.pack(len(body), check, number, kind, started_at, seconds) + body
        size, head = len(packed), self._head
        while head + size - self._tail > CAPACITY // 2:
            self._tail = _WORD.unpack_from(self._view, _TAIL)[0]
            if head + size - self._tail <= CAPACITY:
                break
            wait()
        start = head % CAPACITY
        first = CAPACITY - start
        if size <= first:
            self._view[_BODY + start : _BODY + start + size] = packed
        else:
            self._view[_BODY + start : _BODY + CAPACITY] = packed[:first]
            self._view[_BODY : _BODY + size - first] = packed[first:]
        self._head = head = head + size
        _WORD.pack_into(self._view, _HEAD, head)
        return head - self._tail > CAPACITY // 2

    def read(self) -> list[Record]:
        """Give every record published so far. Only the parent calls it."""
        head: int = _WORD.unpack_from(self._view, _HEAD)[0]
        if head == self._tail:
            return []
        unread = self._bytes(self._tail, head - self._tail)
        records: list[Record] = []
        position = 0
        while position < len(unread):
            size, check, number, kind, started_at, seconds = _HEADER.unpack_from(unread, position)
            begin = position + _HEADER.size
            body = unread[begin : begin + size]
            if crc32(body, number & _MASK) != check:
                break  # its bytes are not all visible here yet
            records.append((number, kind, started_at, seconds, body))
            position = begin + size
        self._tail += position
        _WORD.pack_into(self._view, _TAIL, self._tail)
        return records

    def _bytes(self, position: int, size: int) -> bytes:
        start = position % CAPACITY
        first = min(size, CAPACITY - start)
        read = bytes(self._view[_BODY + start : _BODY + start + first])
        return read if first == size else read + bytes(self._view[_BODY : _BODY + size - first])

    def release(self) -> None:
        """Let go of the memory."""
        self._view.release()
        self._memory.buffer.close()
