"""What a worker says when nobody can listen: while it starts, and when it crashes.

It stands behind the results in the memory that a worker shares with its parent,
so it needs no further descriptor and outlives the worker.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.heap import Arena

__all__ = ["LastWords"]

STDERR = 2
PASSED_ON = 1_048_576
STACK_BYTES = 16_384
CRASH = "Fatal Python error: "


class LastWords:
    """Write or read them; where memory has no descriptor (on Windows) there are none.

    Args:
        memory: what the results of the worker stand in.
    """

    def __init__(self, memory: Arena) -> None:
        self.descriptor: int = getattr(memory, "fd", -1)
        self._start: int = memory.size

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """Keep what goes to stderr for the parent, and pass it on at the end.

        A worker that dies before that end leaves it here.
        """
        try:
            os.lseek(self.descriptor, self._start, os.SEEK_SET)
            stderr = os.dup(STDERR)
        except OSError:  # there is nothing to write to, or stderr is closed
            yield
            return
        os.dup2(self.descriptor, STDERR)
        try:
            yield
        finally:
            os.dup2(stderr, STDERR)
            os.close(stderr)
            self._pass_on()

    def _pass_on(self) -> None:
        said = self.read(PASSED_ON)
        with suppress(OSError):  # nobody reads stderr any more
            while said:
                said = said[os.write(STDERR, said) :]
        os.ftruncate(self.descriptor, self._start)
        os.lseek(self.descriptor, self._start, os.SEEK_SET)

    def stack(self) -> str:
        """Give the Python stack of the crash, or ``""``."""
        said = self.read(STACK_BYTES).decode(errors="replace")
        return "".join(said.rpartition(CRASH)[1:]) if CRASH in said else ""

    def read(self, most: int) -> bytes:
        """Give the end of what was said, so many bytes at the most."""
        if self.descriptor < 0:
            return b""
        end = os.fstat(self.descriptor).st_size
        begin = max(self._start, end - most)
        return os.pread(self.descriptor, max(0, end - begin), begin)
