"""The file of a journal: made for its owner alone, not to be swapped, written by one run at a time.

The database itself is never opened here but to make it:
closing a descriptor of it would drop the locks that SQLite holds for the whole process.
"""

import fcntl
import json
import os
import socket
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path

from stratagem_journal import failpoints
from stratagem_journal.errors import JournalError, JournalInUseError, JournalRefusedError

__all__ = ["Identity", "Lease", "check_trust", "create", "is_written", "this_process"]

LEASE_PATIENCE = 1.0
"""Seconds that workers of a run that was killed have to notice it, which may hold its lease."""


def create(path: Path) -> None:
    """Make an empty file, and the directories that it misses, for the owner alone.

    Raises:
        JournalError: it cannot be made.
    """
    try:
        _make_directories(path.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
        _sync_directory(path.parent)
    except FileExistsError as error:
        raise JournalInUseError(path, "another run has just made it") from error
    except OSError as error:
        raise JournalError(path, f"it cannot be made: {error.strerror}") from error
    if failpoints.reach is not None:
        failpoints.reach("file_created")


def _make_directories(directory: Path) -> None:
    missing = [one for one in (directory, *directory.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
        _sync_directory(one.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_trust(path: Path) -> None:
    """Refuse a file that somebody else could have written, or could swap.

    Raises:
        JournalRefusedError: it is not ours alone, or no file of its own.
        JournalError: there is none, or it cannot be looked at.
    """
    try:
        found, around = path.lstat(), path.parent.stat()
    except FileNotFoundError as error:
        raise JournalError(path, "there is no such file") from error
    except OSError as error:
        raise JournalError(path, f"it cannot be looked at: {error.strerror}") from error
    me = os.geteuid()
    if stat.S_ISLNK(found.st_mode):
        raise JournalRefusedError(path, "it is a symbolic link; name the file itself")
    if not stat.S_ISREG(found.st_mode):
        raise JournalRefusedError(path, "it is no regular file")
    if found.st_uid != me:
        raise JournalRefusedError(
            path, f"it belongs to user {found.st_uid}, and this is user {me}; make a copy of yours"
        )
    if found.st_nlink != 1:
        raise JournalRefusedError(path, f"it has {found.st_nlink} names (hard links); copy it")
    _check_companions(path, me)
    if found.st_mode & 0o022:
        raise JournalRefusedError(path, f"others may write it; `chmod 600 {path}` if it is yours")
    if around.st_mode & stat.S_IWOTH and not around.st_mode & stat.S_ISVTX:
        raise JournalRefusedError(
            path, f"everyone may swap it: {path.parent} is writable for all; move it elsewhere"
        )


def _check_companions(path: Path, me: int) -> None:
    """Refuse files that somebody has put where those of the journal are to be."""
    for suffix in ("-wal", "-shm", "-journal", ".lock"):
        with suppress(FileNotFoundError):
            beside = os.lstat(f"{path}{suffix}")
            if beside.st_uid != me or not stat.S_ISREG(beside.st_mode):
                raise JournalRefusedError(path, f"{path}{suffix} is no file of its owner")


class Identity:
    """Notice that a file was deleted or replaced, which SQLite itself does not.

    Args:
        path: the database, open and in WAL mode.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names = [str(path), f"{path}-wal"]
        self._known = [self._look(name) for name in self._names]

    def _look(self, name: str) -> tuple[int, int, int]:
        try:
            found = os.lstat(name)
        except OSError as error:
            raise JournalError(
                self._path, f"{name} was deleted or moved while the run wrote it"
            ) from error
        return found.st_dev, found.st_ino, found.st_nlink

    def check(self) -> None:
        """See that the files are those that were opened.

        Raises:
            JournalError: they are not.
        """
        for name, known in zip(self._names, self._known, strict=True):
            if self._look(name) != known:
                raise JournalError(self._path, f"{name} was replaced while the run wrote it")


def this_process() -> dict[str, str | int | None]:
    """Describe this process so that people can tell it from others."""
    return {
        "host": socket.gethostname(),
        "boot_id": _first_line("/proc/sys/kernel/random/boot_id"),
        "pid": os.getpid(),
        "started": _start_ticks(),
    }


def _first_line(path: str) -> str | None:
    with suppress(OSError):
        return Path(path).read_text(encoding="ascii").strip()
    return None


def _start_ticks() -> str | None:
    line = _first_line("/proc/self/stat") if sys.platform == "linux" else None
    return None if line is None else line.rpartition(")")[2].split()[19]


def is_written(path: Path) -> bool:
    """Tell whether a run holds the right to write a journal."""
    try:
        descriptor = os.open(f"{path}.lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


class Lease:
    """Hold the right to write a journal, which the system takes back when the process ends.

    Args:
        path: the journal; the lock is a file beside it, which stays.

    Raises:
        JournalInUseError: another run holds it.
        JournalError: the lock cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._descriptor = os.open(f"{path}.lock", flags, 0o600)
            os.fchmod(self._descriptor, 0o600)
        except OSError as error:
            raise JournalError(path, f"its lock cannot be made: {error.strerror}") from error
        try:
            self._acquire()
        except BaseException:
            os.close(self._descriptor)
            raise
        os.ftruncate(self._descriptor, 0)
        holder = {**this_process(), "since": time.time()}
        os.pwrite(self._descriptor, json.dumps(holder).encode("ascii"), 0)

    def _acquire(self) -> None:
        deadline = time.monotonic() + LEASE_PATIENCE
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise JournalInUseError(self._path, self._holder()) from None
                time.sleep(0.02)
            except OSError as error:
                problem = f"its file system has no locks ({error.strerror}); put it on a local disk"
                raise JournalError(self._path, problem) from error

    def _holder(self) -> str:
        try:
            holder = json.loads(os.pread(self._descriptor, 4096, 0))
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(holder["since"])))
            who = f"process {int(holder['pid'])} on {str(holder['host'])!r}, since {since},"
        except (ValueError, KeyError, TypeError, OverflowError, OSError):
            who = "another process"
        return f"{who} writes it; wait for that run to end, or name another file"

    def release(self) -> None:
        """Let another run have it."""
        os.close(self._descriptor)
