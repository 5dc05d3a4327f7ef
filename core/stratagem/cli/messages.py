"""What the command line says to people: a line at a time, on stderr, never at a run's cost."""

import signal
import sys

__all__ = [
    "EXIT_BAD_INPUT",
    "EXIT_BROKEN_PIPE",
    "EXIT_INTERRUPTED",
    "EXIT_TASKS_FAILED",
    "CommandError",
    "printable",
    "say",
]

EXIT_TASKS_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_BROKEN_PIPE = 141
EXIT_UNWRITABLE = 74


class CommandError(Exception):
    """Say in one sentence why a command cannot go on.

    Args:
        why: the sentence.
        exit_code: what the command exits with.
    """

    def __init__(self, why: str, exit_code: int = EXIT_BAD_INPUT) -> None:
        self.exit_code = exit_code
        super().__init__(why)


def say(line: str) -> None:
    """Write a line to stderr; one that nobody can read any more is dropped."""
    try:
        sys.stderr.write(f"stratagem: {printable(line)}\n")
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):  # stderr is closed
        return


def printable(text: str) -> str:
    """Escape whatever could move a cursor, break a line or turn the direction of the text."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
