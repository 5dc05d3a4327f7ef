"""One contest: contenders that do the same work, each run in a process of its own, in turn."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping

import attrs

Figures = dict[str, float]
Contender = Callable[[int], Figures]


@attrs.frozen
class Contest:
    """Hold contenders for one piece of work.

    Attributes:
        name: what ``--only`` takes.
        unit: what ``value`` of the figures is in.
        size: how many tasks; ``quick`` for a short run.
        quick: the size of a short run.
        contenders: by name; ours first. Each takes the size and gives its figures.
        mark: the bound, in words.
        against: the contender that the ratio is to; None to compare with ``bound``.
        at_most: the greatest ratio of ours that meets the mark.
    """

    name: str
    unit: str
    size: int
    quick: int
    contenders: Mapping[str, Contender]
    mark: str
    against: str | None = None
    at_most: float = 1.0


@attrs.frozen
class Row:
    """Hold the medians of one contender."""

    contest: str
    contender: str
    unit: str
    figures: Figures
    ratio: float | None
    mark: str
    met: bool | None


def run_contest(contest: Contest, *, rounds: int, quick: bool) -> list[Row]:
    """Run the contenders in turn, A B A B, and give the median of each."""
    size = contest.quick if quick else contest.size
    taken: dict[str, list[Figures]] = {name: [] for name in contest.contenders}
    for _ in range(rounds):
        for name, figures in taken.items():
            figures.append(_run_alone(contest.name, name, size))
    medians = {name: _medians(figures) for name, figures in taken.items()}
    return [_row(contest, name, medians) for name in medians]


def _run_alone(contest: str, contender: str, size: int) -> Figures:
    command = [sys.executable, "-m", "benchmarks.alone", contest, contender, str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        raise RuntimeError(f"{contest} {contender} failed:\n{done.stderr[-2000:]}")
    figures: Figures = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def _medians(figures: list[Figures]) -> Figures:
    return {key: statistics.median(one[key] for one in figures) for key in figures[0]}


def _row(contest: Contest, name: str, medians: dict[str, Figures]) -> Row:
    ours = next(iter(contest.contenders))
    value = medians[name]["value"]
    ratio: float | None = None
    if contest.against is not None:
        ratio = value / medians[contest.against]["value"]
    elif "bound" in medians[name]:
        ratio = value / medians[name]["bound"]
    is_ours = name == ours or name.startswith("stratagem")
    met = None if ratio is None or not is_ours else ratio <= contest.at_most
    return Row(contest.name, name, contest.unit, medians[name], ratio, contest.mark, met)
