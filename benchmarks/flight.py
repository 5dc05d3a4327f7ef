"""Who is in flight, counted across threads and processes."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

COUNTS = struct.Struct("=ii")


@attrs.frozen
class Flight:
    """Count who is in flight, in a file that is locked for each change."""

    path: Path

    @classmethod
    def opened(cls, path: Path) -> "Flight":
        """Make one with nobody in flight."""
        path.write_bytes(COUNTS.pack(0, 0))
        return cls(path)

    @contextmanager
    def aboard(self) -> Iterator[None]:
        """Be in flight."""
        self._change(1)
        try:
            yield
        finally:
            self._change(-1)

    @property
    def peak(self) -> int:
        """Give how many there were at most."""
        _now, most = COUNTS.unpack(self.path.read_bytes())
        return int(most)

    def _change(self, step: int) -> None:
        import fcntl

        with self.path.open("r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # closing the file lets it go
            now, most = COUNTS.unpack(file.read(COUNTS.size))
            now += step
            file.seek(0)
            file.write(COUNTS.pack(now, max(now, most)))
