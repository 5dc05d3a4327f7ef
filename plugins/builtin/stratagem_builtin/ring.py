"""Results in memory that a worker and its parent share, so that they outlive the worker.

One writer, one reader. A record is published by moving the head once its bytes are there,
so that whatever kills the worker, every finished result can still be read.
"""

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from mmap import mmap
from multiprocessing.heap import Arena
from time import monotonic
from typing import cast
from zlib import crc32

__all__ = ["Record", "Records", "Ring", "allocate", "alone", "record_at"]

Record = tuple[int, int, float, float, bytes]
"""The number of a task, the kind of what it gave, when it began in seconds since the epoch,
how many seconds it ran, and what it gave, pickled."""

Records = tuple[Sequence[int], Sequence[int], Sequence[float], Sequence[float], Sequence[bytes]]
"""Records by the column."""

CAPACITY = 262_144
LARGEST = CAPACITY // 4
_HALF = CAPACITY // 2
_HEADER = struct.Struct("IIqddB")
# Words in the memory, each of eight bytes: where the head is, when the task that runs began, what
# number it has, and where the tail is. A word is stored through a view of its type, which does it
# at once: `struct` zeroes the place first, and who is killed just then would leave that behind.
_HEAD, _BEGAN, _RUNNING, _TAIL = range(4)
_BODY = 32
_END = _BODY + CAPACITY

# Looked up once: they are called for every task.
_HEADER_SIZE = _HEADER.size
_pack_header, _unpack_header = _HEADER.pack, _HEADER.unpack_from


def allocate() -> Arena:
    """Allocate the shared memory of one ring, to be handed to a worker as an argument."""
    return Arena(_END)


class Ring:
    """Read or write the results of one worker, and which task it runs since when.

    Args:
        memory: what ``allocate`` gave.
        wait: called, again and again, while there is no room to write.
    """

    def __init__(self, memory: Arena, wait: Callable[[], None] | None = None) -> None:
        self._arena = memory  # which closes its descriptor when nobody knows it any more
        self._memory: mmap = memory.buffer
        self._view = memoryview(self._memory)[:_BODY]
        self._words = self._view.cast("q")
        self._moments = self._view.cast("d")
        self._wait = wait
        self._at = _BODY
        self._before = -_BODY
        self._free_to = _BODY
        self._tail = 0

    @property
    def _head(self) -> int:
        """Give how many bytes have been written."""
        return self._before + self._at

    def begin(self, number: int) -> float:
        """Publish what was written, and note that the task ``number`` runs from now on.

        Only the worker calls it.

        Returns:
            Now, in ``time.monotonic()``.
        """
        began = monotonic()
        words = self._words
        # The head first: a task that is over must not look as if it were lost.
        # The moment before the number: a new number must not stand beside an old moment.
        words[_HEAD] = self._before + self._at
        self._moments[_BEGAN] = began
        words[_RUNNING] = number
        return began

    def publish(self) -> None:
        """Publish what was written. Only the worker calls it."""
        self._words[_HEAD] = self._head

    def running(self) -> tuple[int, float]:
        """Give the number of the last task begun, 0 for none, and its ``time.monotonic()``."""
        return self._words[_RUNNING], self._moments[_BEGAN]

    def write(self, number: int, kind: int, started_at: float, seconds: float, body: bytes) -> bool:
        """Write a record, to be published by the next ``begin`` or ``publish``.

        Only the worker calls it, with a body of ``LARGEST`` bytes at the most.

        Returns:
            Whether the parent should read now, since half of the room is taken.
        """
        at = self._at
        end = at + _HEADER_SIZE + len(body)
        check = crc32(body, number)
        packed = _pack_header(len(body), check, number, started_at, seconds, kind) + body
        if end > self._free_to:
            return self._write_with_care(packed)
        self._memory[at:end] = packed
        self._at = end
        return False

    def _write_with_care(self, packed: bytes) -> bool:
        """Write where the end is near, or what was not read yet; tell whether to read now."""
        taken = self._make_room(self._head + len(packed))
        first = packed[: _END - self._at]
        self._memory[self._at : self._at + len(first)] = first
        self._at += len(first)
        if self._at == _END:
            self._at, self._before = _BODY, self._before + CAPACITY
        if rest := packed[len(first) :]:
            self._memory[_BODY : _BODY + len(rest)] = rest
            self._at = _BODY + len(rest)
        self._free_to = min(_END, self._at + _HALF - taken)
        return taken > _HALF

    def _make_room(self, head: int) -> int:
        """Wait until there is room up to ``head``; give how much is taken then."""
        self._tail = self._words[_TAIL]
        while head - self._tail > CAPACITY:
            assert self._wait is not None
            self.publish()
            self._wait()
            self._tail = self._words[_TAIL]
        return head - self._tail

    def read(self) -> Records:
        """Give every record published so far. Only the parent calls it."""
        head = self._words[_HEAD]
        if head <= self._tail:
            return _NOTHING
        unread = self._bytes(self._tail, head - self._tail)
        records = _records_of_one_size(unread)
        size = len(unread)
        if records is None:
            records, size = _records(unread)
        self._tail += size
        self._words[_TAIL] = self._tail
        return records

    def _bytes(self, position: int, size: int) -> bytes:
        start = _BODY + position % CAPACITY
        end = start + size
        if end <= _END:
            return self._memory[start:end]
        return self._memory[start:_END] + self._memory[_BODY : end - CAPACITY]

    def release(self) -> None:
        """Let go of the memory."""
        self._moments.release()
        self._words.release()
        self._view.release()
        self._memory.close()


def alone(record: Record) -> Records:
    """Give one record by the column."""
    number, kind, started_at, seconds, body = record
    return [number], [kind], [started_at], [seconds], [body]


def record_at(records: Records, at: int) -> Record:
    """Give the record at a place."""
    numbers, kinds, started_at, seconds, bodies = records
    return numbers[at], kinds[at], started_at[at], seconds[at], bodies[at]


def _records(unread: bytes) -> tuple[Records, int]:
    """Read the records whose bytes are all visible here; tell how many bytes they take."""
    records: list[Record] = []
    position = 0
    while position < len(unread):
        size, check, number, started_at, seconds, kind = _unpack_header(unread, position)
        begin = position + _HEADER_SIZE
        end = begin + size
        body = unread[begin:end]
        if crc32(body, number) != check:
            break
        records.append((number, kind, started_at, seconds, body))
        position = end
    return cast("Records", tuple(zip(*records, strict=True))) or _NOTHING, position


def _records_of_one_size(unread: bytes) -> Records | None:
    """Read records that are all of the size of the first, without a step for each.

    None where they are not, or where their bytes are not all visible here yet.
    """
    size, *_ = _unpack_header(unread)
    record = _record_with(size)
    if len(unread) % record.size:
        return None
    columns = zip(*record.iter_unpack(unread), strict=True)
    sizes, checks, numbers, started_at, seconds, kinds, bodies = columns
    if sizes.count(size) != len(sizes) or tuple(map(crc32, bodies, numbers)) != checks:
        return None
    return numbers, kinds, started_at, seconds, bodies


@lru_cache(maxsize=64)
def _record_with(size: int) -> struct.Struct:
    return struct.Struct(f"{_HEADER.format}{size}s")


_NOTHING: Records = ((), (), (), (), ())
