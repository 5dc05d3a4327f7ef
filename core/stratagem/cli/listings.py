"""``stratagem strategies`` and ``stratagem plugins``: tables for people, tabs for programs."""

import os
import sys
from collections.abc import Iterator, Sequence

from stratagem.cli.engines import open_engine
from stratagem.cli.messages import EXIT_BROKEN_PIPE, printable, say
from stratagem.plugins import PluginState, StrategyInfo

__all__ = ["list_plugins", "list_strategies"]

_CAPABILITIES = {
    "enforces_timeouts": "timeouts",
    "can_kill": "kill",
    "isolates_crashes": "survive crashes",
    "distributed": "other machines",
}


def list_strategies() -> int:
    """Print every strategy that is installed; give the exit code."""
    with open_engine(quiet=True) as engine:
        rows = [
            (
                offer.info.name,
                offer.distribution,
                offer.info.summary,
                _capabilities(offer.info),
            )
            for offer in engine.plugins.offers()
        ]
        failed = [row.name for row in engine.plugins.rows if row.state is PluginState.FAILED]
    code = _print_table(("strategy", "distribution", "summary", "can"), rows)
    if failed:
        say(f"not loaded: {', '.join(failed)}; `stratagem plugins` says why")
    return code


def list_plugins() -> int:
    """Print every plugin that is installed, and what became of it; give the exit code."""
    with open_engine(quiet=True) as engine:
        rows = [
            (row.name, row.distribution, row.version, row.state.value, row.why)
            for row in engine.plugins.rows
        ]
    return _print_table(("plugin", "distribution", "version", "state", "why"), rows)


def _capabilities(info: StrategyInfo) -> str:
    return ", ".join(word for name, word in _CAPABILITIES.items() if info.can(name))


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    try:
        if sys.stdout.isatty():
            _print_for_people(header, rows)
        else:
            for line in _tabbed(header, rows):
                sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing is left to fail at exit
        return EXIT_BROKEN_PIPE
    return 0


def _tabbed(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in (header, *rows):
        yield "\t".join(printable(cell) for cell in row)


def _print_for_people(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box  # noqa: PLC0415 - only for a terminal
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in header:
        table.add_column(column, overflow="fold", no_wrap=column == header[0])
    for row in rows:
        table.add_row(*(Text(printable(cell), _STYLES.get(cell, "")) for cell in row))
    Console().print(table)


_STYLES = {"loaded": "green", "failed": "bold red", "blocked": "yellow", "skipped": "yellow"}
