"""The commands, their arguments and options; what they do is elsewhere."""

import argparse
from collections.abc import Callable
from typing import NoReturn

from stratagem.cli.formats import Format
from stratagem.cli.messages import CommandError

__all__ = ["command_line"]

LEVELS = ("debug", "info", "warning", "error")
MAP = """\
Call FUNCTION with each item of INPUT; write one JSON object a line for each outcome.

Exit code: 0 all well, 1 some tasks failed, 2 bad usage or input,
65 the journal is refused, 74 it cannot be written, 75 another run writes it,
130 interrupted with everything done until then written.
"""


class _Parser(argparse.ArgumentParser):
    """Say what is wrong in one line, as every other error of the command line is said."""

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message}; `{self.prog} --help` lists what there is")


def command_line() -> argparse.ArgumentParser:
    """Make the parser of the command line; the command's name is in ``command``."""
    parser = _Parser(
        prog="stratagem",
        description="Run batches of agent tasks under an execution strategy chosen by one word.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    def command(name: str, description: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=description.partition("\n")[0],
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    _add_map(command("map", MAP))
    command("strategies", "List the strategies that are installed, and what they can do.")
    command("plugins", "List the plugins that are installed, which failed, and why.")
    _add_journals(command)
    return parser


def _add_map(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "function",
        metavar="FUNCTION",
        help="what to call with each item: `module:name` or `path.py:name`",
    )
    add(
        "input",
        metavar="INPUT",
        help="a .jsonl, .ndjson or .csv file, any other file for lines of text, "
        "or - for stdin (JSONL)",
    )
    add(
        "-s",
        "--strategy",
        metavar="SPEC",
        help="the strategy, by name or with options; `stratagem strategies` lists them "
        "(default: as configured, else threads)",
    )
    _add_output(parser, default="-")
    add("--format", choices=[word.value for word in Format], help="what INPUT is, if not by suffix")
    add(
        "--key",
        metavar="FIELD",
        help="take the key of each task from this field (default: its index)",
    )
    add(
        "--tag",
        action="append",
        metavar="WORD",
        help="give every task this tag; may be given again",
    )
    add("--timeout", type=float, metavar="SECONDS", help="how long one attempt of a task may run")
    add("--max-errors", type=_count, metavar="N", help="stop when so many tasks have failed")
    add(
        "--stop-on-auth",
        action="store_true",
        help="stop at the first HTTP status 401 or 403: the key is wrong",
    )
    add("--limit", type=_count, metavar="N", help="read the first N items only")
    add(
        "--journal",
        metavar="FILE",
        help="keep every outcome in this file; what it holds of a run does not run again",
    )
    add(
        "--resume",
        action=argparse.BooleanOptionalAction,
        help="insist that the journal is there already, or that it holds no run",
    )
    add("--unordered", action="store_true", help="write lines as tasks end, not in input order")
    add(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="show progress on stderr (default: when it is a terminal)",
    )
    add("--log", choices=LEVELS, help="log the life of run and tasks")
    add("-q", "--quiet", action="store_true", help="no progress and no summary on stderr")


def _add_journals(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    runs = command(
        "runs", "Say what a journal holds: counts, errors by cause, what is slow, what is in doubt."
    )
    runs.add_argument("journal", metavar="FILE", help="a journal")
    export = command(
        "export", "Write one JSON object a line for each outcome in a journal, as `map` does."
    )
    export.add_argument("journal", metavar="FILE", help="a journal")
    _add_output(export, default="-")
    salvage = command(
        "salvage", "Copy what is whole of a damaged journal into a new one, and say what is lost."
    )
    salvage.add_argument("journal", metavar="FILE", help="a damaged journal")
    _add_output(salvage)


def _add_output(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default=default,
        required=default is None,
        help="the new journal" if default is None else "where to, replacing a file (default: -)",
    )


def _count(given: str) -> int:
    if not (given.isdecimal() and int(given)):
        raise argparse.ArgumentTypeError(f"{given!r} is no whole number from 1 on")
    return int(given)
