"""The limit of a schedule that does not know run times, and the wall time over it."""

import heapq
from collections.abc import Callable, Sequence

from benchmarks.contest import Figures
from benchmarks.measure import seconds_of

WARM = 0.02


def greedy_bound(durations: Sequence[float], workers: int) -> float:
    """Give the wall time of the in-order greedy schedule: each task to who is free first."""
    free = [0.0] * workers
    for seconds in durations:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free)


def over_bound(
    durations: list[float], workers: int, run: Callable[[list[float]], object]
) -> Figures:
    """Time ``run`` over the durations, every worker warmed up, beside the bound."""
    run([WARM] * 4 * workers)
    seconds = seconds_of(lambda: run(durations))
    bound = greedy_bound(durations, workers)
    return {"seconds": seconds, "bound": bound, "over the bound": seconds / bound}
