"""Results in memory that a worker and its parent share, so that they outlive the worker.

One writer, one reader. A record is published by moving the head once its bytes are there,
so that whatever kills the worker, every finished result can still be read.
"""

import struct
import time
import zlib
from collections.abc import Callable, Iterator
from multiprocessing.heap import Arena

__all__ = ["Ring", "allocate"]

CAPACITY = 262_144
LARGEST = CAPACITY // 4
_HEADER = struct.Struct("<IIqB")
_WORD = struct.Struct("<q")
_MOMENT = struct.Struct("<d")
_HEAD, _TAIL, _RUNNING, _BEGAN, _BODY = 0, 8, 16, 24, 32


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
        _MOMENT.pack_into(self._view, _BEGAN, time.monotonic())
        _WORD.pack_into(self._view, _RUNNING, number)

    def running(self) -> tuple[int, float]:
        """Give the number of the last task begun, 0 for none, and its ``time.monotonic()``."""
        number: int = _WORD.unpack_from(self._view, _RUNNING)[0]
        return number, _MOMENT.unpack_from(self._view, _BEGAN)[0]

    def write(self, number: int, kind: int, body: bytes, wait: Callable[[], None]) -> None:
        """Publish a record of ``LARGEST`` bytes at the most. Only the worker calls it.

        Args:
            number: of the task.
            kind: of the record.
            body: its bytes.
            wait: called, again and again, while there is no room.
        """
        record = _HEADER.pack(len(body), zlib.crc32(body), number, kind) + body
        while self._head + len(record) - _WORD.unpack_from(self._view, _TAIL)[0] > CAPACITY:
            wait()
        start = self._head % CAPACITY
        first = min(len(record), CAPACITY - start)
        self._view[_BODY + start : _BODY + start + first] = record[:first]
        if first < len(record):
            self._view[_BODY : _BODY + len(record) - first] = record[first:]
        self._head += len(record)
        _WORD.pack_into(self._view, _HEAD, self._head)

    @property
    def half_full(self) -> bool:
        """Tell the worker whether the parent should read now."""
        unread: int = self._head - _WORD.unpack_from(self._view, _TAIL)[0]
        return unread > CAPACITY // 2

    def read(self) -> Iterator[tuple[int, int, bytes]]:
        """Give number, kind and body of every record published so far. Only the parent calls it."""
        head: int = _WORD.unpack_from(self._view, _HEAD)[0]
        while self._tail < head:
            size, check, number, kind = _HEADER.unpack(self._bytes(self._tail, _HEADER.size))
            body = self._bytes(self._tail + _HEADER.size, size)
            if zlib.crc32(body) != check:
                return  # its bytes are not all visible here yet
            self._tail += _HEADER.size + size
            _WORD.pack_into(self._view, _TAIL, self._tail)
            yield number, kind, body

    def _bytes(self, position: int, size: int) -> bytes:
        start = position % CAPACITY
        first = min(size, CAPACITY - start)
        read = bytes(self._view[_BODY + start : _BODY + start + first])
        return read if first == size else read + bytes(self._view[_BODY : _BODY + size - first])

    def release(self) -> None:
        """Let go of the memory."""
        self._view.release()
        self._memory.buffer.close()
