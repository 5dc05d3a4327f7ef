"""Where the lines of ``stratagem map`` go: whole lines, many at a time, none held back for long."""

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from stratagem.cli.messages import CommandError

__all__ = ["LineWriter", "OutputError", "open_output", "refuse_same_file", "refuse_same_path"]

FLUSH_BYTES = 2**16
FLUSH_SECONDS = 0.1
_OF_A_JOURNAL = ("", "-wal", "-shm", ".lock")


class OutputError(Exception):
    """Say that lines cannot be written any more; its cause is the OSError."""


def open_output(path: str) -> int:
    """Open a file for the lines, and empty it.

    Raises:
        CommandError: it cannot be opened.
    """
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    except OSError as error:
        raise CommandError(f"output {path} cannot be opened: {error.strerror}") from error


def refuse_same_file(source: int, output: int | str) -> None:
    """Refuse to write into the file that is read.

    Raises:
        CommandError: both are one regular file.
    """
    try:
        there = os.fstat(output) if isinstance(output, int) else Path(output).stat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise CommandError(f"output cannot be opened: {error.strerror}") from error
    here = os.fstat(source)
    if stat.S_ISREG(here.st_mode) and os.path.samestat(here, there):
        raise CommandError("input and output are the same file")


def refuse_same_path(journal: str, output: str) -> None:
    """Refuse to write into a journal or a file beside it, whether it is there yet or not.

    Raises:
        CommandError: the output is one of them.
    """
    if Path(output).resolve() in {Path(f"{journal}{end}").resolve() for end in _OF_A_JOURNAL}:
        raise CommandError("the journal and the output are the same file")


class LineWriter:
    """Write lines to a descriptor, each batch of whole lines in one go.

    A thread of its own writes what has waited for a tenth of a second,
    so lines reach the file while the caller waits for more.

    Args:
        descriptor: where to; it is closed at the end.
        on_failure: called, from that thread, when writing failed there.
    """

    def __init__(self, descriptor: int, on_failure: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._on_failure = on_failure
        self._failure: OSError | None = None
        self._lines: list[bytes] = []
        self._size = 0
        self._turn = threading.Lock()
        self._filled = threading.Event()
        self._idles = False
        self._closed = threading.Event()
        threading.Thread(target=self._flush_soon, name="stratagem-writer", daemon=True).start()

    def write(self, line: bytes) -> None:
        """Add a line, with its line end.

        Raises:
            OutputError: this one or an earlier one cannot be written.
        """
        with self._turn:
            self._lines.append(line)
            self._size += len(line)
            if self._size >= FLUSH_BYTES:
                self._write_out()
        if self._idles:
            self._idles = False
            self._filled.set()

    def flush(self) -> None:
        """Write out what was added.

        Raises:
            OutputError: it cannot be written.
        """
        with self._turn:
            self._write_out()

    def _write_out(self) -> None:
        if self._failure is not None:
            raise OutputError from self._failure
        batch, self._lines, self._size = b"".join(self._lines), [], 0
        try:
            while batch:
                batch = batch[os.write(self._descriptor, batch) :]
        except OSError as error:
            self._failure = error
            raise OutputError from error

    def _flush_soon(self) -> None:
        while True:
            self._filled.clear()
            self._idles = True  # first, else a line that comes now would wake nobody
            if not self._lines:
                self._filled.wait()
            if self._closed.wait(FLUSH_SECONDS):
                return
            try:
                self.flush()
            except OutputError:
                self._on_failure()
                return

    def close(self) -> None:
        """Write out what was added, and close the descriptor.

        Raises:
            OutputError: a line could not be written.
        """
        self._closed.set()
        self._filled.set()
        try:
            self.flush()
        finally:
            with self._turn:
                self._failure = self._failure or OSError("it is closed")
                os.close(self._descriptor)

    def __enter__(self) -> Self:
        """Give the writer itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the writer."""
        self.close()
