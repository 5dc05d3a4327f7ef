"""The rounds of a contest: its contenders in turn, A B A B, each in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.contest import Contest, Figures, Row, judge

__all__ = ["ContenderError", "run_alone", "run_contest"]

ROOT = Path(__file__).resolve().parents[1]
GRACE = 5.0


class ContenderError(Exception):
    """A contender gave no figures.

    Attributes:
        printed: the last of what it had to say.
    """

    def __init__(self, why: str, printed: str = "") -> None:
        super().__init__(why)
        self.printed = printed[-2000:]


def run_alone(contest: Contest, contender: str, size: int) -> Figures:
    """Run one contender in a process of its own and give its figures.

    Raises:
        ContenderError: a library that it needs is missing, it failed, or it did not end in time.
    """
    command = [sys.executable, "-m", "benchmarks.alone", contest.name, contender, str(size)]
    with _started(command) as process:
        try:
            printed, complaints = process.communicate(timeout=contest.patience)
        except subprocess.TimeoutExpired:
            raise ContenderError(f"did not end within {contest.patience:g} s") from None
    if process.returncode != 0:
        why = _last_line(complaints) or f"exit code {process.returncode}"
        raise ContenderError(why, complaints)
    figures: Figures = json.loads(_last_line(printed))
    return figures


def run_contest(
    contest: Contest,
    *,
    rounds: int,
    size: int,
    run: Callable[[Contest, str, int], Figures] = run_alone,
) -> list[Row]:
    """Run every contender in each round and judge their medians.

    One that fails is out of the rounds that follow, and its row says why.

    Args:
        contest: the contest.
        rounds: how often each contender runs.
        size: how much work it does.
        run: runs one contender once; by default in a process of its own.
    """
    taken: dict[str, list[Figures]] = {name: [] for name in contest.contenders}
    problems: dict[str, str] = {}
    for _ in range(rounds):
        for name in contest.contenders:
            if name in problems:
                continue
            try:
                taken[name].append(run(contest, name, size))
            except ContenderError as error:
                problems[name] = str(error)
                print(f"{contest.name}, {name}: {error}\n{error.printed}", file=sys.stderr)
    return judge(contest, size, taken, problems)


@contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Start a process in a group of its own, which is ended with it if it is left early."""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        except BaseException:
            _end(process)
            raise


def _end(process: subprocess.Popen[str]) -> None:
    """Interrupt a process, so that it clears up after itself; kill what is left of its group."""
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=GRACE)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    """Let modules be compiled once, as those of installed packages are, whatever is set here."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""
