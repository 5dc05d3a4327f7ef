"""The rows of contests as tables: of plain text, and of the page of the documentation."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.contest import Contest, Row
from benchmarks.machine import Machine

__all__ = ["Found", "PageError", "markdown", "plain", "read_page", "with_tables"]

BEGIN = "<!-- tables: from here to the end of them, `python -m benchmarks --markdown` writes -->"
END = "<!-- tables: end -->"
Found = Sequence[tuple[Contest, Sequence[Row]]]
"""The contests that were run, with their rows."""


class PageError(Exception):
    """A page has no place for the tables; the message says how it gets one."""


def plain(contest: Contest, rows: Sequence[Row]) -> str:
    """Show one contest on a terminal."""
    cells = [_header(contest, rows), *(_cells(rows, row) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            [line[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(line[1:-1], widths[1:-1], strict=True)]
            + [line[-1]]
        ).rstrip()
        for line in cells
    ]
    return "\n".join([f"{contest.name}: {contest.work}", _asked(contest, rows), *lines])


def markdown(found: Found, machine: Machine, command: str) -> str:
    """Show all contests as the tables of a page.

    Args:
        found: the contests and their rows.
        machine: where they ran.
        command: what was typed to run them.
    """
    parts = [f"Measured by `{command}`:", f"{machine}."]
    for contest, rows in found:
        header = _header(contest, rows)
        rule = ["---", *["---:"] * (len(header) - 2), "---"]
        body = [_cells(rows, row) for row in rows]
        table = "\n".join(_line(cells) for cells in [header, rule, *body])
        parts += [f"### {contest.name}", f"{contest.work} {_asked(contest, rows)}", table]
    return "\n\n".join(parts)


def read_page(page: Path) -> str:
    """Give the text of a page that has a place for the tables; a new one is that place alone.

    Raises:
        PageError: it has none.
    """
    if not page.exists():
        return f"{BEGIN}\n{END}\n"
    text = page.read_text(encoding="utf-8")
    if not text.partition(BEGIN)[2].partition(END)[1]:
        raise PageError(
            f"{page} has no place for the tables; put these two lines where they are to stand, "
            f"or name a file that is not there yet:\n{BEGIN}\n{END}"
        )
    return text


def with_tables(text: str, tables: str) -> str:
    """Give the text of a page with other tables in their place."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{begin}\n\n{tables}\n\n{end}{after}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _asked(contest: Contest, rows: Sequence[Row]) -> str:
    marks = "; ".join(mark.words for mark in contest.marks)
    return f"Size {rows[0].size:,}. Mark: {marks}."


def _figures(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.figures))


def _rivals(contest: Contest) -> list[str]:
    return [f"/ {mark.against}" for mark in contest.marks if mark.against is not None]


def _header(contest: Contest, rows: Sequence[Row]) -> list[str]:
    return ["contender", *_figures(rows), *_rivals(contest), "mark"]


def _cells(rows: Sequence[Row], row: Row) -> list[str]:
    return [
        row.contender,
        *(_number(row.figures.get(name)) for name in _figures(rows)),
        *(_number(score.value) for score in row.scores if score.mark.against is not None),
        _verdict(row),
    ]


def _verdict(row: Row) -> str:
    if row.problem is not None:
        return row.problem
    missed = [score.mark.figure for score in row.scores if score.met is False]
    if missed:
        return f"MISSED: {', '.join(missed)}"
    return "met" if any(score.met for score in row.scores) else ""


def _number(value: float | None) -> str:
    """Write a number as finely as it is worth reading."""
    if value is None:
        return ""
    if isinstance(value, int) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
