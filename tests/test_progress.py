"""Check the progress display: when there is one, what it shows, and what it costs."""

import subprocess
import sys
import time
from typing import Any

import pytest

import stratagem
from stratagem import Outcome, Run, Status
from stratagem_builtin.progress import ProgressBar, stratagem_listeners

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
