"""Check the progress display: when there is one, what it shows, and what it costs."""

import subprocess
import sys
import time
from collections import deque
from typing import Any

import pytest

import stratagem
from stratagem import Outcome, Run, RunningTask, Snapshot, Status
from stratagem_builtin.progress import ProgressBar, View, stratagem_listeners

AT_MOST = 5e-6


def refuse_odd(number: int) -> int:
    """Fail for odd numbers."""
    if number % 2:
        raise ValueError(number)
    return number


def test_no_bar_unless_the_run_asks_for_one() -> None:
    """A library run shows nothing, and pays nothing, by default."""
    assert stratagem_listeners(Run("threads")) == []
    assert stratagem_listeners(Run("threads", progress=False)) == []


def test_a_run_inside_a_task_has_no_bar_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Only the outermost run is shown."""

    def ask_inside(item: int) -> int:
        return stratagem.map(abs, [item, item], strategy="sequential", progress=True).values[0]

    report = stratagem.map(ask_inside, [1, 2, 3], strategy="threads", progress=True)

    shown = capsys.readouterr().err
    assert report.values == [1, 2, 3]
    assert "3 done" in shown
    assert "2 done" not in shown


def test_the_last_state_stays(capsys: pytest.CaptureFixture[str]) -> None:
    """When a run is over its counts stand on stderr."""
    report = stratagem.map(refuse_odd, range(10), strategy="sequential", progress=True)

    shown = capsys.readouterr().err
    assert "refuse_odd" in shown
    assert "10 done, 5 failed" in shown
    assert "100%" in shown
    assert not report.hook_failures


def test_a_run_of_unknown_length_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a total there is a count, and no share of an unknown whole."""
    stratagem.map(refuse_odd, iter([0, 2, 4]), strategy="sequential", progress=True)

    shown = capsys.readouterr().err
    assert "3 done" in shown
    assert "%" not in shown


def test_markup_in_a_name_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    """A name is shown as it is, whatever rich would make of it."""

    def ask(item: int) -> int:
        return item

    ask.__qualname__ = "ask[red]\x1b[2J[/red]"
    stratagem.map(ask, [1], strategy="sequential", progress=True)

    shown = capsys.readouterr().err
    assert "ask[red][2J[/red]" in shown
    assert "\x1b" not in shown


def test_what_tasks_print_stays_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    """A bar on stderr does not divert stdout."""
    stratagem.map(print, ["from a task"], strategy="sequential", progress=True)

    out, err = capsys.readouterr()
    assert out == "from a task\n"
    assert "1 done" in err


def test_a_task_costs_next_to_nothing() -> None:
    """Counting an end of a task takes less than 5 us; painting is left to another thread."""
    bar = ProgressBar()
    outcome = Outcome(0, "0", "n", Status.OK)
    count = 20_000

    began = time.perf_counter()
    for _ in range(count):
        bar.stratagem_after_task(outcome)
    seconds = time.perf_counter() - began

    assert bar.done == count
    assert seconds < count * AT_MOST


@pytest.mark.parametrize("asked", [True, None])
def test_rich_is_imported_only_for_a_bar(asked: Any) -> None:
    """A program that shows no bar does not pay for rich."""
    code = (
        "import sys, stratagem\n"
        f"stratagem.map(abs, [1], strategy='sequential', progress={asked})\n"
        "print('rich' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.strip() == str(bool(asked))


def seen_of(snapshot: Snapshot, bar: ProgressBar | None = None) -> View:
    """Give the view of a run that shows ``snapshot``, looked at."""
    run = Run("threads")
    run._look = lambda: snapshot
    view = View(run, bar or ProgressBar())
    view.look(100.0)
    return view


def test_nested_work_is_shown() -> None:
    """What runs below the tasks of the run is counted, as deep as it goes."""
    task = RunningTask("k", "n", 1.0)
    leaf = Snapshot("c", running=(task, task))
    view = seen_of(Snapshot("a", nested=(Snapshot("b", running=(task,), nested=(leaf,)),)))

    assert view.below() == "3 nested running"
    assert seen_of(Snapshot("a")).below() == ""


def test_the_rest_counts_down_between_looks() -> None:
    """The last estimate is shown less what has passed since, and never below nothing."""
    bar = ProgressBar(durations=deque([10.0] * 5))
    running = (RunningTask("k", "n", 4.0),) * 2
    view = seen_of(Snapshot("a", total=6, running=running, counts={Status.OK: 4}), bar)

    assert [view.left(now) for now in (100.0, 102.0, 200.0)] == ["0:00:06", "0:00:04", "0:00:00"]


def test_the_rate_has_to_do_where_nobody_tells_what_runs() -> None:
    """A strategy that does not tell leaves the mean of what was done."""
    view = seen_of(Snapshot("a", total=30, taken=1, counts={Status.OK: 10}, seconds=3600.0))

    assert view.left(100.0) == "2:00:00"


@pytest.mark.parametrize(
    "snapshot", [Snapshot("a"), Snapshot("a", total=5), Snapshot("a", total=5, stopped="closed")]
)
def test_what_is_unknown_is_shown_as_such(snapshot: Snapshot) -> None:
    """No total, nothing done, or a run that is being stopped: there is no estimate."""
    assert seen_of(snapshot).left(100.0) == "-:--:--"


def test_an_interruption_is_explained() -> None:
    """What is waited for, how long at the most, and what one can do."""
    running = (RunningTask("k", "n", 4.0),) * 3
    stopped = Snapshot("a", running=running, stopped="interrupted", grace=5.0)

    assert seen_of(stopped).notice() == "interrupted, 3 in flight, waiting up to 5 s; again to kill"
    assert (
        seen_of(Snapshot("a", stopped="interrupted")).notice() == "interrupted, nothing in flight"
    )
    assert seen_of(Snapshot("a", stopped="closed")).notice() == ""
