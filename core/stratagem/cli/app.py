"""The commands and their options, as typer reads them; what they do is elsewhere."""

import sys
from enum import StrEnum
from typing import Annotated, Any

import importlib_metadata
import typer

from stratagem.cli.inputs import Format
from stratagem.cli.journals import describe_journal, export_journal, salvage_journal
from stratagem.cli.listings import list_plugins, list_strategies
from stratagem.cli.mapping import MapRequest, run_map
from stratagem.cli.messages import EXIT_INTERRUPTED, CommandError, say

__all__ = ["app", "run_app"]

app = typer.Typer(
    name="stratagem",
    help="Run batches of agent tasks under an execution strategy chosen by one word.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run_app() -> None:
    """Run the command that was asked for, and exit with its code."""
    try:
        app(prog_name="stratagem")
    except CommandError as error:
        say(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


class Level(StrEnum):
    """Name how much the lifecycle log tells."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _print_version(asked: bool) -> None:  # noqa: FBT001 - typer calls it so
    if asked:
        typer.echo(f"stratagem {importlib_metadata.version('stratagem')}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None: ...


@app.command("map")
def _map(
    *,
    function: Annotated[
        str,
        typer.Argument(
            metavar="FUNCTION",
            show_default=False,
            help="What to call with each item: `module:name` or `path.py:name`.",
        ),
    ],
    input: Annotated[  # noqa: A002 - the word for it
        str,
        typer.Argument(
            metavar="INPUT",
            show_default=False,
            help="A .jsonl, .ndjson or .csv file, any other file for lines of text, "
            "or - for stdin (JSONL).",
        ),
    ],
    strategy: Annotated[
        str | None,
        typer.Option(
            "-s",
            "--strategy",
            metavar="SPEC",
            help="The strategy, by name or with options; `stratagem strategies` lists them.",
            show_default="as configured, else threads",
        ),
    ] = None,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="Where to, replacing a file.")
    ] = "-",
    format: Annotated[  # noqa: A002 - the word for it
        Format | None,
        typer.Option(help="What INPUT is.", show_default="by its suffix"),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD", help="Take the key of each task from this field.", show_default="index"
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", help="Give every task this tag; may be given again."),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="How long one attempt of a task may run."),
    ] = None,
    max_errors: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Stop when so many tasks have failed.")
    ] = None,
    stop_on_auth: Annotated[
        bool,
        typer.Option(
            "--stop-on-auth", help="Stop at the first HTTP status 401 or 403: the key is wrong."
        ),
    ] = False,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Read the first N items only.")
    ] = None,
    journal: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Keep every outcome in this file, which must hold no run yet."
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run in the journal: only what is open runs."),
    ] = False,
    unordered: Annotated[
        bool, typer.Option("--unordered", help="Write lines as tasks end, not in input order.")
    ] = False,
    progress: Annotated[
        bool | None,
        typer.Option(help="Show progress on stderr.", show_default="when it is a terminal"),
    ] = None,
    log: Annotated[Level | None, typer.Option(help="Log the life of run and tasks.")] = None,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="No progress and no summary on stderr.")
    ] = False,
) -> None:
    """Call FUNCTION with each item of INPUT; write one JSON object a line for each outcome.

    Exit code: 0 all well, 1 some tasks failed, 2 bad usage or input,
    65 the journal is refused, 74 it cannot be written, 75 another run writes it,
    130 interrupted with everything done until then written.
    """
    given: dict[str, Any] = dict(locals())
    _exit(run_map(MapRequest(**given)))


@app.command("strategies")
def _strategies() -> None:
    """List the strategies that are installed, and what they can do."""
    _exit(list_strategies())


@app.command("plugins")
def _plugins() -> None:
    """List the plugins that are installed, which failed, and why."""
    _exit(list_plugins())


@app.command("runs")
def _runs(
    journal: Annotated[str, typer.Argument(metavar="FILE", help="A journal.", show_default=False)],
) -> None:
    """Say what a journal holds: counts, errors by cause, what is slow, what is in doubt."""
    _exit(describe_journal(journal))


@app.command("export")
def _export(
    journal: Annotated[str, typer.Argument(metavar="FILE", help="A journal.", show_default=False)],
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="Where to, replacing a file.")
    ] = "-",
) -> None:
    """Write one JSON object a line for each outcome in a journal, as `map` does."""
    _exit(export_journal(journal, output))


@app.command("salvage")
def _salvage(
    journal: Annotated[
        str, typer.Argument(metavar="FILE", help="A damaged journal.", show_default=False)
    ],
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="FILE", help="The new journal.", show_default=False),
    ],
) -> None:
    """Copy what is whole of a damaged journal into a new one, and say what is lost."""
    _exit(salvage_journal(journal, output))


def _exit(code: int) -> None:
    raise typer.Exit(code)
