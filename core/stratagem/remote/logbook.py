"""What tasks a worker had begun when it died, and what others had answered: read from a file.

The file is memory that the worker shares with the system, so it is there however the worker ends.
Whoever can read the files of that machine can read it: another worker, or a nanny.
"""

import hashlib
import mmap
import os
import pickle
import struct
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_IMODE

import attrs

from stratagem.remote.shipments import Answer

__all__ = ["Logbook", "Page", "Unfinished", "logbook_path", "read_logbook"]

PAGES = 512
PAGE_BYTES = 16_384
FORGOTTEN_SECONDS = 7 * 86_400.0
_HEADER = struct.Struct("<QQ")
_LENGTH = struct.Struct("<I")


@attrs.frozen
class Unfinished:
    """Be what a worker that is dead had not told.

    Attributes:
        running: the numbers of the tasks that it had begun and not ended.
        answers: of those that it had ended.
    """

    running: frozenset[int]
    answers: tuple[Answer, ...]


def logbook_path(session: str, worker: str) -> Path:
    """Say where the logbook of a worker is; nobody else can guess it who lacks the session.

    Args:
        session: what the owner calls its session, and nobody can guess.
        worker: the address of the worker, or whatever tells it from all others.

    Raises:
        OSError: the directory cannot be made, or is not ours alone.
    """
    directory = Path(tempfile.gettempdir()) / f"stratagem-{_user()}"
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    found = directory.lstat()
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or S_IMODE(found.st_mode) & 0o077):
        raise PermissionError(f"{directory} is open to others; remove it")
    name = hashlib.sha256(f"{session} {worker}".encode()).hexdigest()[:32]
    return directory / name


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


class Logbook:
    """Note what this worker begins and ends, in a file that outlives it.

    Args:
        path: where.
        pages: how many shipments it has room for, and one.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path, pages: int = PAGES) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path, flags, 0o600)
        try:
            # A page that the disk has no room for would kill who writes on it.
            os.posix_fallocate(descriptor, 0, pages * PAGE_BYTES)
            self._memory = mmap.mmap(descriptor, pages * PAGE_BYTES)
        except BaseException:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
        _sweep(path.parent)
        self._lock = threading.Lock()
        self._free = deque(range(1, pages))
        self._pageless = 0

    @contextmanager
    def page(self) -> Iterator["Page"]:
        """Hold a page for what is noted of one shipment.

        It is wiped when it is used again, the oldest first: what stands on it has been told by
        then, but a worker may die just before it tells. Where all are in use nothing is noted,
        and the book says so on its first page.
        """
        with self._lock:
            number = self._free.popleft() if self._free else 0
            self._count_pageless(number == 0)
        page = Page(self._memory, number)
        page.clear()
        try:
            yield page
        finally:
            with self._lock:
                self._count_pageless(-(number == 0))
                if number:
                    self._free.append(number)

    def _count_pageless(self, more: int) -> None:
        if more:
            self._pageless += more
            _HEADER.pack_into(self._memory, 0, self._pageless, 0)

    def close(self) -> None:
        """Remove the file."""
        with suppress(OSError):
            self.path.unlink()
        with suppress(BufferError):
            self._memory.close()


def _sweep(directory: Path) -> None:
    """Remove logbooks that nobody has written for long: their owners never asked for them."""
    oldest = time.time() - FORGOTTEN_SECONDS
    for path in directory.iterdir():
        with suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()


class Page:
    """Hold the notes on one shipment; on page 0 there are none."""

    def __init__(self, memory: mmap.mmap, number: int) -> None:
        self._number = number
        self._memory = memory
        self._start = number * PAGE_BYTES
        self._used = 0

    def begin(self, number: int) -> None:
        """Note that a task begins."""
        if self._number:
            _HEADER.pack_into(self._memory, self._start, number, self._used)

    def end(self, answer: Answer) -> bool:
        """Note what became of it; False where there is no room: so it still passes for running."""
        if not self._number:
            return True
        record = pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
        size = _LENGTH.size + len(record)
        if _HEADER.size + self._used + size > PAGE_BYTES:
            return False
        place = self._start + _HEADER.size + self._used
        self._memory[place : place + size] = _LENGTH.pack(len(record)) + record
        self._used += size
        _HEADER.pack_into(self._memory, self._start, 0, self._used)
        return True

    def clear(self) -> None:
        """Forget everything."""
        if self._number:
            self._used = 0
            _HEADER.pack_into(self._memory, self._start, 0, 0)


def read_logbook(path: Path) -> Unfinished | None:
    """Tell what a dead worker had not told, and remove its logbook.

    None where there is none, or it does not tell of all tasks.
    """
    try:
        written = path.read_bytes()
        path.unlink()
    except OSError:
        return None
    pageless, _ = _HEADER.unpack_from(written, 0)
    if pageless:
        return None
    running: set[int] = set()
    answers: list[Answer] = []
    for start in range(PAGE_BYTES, len(written), PAGE_BYTES):
        number, used = _HEADER.unpack_from(written, start)
        running |= {number} - {0}
        place, end = start + _HEADER.size, start + _HEADER.size + used
        while place < end:
            (length,) = _LENGTH.unpack_from(written, place)
            place += _LENGTH.size
            answers.append(pickle.loads(written[place : place + length]))  # noqa: S301 - our worker's
            place += length
    return Unfinished(frozenset(running), tuple(answers))
