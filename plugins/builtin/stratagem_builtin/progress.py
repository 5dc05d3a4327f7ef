"""Progress of a run on stderr: a hook plugin like any other.

A task costs it two additions: the display reads the counters when it paints itself.
"""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import attrs

from stratagem import Outcome, Report, Run, hookimpl

if TYPE_CHECKING:
    from rich import progress

__all__ = ["ProgressBar", "stratagem_listeners"]

REFRESH_HERTZ = 10
NAME_CHARACTERS = 24


@hookimpl
def stratagem_listeners(run: Run) -> Iterable[object]:
    """Offer a bar for a run that asks for progress and was not started by a task."""
    return [ProgressBar()] if run.progress and run.parent is None else []


@attrs.define(eq=False)
class ProgressBar:
    """Count what ended, and show it while the run lasts.

    Attributes:
        done: how many tasks ended.
        failed: how many of them not well.
    """

    done: int = 0
    failed: int = 0
    _shown: "progress.Progress | None" = None

    def stratagem_before_run(self, run: Run) -> None:
        """Begin to show."""
        self._shown = _display(self, run)
        self._shown.start()

    def stratagem_after_task(self, outcome: Outcome) -> None:
        """Count."""
        self.done += 1
        if outcome.error is not None:
            self.failed += 1

    def stratagem_after_run(self, report: Report) -> None:
        """Paint the last state, and leave it there."""
        if self._shown is None:
            return
        if not report.partial:
            for task in self._shown.tasks:
                self._shown.update(task.id, total=self.done)
        self._shown.stop()


def _display(bar: ProgressBar, run: Run) -> "progress.Progress":
    from rich import progress  # noqa: PLC0415 - imported only when a bar is shown
    from rich.console import Console  # noqa: PLC0415

    class _Display(progress.Progress):
        def get_renderables(self) -> Iterable[Any]:
            for task in self.tasks:
                self.update(
                    task.id, completed=bar.done, counts=_counts(bar), rate=_rate(task.speed)
                )
            yield from super().get_renderables()

    display = _Display(
        *_columns(has_end=run.total is not None),
        console=Console(stderr=True),
        refresh_per_second=REFRESH_HERTZ,
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
        expand=run.total is not None,
    )
    display.add_task(_name(run), total=run.total, counts=_counts(bar), rate="")
    return display


def _columns(*, has_end: bool) -> list["progress.ProgressColumn"]:
    """Choose what is shown; where there is little room the bar is what shrinks."""
    from rich import progress  # noqa: PLC0415
    from rich.table import Column  # noqa: PLC0415

    def text(template: str, style: str = "none") -> progress.ProgressColumn:
        return progress.TextColumn(template, markup=False, style=style)

    start = [progress.SpinnerColumn(finished_text=" "), text("{task.description}")]
    bar = [progress.BarColumn(bar_width=None), progress.TaskProgressColumn()]
    counts = [text("{task.fields[counts]}"), text("{task.fields[rate]}", "cyan")]
    elapsed = [progress.TimeElapsedColumn(table_column=Column(no_wrap=True))]
    left = [text("eta"), progress.TimeRemainingColumn(table_column=Column(no_wrap=True))]
    return [*start, *bar, *counts, *elapsed, *left] if has_end else [*start, *counts, *elapsed]


def _name(run: Run) -> str:
    shown = "".join(c for c in run.name or run.strategy if c.isprintable())
    shown = shown.rpartition("<locals>.")[2]
    return shown if len(shown) <= NAME_CHARACTERS else f"{shown[:NAME_CHARACTERS]}..."


def _counts(bar: ProgressBar) -> str:
    return f"{bar.done} done" + f", {bar.failed} failed" * bool(bar.failed)


def _rate(speed: float | None) -> str:
    if not speed:
        return ""
    return f"{speed:.1f}/s" if speed >= 1 else f"{speed * 60:.1f}/min"
