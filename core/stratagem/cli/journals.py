"""``stratagem runs``, ``export`` and ``salvage``, by the plugin that gives ``journal``.

Its factory can say what a journal holds; no more of it is known here.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

from stratagem.cli.engines import open_engine
from stratagem.cli.messages import (
    EXIT_BAD_INPUT,
    EXIT_BROKEN_PIPE,
    CommandError,
    printable,
    say,
)
from stratagem.cli.output import LineWriter, OutputError, open_output, refuse_same_path
from stratagem.cli.records import encode, record_of
from stratagem.cli.standard import fill_standard_descriptors, take_stdout
from stratagem.engine import JOURNAL
from stratagem.errors import StratagemError
from stratagem.task import Outcome

__all__ = ["describe_journal", "export_journal", "salvage_journal"]


class _Journals(Protocol):
    def describe(self, path: str) -> Iterator[str]: ...
    def outcomes(self, path: str) -> Iterator[Outcome]: ...
    def salvage(self, path: str, target: str) -> Iterator[str]: ...


def describe_journal(path: str) -> int:
    """Print what a journal holds; give the exit code."""
    lines = (f"{printable(line)}\n".encode() for line in _journals().describe(path))
    return _write(lines, "-")


def salvage_journal(path: str, target: str) -> int:
    """Copy what is whole of a journal, and print what is lost; give the exit code."""
    lines = (f"{printable(line)}\n".encode() for line in _journals().salvage(path, target))
    return _write(lines, "-")


def export_journal(path: str, output: str) -> int:
    """Write a line for each outcome in a journal; give the exit code."""
    if output != "-":
        refuse_same_path(path, output)
    lines = (encode(record_of(outcome))[1] for outcome in _journals().outcomes(path))
    return _write(lines, output)


def _journals() -> _Journals:
    with open_engine(quiet=True) as engine:
        try:
            factory: Callable[..., Any] = engine.plugins.strategy_info(JOURNAL).factory
        except StratagemError as error:
            raise CommandError(str(error)) from error
    if not all(
        callable(getattr(factory, name, None)) for name in vars(_Journals) if name[0] != "_"
    ):
        raise CommandError(f"the plugin that gives {JOURNAL!r} cannot say what a journal holds")
    return cast("_Journals", factory)


def _write(lines: Iterator[bytes], output: str) -> int:
    fill_standard_descriptors()
    try:
        first = next(lines, None)  # what is refused leaves the output as it is
        descriptor = take_stdout() if output == "-" else open_output(output)
        with LineWriter(descriptor, _nothing) as writer:
            if first is not None:
                writer.write(first)
            for line in lines:
                writer.write(line)
    except StratagemError as error:
        raise CommandError(str(error), error.exit_code) from error
    except OutputError as failure:
        if isinstance(failure.__cause__, BrokenPipeError):
            return EXIT_BROKEN_PIPE
        where = "stdout" if output == "-" else output
        say(f"{where} cannot be written: {failure.__cause__}")
        return EXIT_BAD_INPUT
    return 0


def _nothing() -> None:
    return
