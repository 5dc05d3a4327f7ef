"""Progress of a run on stderr: a hook plugin like any other.

A task costs it two additions and a note: the display reads them when it paints itself,
and looks at the whole run a few times a second.
"""

import sys
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import attrs

from stratagem import Outcome, Report, Run, Snapshot, hookimpl
from stratagem.snapshot import stopping
from stratagem_builtin.estimate import seconds_left

if TYPE_CHECKING:
    from rich import progress

__all__ = ["ProgressBar", "stratagem_listeners"]

REFRESH_HERTZ = 10
LOOK_SECONDS = 0.25
SAMPLE = 500
"""How many durations of the last tasks the estimate goes by."""
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
        durations: how long the last ones took.
    """

    done: int = 0
    failed: int = 0
    durations: deque[float] = attrs.field(factory=lambda: deque(maxlen=SAMPLE))
    _shown: "progress.Progress | None" = None
    _view: "View | None" = None

    def stratagem_before_run(self, run: Run) -> None:
        """Begin to show."""
        self._view = View(run, self)
        self._shown = _display(self._view)
        self._shown.start()

    def stratagem_after_task(self, outcome: Outcome) -> None:
        """Count."""
        self.done += 1
        self.durations.append(outcome.seconds)
        if outcome.error is not None:
            self.failed += 1

    def stratagem_after_run(self, report: Report) -> None:
        """Paint the last state, and leave it there."""
        if self._shown is None or self._view is None:
            return
        self._view.look_again()
        if not report.partial:
            for task in self._shown.tasks:
                self._shown.update(task.id, total=self.done)
        self._shown.stop()


@attrs.define(eq=False)
class View:
    """Be what a display shows of a run beside the counts: nested work, the rest of time, a stop.

    Attributes:
        run: the run.
        bar: what counts it.
    """

    run: Run
    bar: ProgressBar
    _slots: int = 1
    _looked_at: float = float("-inf")
    _snapshot: Snapshot | None = None
    _left: float | None = None

    def look(self, now: float) -> None:
        """Look at the run, unless that was done a moment ago."""
        if now - self._looked_at >= LOOK_SECONDS:
            snapshot = self._snapshot = self.run.snapshot()
            self._looked_at = now
            self._slots = max(self._slots, len(snapshot.running))
            self._left = self._estimate(snapshot)

    def look_again(self) -> None:
        """Look at the run when it is shown next, since it is over."""
        self._looked_at = float("-inf")

    def _estimate(self, snapshot: Snapshot) -> float | None:
        if snapshot.waiting is None or snapshot.stopped is not None:
            return None
        waiting = snapshot.waiting + snapshot.taken
        ages = [task.seconds for task in snapshot.running]
        if not ages and snapshot.done:  # nobody tells what runs, so the rate has to do
            return waiting * snapshot.seconds / snapshot.done
        return seconds_left(waiting, ages, list(self.bar.durations), self._slots)

    def left(self, now: float) -> str:
        """Say how long it will still take: the last estimate, less what has passed since."""
        if self._left is None:
            return "-:--:--"
        seconds = round(max(0.0, self._left - (now - self._looked_at)))
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"

    def below(self) -> str:
        """Say how many tasks run in nested runs; ``""`` for none."""
        if self._snapshot is None:
            return ""
        count = sum(len(child.running) for child in self._snapshot.descendants)
        return f"{count} nested running" * bool(count)

    def notice(self) -> str:
        """Say that the run was interrupted and what it still waits for; ``""`` otherwise."""
        if self._snapshot is None or self._snapshot.stopped != "interrupted":
            return ""
        return stopping(self._snapshot, "interrupted")


def _display(view: View) -> "progress.Progress":
    from rich import progress  # noqa: PLC0415 - imported only when a bar is shown
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    run, bar = view.run, view.bar

    class _Display(progress.Progress):
        def get_renderables(self) -> Iterable[Any]:
            now = time.monotonic()
            view.look(now)
            for task in self.tasks:
                self.update(
                    task.id,
                    completed=bar.done,
                    counts=_counts(bar),
                    nested=view.below(),
                    rate=_rate(task.speed),
                    left=view.left(now),
                )
            yield from super().get_renderables()
            if notice := view.notice():
                yield Text(notice)

    display = _Display(
        *_columns(has_end=run.total is not None),
        console=Console(stderr=True),
        refresh_per_second=REFRESH_HERTZ,
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
        expand=run.total is not None,
    )
    display.add_task(_name(run), total=run.total, counts=_counts(bar), rate="", nested="", left="")
    return display


def _columns(*, has_end: bool) -> list["progress.ProgressColumn"]:
    """Choose what is shown; where there is little room the bar is what shrinks."""
    from rich import progress  # noqa: PLC0415
    from rich.table import Column  # noqa: PLC0415

    def text(template: str, style: str = "none") -> progress.ProgressColumn:
        return progress.TextColumn(template, markup=False, style=style)

    start = [progress.SpinnerColumn(finished_text=" "), text("{task.description}")]
    bar = [progress.BarColumn(bar_width=None), progress.TaskProgressColumn()]
    counts = [text("{task.fields[counts]}"), text("{task.fields[nested]}", "magenta")]
    counts.append(text("{task.fields[rate]}", "cyan"))
    elapsed = [progress.TimeElapsedColumn(table_column=Column(no_wrap=True))]
    left = [text("eta {task.fields[left]}", "cyan")]
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
