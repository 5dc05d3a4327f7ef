"""Progress of a run on stderr: a hook plugin like any other.

A task costs it two additions: the display reads the counters when it paints itself.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import attrs

from stratagem import Outcome, Run, hookimpl

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["ProgressBar", "stratagem_listeners"]

REFRESH_HERTZ = 10


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
    _shown: "Progress | None" = None

    def stratagem_before_run(self, run: Run) -> None:
        """Begin to show."""
        self._shown = _display(self, run)
        self._shown.start()

    def stratagem_after_task(self, outcome: Outcome) -> None:
        """Count."""
        self.done += 1
        if outcome.error is not None:
            self.failed += 1

    def stratagem_after_run(self) -> None:
        """Paint the last state, and leave it there."""
        if self._shown is not None:
            self._shown.stop()


def _display(bar: ProgressBar, run: Run) -> "Progress":
    from rich import progress  # noqa: PLC0415 - imported only when a bar is shown
    from rich.console import Console  # noqa: PLC0415

    class _Display(progress.Progress):
        def get_renderables(self) -> Iterable[Any]:
            for task in self.tasks:
                self.update(
                    task.id, completed=bar.done, counts=_counts(bar), rate=_rate(task.speed)
                )
            yield from super().get_renderables()

    columns: list[progress.ProgressColumn] = [
        progress.SpinnerColumn(finished_text=" "),
        progress.TextColumn("{task.description}", markup=False),
    ]
    if run.total is not None:
        columns += [progress.BarColumn(), progress.TaskProgressColumn()]
    columns += [
        progress.TextColumn("{task.fields[counts]}", markup=False),
        progress.TextColumn("{task.fields[rate]}", markup=False, style="cyan"),
        progress.TimeElapsedColumn(),
    ]
    if run.total is not None:
        columns += [progress.TextColumn("eta"), progress.TimeRemainingColumn()]
    display = _Display(*columns, console=Console(stderr=True), refresh_per_second=REFRESH_HERTZ)
    display.add_task(_name(run), total=run.total, counts=_counts(bar), rate="")
    return display


def _name(run: Run) -> str:
    return "".join(c for c in run.name or run.strategy if c.isprintable())


def _counts(bar: ProgressBar) -> str:
    return f"{bar.done} done" + f", {bar.failed} failed" * bool(bar.failed)


def _rate(speed: float | None) -> str:
    if not speed:
        return ""
    return f"{speed:.1f}/s" if speed >= 1 else f"{speed * 60:.1f}/min"
