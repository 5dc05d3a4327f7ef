"""The standard streams, each kept for one purpose: input, lines, words."""

import os
import sys

from stratagem.cli.messages import CommandError

__all__ = ["fill_standard_descriptors", "take_stdin", "take_stdout"]


def fill_standard_descriptors() -> None:
    """Open nothing in the place of stdin, stdout or stderr where that is closed.

    Else the next file to be opened would take its number, and get what is meant for it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def take_stdin() -> int:
    """Keep stdin for the caller alone, and leave nothing in its place that a task could read.

    A thread that blocks in ``sys.stdin`` itself would also hold up the end of the interpreter.

    Raises:
        CommandError: stdin is closed.
    """
    if sys.stdin is None:
        raise CommandError("stdin is closed; open it, or name a file")
    kept = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return kept


def take_stdout() -> int:
    """Keep stdout for the caller alone, and send what anybody else prints there to stderr.

    Child processes that start later inherit it so.

    Raises:
        CommandError: stdout is closed.
    """
    if sys.stdout is None:
        raise CommandError("stdout is closed; open it, or write to a file with -o")
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    if sys.stderr is not None:
        sys.stdout = sys.stderr
    return kept
