"""A contest: contenders that do the same work, and the marks that ours are to meet."""

import statistics
from collections.abc import Callable, Mapping, Sequence

import attrs

Figures = dict[str, float]
Contender = Callable[[int], Figures]


@attrs.frozen
class Mark:
    """Bound one figure of ours.

    Attributes:
        figure: its name.
        at_most: the greatest value that meets the mark.
        against: the contender whose figure it is divided by; None to take it as it is.
    """

    figure: str
    at_most: float
    against: str | None = None

    @property
    def words(self) -> str:
        """Say what is asked for."""
        rival = "" if self.against is None else f" of {self.against}"
        return f"{self.figure}: at most {self.at_most:g}{rival}"

    def value(self, contender: str, medians: Mapping[str, Figures]) -> float | None:
        """Give what is held against the mark; None where a figure that it takes is not there."""
        figure = medians.get(contender, {}).get(self.figure)
        if figure is None or self.against is None:
            return figure
        rival = medians.get(self.against, {}).get(self.figure)
        return figure / rival if rival else None


@attrs.frozen
class Contest:
    """Hold contenders for one piece of work.

    Attributes:
        name: what ``--only`` takes.
        work: what the contenders do, in a sentence.
        size: how much of it; mostly how many tasks.
        quick: the size of a short run.
        contenders: by name, those of ours begin with ``stratagem``. Each takes the size and gives
            its figures, which are named with their units; less is better.
        marks: what ours are to meet.
        patience: the seconds after which a contender is ended.
    """

    name: str
    work: str
    size: int
    quick: int
    contenders: Mapping[str, Contender]
    marks: Sequence[Mark] = ()
    patience: float = 300.0


@attrs.frozen
class Score:
    """Hold what a contender has against a mark; only ours meet it or miss it."""

    mark: Mark
    value: float | None
    met: bool | None


@attrs.frozen
class Row:
    """Hold what a contender came to.

    Attributes:
        contest: the name of the contest.
        contender: its own.
        size: how much work it did.
        figures: the medians of all rounds.
        scores: one for each mark.
        rounds: the figures of each round.
        problem: why there are no figures; None where there are.
    """

    contest: str
    contender: str
    size: int
    figures: Figures
    scores: Sequence[Score]
    rounds: Sequence[Figures]
    problem: str | None = None


def is_ours(contender: str) -> bool:
    """Tell whether the marks hold for a contender."""
    return contender.startswith("stratagem")


def judge(
    contest: Contest,
    size: int,
    taken: Mapping[str, Sequence[Figures]],
    problems: Mapping[str, str],
) -> list[Row]:
    """Make a row for each contender of the figures of its rounds, or of its problem."""
    medians = {
        name: _medians(rounds) for name, rounds in taken.items() if rounds and name not in problems
    }
    return [
        Row(
            contest.name,
            name,
            size,
            medians.get(name, {}),
            [_score(mark, name, medians) for mark in contest.marks],
            taken.get(name, ()),
            problems.get(name),
        )
        for name in contest.contenders
    ]


def _medians(rounds: Sequence[Figures]) -> Figures:
    return {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}


def _score(mark: Mark, contender: str, medians: Mapping[str, Figures]) -> Score:
    value = mark.value(contender, medians)
    met = value <= mark.at_most if value is not None and is_ours(contender) else None
    return Score(mark, value, met)
