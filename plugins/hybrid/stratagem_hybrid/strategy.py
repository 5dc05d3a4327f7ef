"""The strategy itself, and what makes it from a spec."""

from collections.abc import Iterable, Iterator, Mapping

import stratagem
from stratagem import ExecutionStrategy, Outcome, StreamingStrategy, TaskSource, outcomes_of
from stratagem_hybrid.junction import Junction
from stratagem_hybrid.routes import Route, calls_coroutine, has_tag

__all__ = ["HybridStrategy", "hybrid"]

LOOK_AHEAD = 64
OTHERWISE = "otherwise"
UNTIL_THEY_END = 1e6
"""Seconds, more than any grace: each route ends within the grace of its own strategy."""


class HybridStrategy(StreamingStrategy):
    """Run each task by the strategy of the first route whose rule picks it.

    All share one input, one order of outcomes, and one end: what one route raises ends the run.
    A strategy that gets no task starts nothing.

    Args:
        routes: what is asked about each task, in this order.
        otherwise: what runs the tasks that no route takes.
        look_ahead: how many tasks may wait for routes that have no room for them;
            while there are so many, nothing more is taken from the input.

    Attributes:
        routes: the routes, the last for what the others leave.

    Raises:
        ValueError: two routes have one name, or ``look_ahead`` is less than 1.
        TypeError: one of them is no route, or ``otherwise`` is no strategy.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        otherwise: ExecutionStrategy,
        *,
        look_ahead: int = LOOK_AHEAD,
    ) -> None:
        self.routes = (*routes, Route(OTHERWISE, lambda _task: True, otherwise))
        self.look_ahead = look_ahead
        if isinstance(look_ahead, bool) or not isinstance(look_ahead, int) or look_ahead < 1:
            raise ValueError(f"look_ahead must be a whole number of at least 1, not {look_ahead!r}")
        for route in self.routes:
            if not isinstance(route, Route):
                raise TypeError(f"routes must each be a Route(name, when, strategy), not {route!r}")
        self.inners = {route.name: route.strategy for route in self.routes}
        if len(self.inners) < len(self.routes):
            names = ", ".join(route.name for route in self.routes)
            raise ValueError(f"each route needs a name of its own; they are named: {names}")

    def stream(self, tasks: TaskSource) -> Iterator[Outcome]:
        """Hand tasks out to the routes, and yield outcomes as they end."""
        return outcomes_of(Junction(self.routes, tasks, self.look_ahead), UNTIL_THEY_END)


def hybrid(
    otherwise: ExecutionStrategy | str = "threads",
    *,
    coroutines: ExecutionStrategy | str | None = "asyncio",
    cpu: ExecutionStrategy | str | None = "processes",
    tags: Mapping[str, ExecutionStrategy | str] | None = None,
    look_ahead: int = LOOK_AHEAD,
) -> HybridStrategy:
    """Route tasks by their tags, coroutine functions to an event loop, and the rest to threads.

    A tag goes before what a task calls: who gives it knows best.

    Args:
        otherwise: what runs the tasks that no rule picks.
        coroutines: what runs coroutine functions; None for no such rule.
        cpu: what runs the tasks that are tagged ``cpu``; None for no such rule.
        tags: what runs the tasks that have further tags; they are asked first, in this order.
        look_ahead: how many tasks may wait for routes that have no room for them.

    Raises:
        ValueError, TypeError: an option is not what it must be.
    """
    if not isinstance(tags, Mapping | None):
        raise TypeError(
            f"tags must be a table from tags to strategies, "
            f'such as {{"gpu": "processes(max_workers=1)"}}, not {tags!r}'
        )
    routes = [Route(f"tags.{tag}", has_tag(tag), _made(given)) for tag, given in _items(tags)]
    if cpu is not None:
        routes.append(Route("cpu", has_tag("cpu"), _made(cpu)))
    if coroutines is not None:
        routes.append(Route("coroutines", calls_coroutine, _made(coroutines)))
    return HybridStrategy(routes, _made(otherwise), look_ahead=look_ahead)


def _items(
    tags: Mapping[str, ExecutionStrategy | str] | None,
) -> Iterable[tuple[str, ExecutionStrategy | str]]:
    return () if tags is None else tags.items()


def _made(given: ExecutionStrategy | str) -> ExecutionStrategy:
    return stratagem.strategy(given) if isinstance(given, str) else given
