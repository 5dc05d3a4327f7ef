"""The command line, run: each command imports what it needs, and no more."""

import sys
from argparse import Namespace
from collections.abc import Callable

from stratagem.cli.arguments import command_line
from stratagem.cli.messages import EXIT_BAD_INPUT, EXIT_INTERRUPTED, CommandError, say

__all__ = ["run_app"]


def run_app() -> None:
    """Run the command that was asked for, and exit with its code."""
    try:
        sys.exit(_run(sys.argv[1:]))
    except CommandError as error:
        say(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _run(arguments: list[str]) -> int:
    parser = command_line()
    asked = parser.parse_args(arguments)
    if asked.version:
        return _print_version()
    if asked.command is None:
        parser.print_help()
        return EXIT_BAD_INPUT
    return _COMMANDS[asked.command](asked)


def _print_version() -> int:
    from importlib_metadata import version  # noqa: PLC0415 - slow to import, as all below

    sys.stdout.write(f"stratagem {version('stratagem')}\n")
    return 0


def _map(asked: Namespace) -> int:
    from stratagem.cli.mapping import MapRequest, run_map  # noqa: PLC0415

    given = {name: value for name, value in vars(asked).items() if name not in _OF_THE_PARSER}
    return run_map(MapRequest(**given))


def _strategies(_: Namespace) -> int:
    from stratagem.cli.listings import list_strategies  # noqa: PLC0415

    return list_strategies()


def _plugins(_: Namespace) -> int:
    from stratagem.cli.listings import list_plugins  # noqa: PLC0415

    return list_plugins()


def _runs(asked: Namespace) -> int:
    from stratagem.cli.journals import describe_journal  # noqa: PLC0415

    return describe_journal(asked.journal)


def _export(asked: Namespace) -> int:
    from stratagem.cli.journals import export_journal  # noqa: PLC0415

    return export_journal(asked.journal, asked.output)


def _salvage(asked: Namespace) -> int:
    from stratagem.cli.journals import salvage_journal  # noqa: PLC0415

    return salvage_journal(asked.journal, asked.output)


_OF_THE_PARSER = {"command", "version"}
_COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "map": _map,
    "strategies": _strategies,
    "plugins": _plugins,
    "runs": _runs,
    "export": _export,
    "salvage": _salvage,
}
