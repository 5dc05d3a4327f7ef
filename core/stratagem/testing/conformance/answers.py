"""What the parts of the suite read answers with."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from stratagem.source import Feed
from stratagem.strategy import ExecutionStrategy
from stratagem.task import Outcome, Task

__all__ = ["answers", "fed", "read", "statuses", "type_name"]

NO_TIMEOUTS: Mapping[int, float] = {}


def fed(calls: Sequence[Callable[[], Any]], timeouts: Mapping[int, float] = NO_TIMEOUTS) -> Feed:
    """Give a source of calls, each a task of its own.

    Args:
        calls: what to run.
        timeouts: the seconds that single tasks have, by index.
    """
    feed = Feed()
    for index, call in enumerate(calls):
        feed.put(Task(index, str(index), f"call {index}", call, timeouts.get(index)))
    return feed


def read(outcomes: Iterable[Outcome], feed: Feed) -> Iterator[Outcome]:
    """Give each outcome, once its task is settled.

    Raises:
        LookupError: the strategy answered twice, or for a task that it was not given.
    """
    for outcome in outcomes:
        feed.settle(feed.task(outcome))
        yield outcome


def answers(
    strategy: ExecutionStrategy,
    calls: Sequence[Callable[[], Any]],
    timeouts: Mapping[int, float] = NO_TIMEOUTS,
) -> list[Outcome]:
    """Run calls by the strategy alone, and give its outcomes in the order of the calls.

    No engine stands between, so what the strategy gets wrong is seen.
    """
    feed = fed(calls, timeouts)
    return sorted(read(strategy.stream(feed), feed), key=lambda outcome: outcome.index)


def statuses(outcomes: Sequence[Outcome]) -> list[str]:
    """Give the statuses as plain words, which read well when they differ."""
    return [outcome.status.value for outcome in outcomes]


def type_name(outcome: Outcome) -> str:
    """Name the type of an error, also of one that came as a description."""
    named: str = getattr(outcome.error, "type_name", type(outcome.error).__name__)
    return named.rpartition(".")[2]
